"""The quality of a model on labelled pictures: leave-one-out retrieval, and verdicts on random pairs."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from retrieval.common.metrics import average_precision, precision_at
from retrieval.common.settings import POOL
from retrieval.datasets.pair_sampling import Codes, random_pairs, require_pairs
from retrieval.evaluation.verdicts import Confusions, PairMetrics, find_confusions, pair_metrics, squared_separations
from retrieval.model.head import Array, Head


@dataclass(frozen=True)
class RankingMetrics:
    """Means over all queries that have another picture of their class."""

    p_at_1: float
    p_at_5: float
    p_at_10: float
    map_at_100: float


RANKING_METRIC_TITLES = (("p_at_1", "P@1"), ("p_at_5", "P@5"), ("p_at_10", "P@10"), ("map_at_100", "mAP@100"))
"""The fields of `RankingMetrics` with their titles."""


@dataclass(frozen=True)
class Evaluation:
    """The figures of a model: `index` ranks by the cosine of descriptors, `rescored` by the head over the same pool."""

    pictures: int
    classes: int
    queries: int
    index: RankingMetrics
    rescored: RankingMetrics
    pairs: PairMetrics
    confusions: Confusions


def evaluate_head(
    head: Head, descriptors: Array, labels: Sequence[str], pool: int = POOL, seed: int = 0, pairs: int | None = None
) -> Evaluation:
    """Evaluate a head on descriptors (N, C) with labels (N,).

    `pairs` similar and as many different pairs are drawn; None: one of each per picture. Raises GalleryError if nothing
    can be compared or fewer pairs can be drawn.
    """
    classes, codes = np.unique(np.array(labels), return_inverse=True)
    require_pairs(codes, "the data set")
    queries = np.flatnonzero(np.bincount(codes)[codes] > 1)
    drawn = random_pairs(codes, seed, pairs)
    index, rescored = _rankings(head, descriptors, codes, queries, pool)
    return Evaluation(
        pictures=len(codes),
        classes=len(classes),
        queries=len(queries),
        index=index,
        rescored=rescored,
        pairs=pair_metrics(head, descriptors, *drawn),
        confusions=find_confusions(head, descriptors, labels),
    )


def card_metrics(result: Evaluation) -> dict[str, float]:
    """Return the figures of an evaluation that a model card keeps, by name."""
    figures = {
        "p_at_1": result.rescored.p_at_1,
        "map_at_100": result.rescored.map_at_100,
        "index_p_at_1": result.index.p_at_1,
        "index_map_at_100": result.index.map_at_100,
        "accuracy": result.pairs.accuracy,
        "roc_auc": result.pairs.roc_auc,
        "calibration_error": result.pairs.calibration_error,
    }
    return {name: round(value, 4) for name, value in figures.items()}


def _rankings(
    head: Head, descriptors: Array, codes: Codes, queries: Codes, pool: int
) -> tuple[RankingMetrics, RankingMetrics]:
    g = descriptors / np.maximum(np.linalg.norm(descriptors, axis=1, keepdims=True), 1e-12)
    pool = min(pool, len(codes) - 1)
    by_index, by_head = [], []
    for block, squares in squared_separations(head.embed(descriptors), queries):
        cosines = g[block] @ g.T
        cosines[np.arange(len(block)), block] = -np.inf
        candidates = nearest(-cosines, pool)
        order = np.argsort(np.take_along_axis(squares, candidates, axis=1), axis=1, kind="stable")
        by_index += _figures(codes, block, candidates)
        by_head += _figures(codes, block, np.take_along_axis(candidates, order, axis=1))
    return RankingMetrics(*np.mean(by_index, axis=0).tolist()), RankingMetrics(*np.mean(by_head, axis=0).tolist())


def nearest(distances: NDArray[Any], count: int) -> Codes:
    """Return the columns (B, count) of each row's smallest distances (B, N), in order; ties go to the first columns."""
    limits = np.partition(distances, count - 1, axis=1)[:, count - 1 : count]
    below, at_limit = distances < limits, distances == limits
    lacking = count - below.sum(axis=1, keepdims=True)
    places = np.nonzero(below | (at_limit & (np.cumsum(at_limit, axis=1) <= lacking)))[1].reshape(-1, count)
    order = np.argsort(np.take_along_axis(distances, places, axis=1), axis=1, kind="stable")
    return np.take_along_axis(places, order, axis=1)


def _figures(codes: Codes, queries: Codes, ranked: Codes) -> list[list[float]]:
    figures, others = [], np.bincount(codes)[codes] - 1
    for query, rows in zip(queries, ranked, strict=True):
        relevant = codes[rows] == codes[query]
        precisions = [precision_at(relevant, k) for k in (1, 5, 10)]
        figures.append([*precisions, average_precision(relevant, int(others[query]))])
    return figures
