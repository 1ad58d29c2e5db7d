"""Tune an approximate index: how far it must look for the recall that is wanted, measured on its own gallery."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from indexes.arrays import Ids, Vectors, unit
from indexes.catalogue.catalogue import Catalogue
from indexes.vectors.base import TunedIndex
from retrieval.common.progress import SILENT, Progress, WorkStage
from retrieval.common.settings import POOL, RECALL
from retrieval.model.head import Head
from retrieval.store.rescoring import rescore

_TOP = 10
_QUERIES = 100
_MIN_PROBES = 16  # fewer spare nothing, and a hundred queries cannot tell .98 from .99

_SETTING = "tuning"


def tune(
    catalogue: Catalogue,
    index: TunedIndex,
    head: Head,
    fingerprint: str,
    recall: float = RECALL,
    progress: Progress = SILENT,
) -> list[Tuning]:
    """Look into twice as many lists until the recall is reached: what was measured at each step, the last one set.

    Raises StoreError.
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
    seconds: list[float] = []
    shares: list[float] = []
    for id_, query, expected in zip(own, queries, best, strict=True):
        started = time.perf_counter()
        pool = index.search(query[None], POOL + 1)[1][0]
        seconds.append(time.perf_counter() - started)
        found = set(pool[pool != id_][:POOL].tolist())
        shares.append(len(expected & found) / max(1, len(expected)))
    milliseconds = float(np.median(seconds)) * 1000
    recall = float(np.mean(shares))
    return Tuning(index.kind, pictures, index.lists, index.probes, recall, len(own), milliseconds)


def _best_hits(
    catalogue: Catalogue, head: Head, fingerprint: str, own: Ids, queries: Vectors, stage: WorkStage
) -> list[set[int]]:
    """Of each query, the ids of the ten best hits after rescoring the exact pool; a picture is no hit of itself."""
    found: list[set[int]] = []
    for id_, query, pool in zip(own, queries, _exact_pools(catalogue, fingerprint, queries, stage), strict=True):
        ranking = rescore(catalogue, head, fingerprint, query, pool[pool != id_][:POOL])
        found.append(set(ranking.ids[:_TOP].tolist()))
    return found


def _exact_pools(catalogue: Catalogue, fingerprint: str, queries: Vectors, stage: WorkStage) -> Ids:
    """The ids (Q, POOL + 1) of the nearest by cosine, from one pass over all descriptors; nearest first."""
    units = unit(queries)
    nearest: NDArray[np.float32] = np.empty((len(queries), 0), np.float32)
    pools = np.empty((len(queries), 0), np.int64)
    for ids, vectors in catalogue.descriptors.all(fingerprint):
        nearest = np.concatenate([nearest, units @ unit(vectors).T], axis=1)
        pools = np.concatenate([pools, np.broadcast_to(ids, (len(queries), len(ids)))], axis=1)
        if nearest.shape[1] > POOL + 1:
            kept = np.argpartition(-nearest, POOL, axis=1)[:, : POOL + 1]
            nearest, pools = np.take_along_axis(nearest, kept, 1), np.take_along_axis(pools, kept, 1)
        stage.advance(len(ids))
    return np.take_along_axis(pools, np.argsort(-nearest, axis=1, kind="stable"), 1)


@dataclass(frozen=True)
class Tuning:
    """An index's kind and search parameter, and what was measured with it when the gallery had `pictures`.

    `recall` is the share of the ten best hits of an exact search (after rescoring) that the index has among the
    candidates that it hands on, over `queries` pictures of the gallery, each asked for the others. `milliseconds` is
    the median of one search. An exact index has no `recall` to measure.
    """

    kind: str
    pictures: int
    lists: int = 0
    probes: int = 0
    recall: float | None = None
    queries: int = 0
    milliseconds: float | None = None


def read_tuning(catalogue: Catalogue) -> Tuning | None:
    """What was measured last of the store's index. Raises StoreError."""
    kept = catalogue.settings.get(_SETTING)
    return Tuning(**json.loads(kept)) if kept else None


def save_tuning(catalogue: Catalogue, tuning: Tuning) -> None:
    """Keep it in the store, whose searches take its parameter from then on. Raises StoreError."""
    catalogue.settings.set(**{_SETTING: json.dumps(asdict(tuning))})
