"""Tuning of an approximate index: how many lists it must search for a given recall, measured on its own gallery."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass

import faiss
import numpy as np

from indexes.arrays import Ids, Vectors, unit
from indexes.catalogue.catalogue import Catalogue
from indexes.vectors.base import NO_ID, TunedIndex
from retrieval.common.progress import SILENT, Progress, WorkStage
from retrieval.common.settings import POOL, RECALL
from retrieval.model.head import Head
from retrieval.store.rescoring import rescore

_TOP = 10
_QUERIES = 100
_MIN_PROBES = 16  # fewer save nothing, and a hundred queries cannot distinguish .98 from .99

_SETTING = "tuning"


def tune(
    catalogue: Catalogue,
    index: TunedIndex,
    head: Head,
    fingerprint: str,
    recall: float = RECALL,
    progress: Progress = SILENT,
) -> list[Tuning]:
    """Double the lists that are searched until the recall is reached; returns the measurement of each step.

    The index keeps the last step's setting. Raises StoreError.
    """
    pictures = len(index)
    if index.is_exact:
        return [Tuning(index.kind, pictures)]
    own, queries = catalogue.descriptors.sample(fingerprint, _QUERIES)
    with progress.stage("Measuring the index", pictures) as stage:
        best = _best_hits(catalogue, head, fingerprint, own, queries, stage)
    steps: list[Tuning] = []
    for probes in _probe_steps(index.lists):
        index.probes = probes
        steps.append(_measure(index, pictures, own, queries, best))
        if (steps[-1].recall or 0) >= recall:
            break
    return steps


def _probe_steps(lists: int) -> Iterator[int]:
    probes = _MIN_PROBES
    while probes < lists:
        yield probes
        probes *= 2
    yield lists


def _measure(index: TunedIndex, pictures: int, own: Ids, queries: Vectors, best: list[set[int]]) -> Tuning:
    """Search for each query with the index as it is set; `own` are the queries' ids, `best` their exact hits."""
    seconds: list[float] = []
    shares: list[float] = []
    for id_, query, expected in zip(own, queries, best, strict=True):
        started = time.perf_counter()
        pool = index.search(query[None], POOL + 1)[1][0]
        seconds.append(time.perf_counter() - started)
        candidates = set(pool[pool != id_][:POOL].tolist())
        shares.append(len(expected & candidates) / max(1, len(expected)))
    milliseconds = float(np.median(seconds)) * 1000
    recall = float(np.mean(shares))
    return Tuning(index.kind, pictures, index.lists, index.probes, recall, len(own), milliseconds)


def _best_hits(
    catalogue: Catalogue, head: Head, fingerprint: str, own: Ids, queries: Vectors, stage: WorkStage
) -> list[set[int]]:
    """Return, for each query, the ids of the ten best hits of an exact search after rescoring, without itself."""
    best: list[set[int]] = []
    for id_, query, pool in zip(own, queries, _exact_pools(catalogue, fingerprint, queries, stage), strict=True):
        others = pool[(pool != id_) & (pool != NO_ID)][:POOL]
        best.append(set(rescore(catalogue, head, fingerprint, query, others).ids[:_TOP].tolist()))
    return best


def _exact_pools(catalogue: Catalogue, fingerprint: str, queries: Vectors, stage: WorkStage) -> Ids:
    """Return the ids (Q, POOL + 1) of the nearest by cosine, nearest first, from one pass over all descriptors."""
    units, nearest = unit(queries), faiss.ResultHeap(len(queries), POOL + 1, keep_max=True)
    for ids, vectors in catalogue.descriptors.all(fingerprint):
        cosines, rows = faiss.knn(units, unit(vectors), min(POOL + 1, len(ids)), faiss.METRIC_INNER_PRODUCT)
        nearest.add_result(cosines, ids[rows])
        stage.advance(len(ids))
    nearest.finalize()
    pools: Ids = nearest.I
    return pools


@dataclass(frozen=True)
class Tuning:
    """An index's kind and search parameter, and its measurement when the gallery had `pictures`.

    `recall` is the share of the ten best hits of an exact search (after rescoring) that are among the index's
    candidates, over `queries` pictures of the gallery, each a query for the others. `milliseconds` is the median of
    one search. An exact index has no `recall` to measure.
    """

    kind: str
    pictures: int
    lists: int = 0
    probes: int = 0
    recall: float | None = None
    queries: int = 0
    milliseconds: float | None = None


def read_tuning(catalogue: Catalogue) -> Tuning | None:
    """Return the last measurement of the store's index. Raises StoreError."""
    text = catalogue.settings.get(_SETTING)
    return Tuning(**json.loads(text)) if text else None


def save_tuning(catalogue: Catalogue, tuning: Tuning) -> None:
    """Save a measurement in the store, whose searches use its parameter from then on. Raises StoreError."""
    catalogue.settings.set(**{_SETTING: json.dumps(asdict(tuning))})
