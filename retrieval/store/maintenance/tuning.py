"""Tuning of a large store on its own gallery: what the index must search and the head rescore for a given recall."""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace

import faiss
import numpy as np

from indexes.arrays import Ids, Vectors, unit
from indexes.catalogue.catalogue import Catalogue
from indexes.vectors.base import NO_ID, TunedIndex
from retrieval.common.jsonable import from_json
from retrieval.common.progress import SILENT, Progress, WorkStage
from retrieval.common.settings import POOL, RECALL
from retrieval.model.head import Head
from retrieval.store.rescoring import BEST, rescore
from retrieval.store.similarity import StoreSimilarity

_QUERIES = 100
_MIN_PROBES = 16  # fewer save nothing, and a hundred queries cannot distinguish .98 from .99
_STRICTER = 5  # rescoring may lose a fifth of the hits that the index may lose
_MIN_STEP = 64  # the gallery's own pictures need 30 to 80, pictures of other kinds more: then 99 % of the ten best

_LOGGER = logging.getLogger(__name__)
_SETTING, _RESCORING = "tuning", "rescoring"


def tune(
    catalogue: Catalogue,
    index: TunedIndex,
    head: Head,
    fingerprint: str,
    recall: float = RECALL,
    progress: Progress = SILENT,
    probes: int = 0,
) -> list[Tuning]:
    """Double the lists that are searched until the recall is reached; returns the measurement of each step.

    The first step searches at least `probes`; the index keeps the last step's setting. Raises StoreError.
    """
    pictures = len(index)
    if index.is_exact:
        return [Tuning(index.kind, pictures)]
    own, queries = catalogue.descriptors.sample(fingerprint, _QUERIES)
    with progress.stage("Measuring the index", pictures) as stage:
        best = _best_hits(catalogue, head, fingerprint, own, queries, stage)
    steps: list[Tuning] = []
    for lists in _probe_steps(index.lists, max(probes, _MIN_PROBES)):
        index.probes = lists
        steps.append(replace(_measure(index, pictures, own, queries, best, recall), head=_name(head)))
        if (steps[-1].recall or 0) >= recall:
            break
    return steps


def _probe_steps(lists: int, probes: int) -> Iterator[int]:
    while probes < lists:
        yield probes
        probes *= 2
    yield lists


def _measure(
    index: TunedIndex, pictures: int, own: Ids, queries: Vectors, best: list[set[int]], recall: float
) -> Tuning:
    """Search for each query with the index as it is set; `own` are the queries' ids, `best` their exact hits."""
    seconds: list[float] = []
    shares: list[float] = []
    places: list[int] = []
    for id_, query, expected in zip(own, queries, best, strict=True):
        started = time.perf_counter()
        pool = index.search(query[None], POOL + 1)[1][0]
        seconds.append(time.perf_counter() - started)
        found = [place for place, each in enumerate(pool[pool != id_][:POOL].tolist()) if each in expected]
        shares.append(len(found) / max(1, len(expected)))
        places += found
    milliseconds = float(np.median(seconds)) * 1000
    step = _step(sorted(places), 1 - (1 - recall) / _STRICTER)
    return Tuning(index.kind, pictures, index.lists, index.probes, float(np.mean(shares)), len(own), milliseconds, step)


def _step(places: list[int], share: float) -> int:
    """Return how many candidates reach this share of the best hits' places among them, from 0, in order."""
    if not places:
        return POOL
    return max(_MIN_STEP, places[min(math.ceil(share * len(places)), len(places)) - 1] + 1)


def _best_hits(
    catalogue: Catalogue, head: Head, fingerprint: str, own: Ids, queries: Vectors, stage: WorkStage
) -> list[set[int]]:
    """Return, for each query, the ids of the ten best hits of an exact search after rescoring, without itself."""
    best, similarity = list[set[int]](), StoreSimilarity.of(head)
    for id_, query, pool in zip(own, queries, _exact_pools(catalogue, fingerprint, queries, stage), strict=True):
        others = pool[(pool != id_) & (pool != NO_ID)][:POOL]
        best.append(set(rescore(catalogue, similarity, fingerprint, query, others).ids[:BEST].tolist()))
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
    one search. `step` candidates, the nearest by the index, hold practically all of the ten best that it finds, for the
    `head` of this digest. An exact index has no `recall` to measure.
    """

    kind: str
    pictures: int
    lists: int = 0
    probes: int = 0
    recall: float | None = None
    queries: int = 0
    milliseconds: float | None = None
    step: int | None = None
    head: str | None = None

    def suits(self, head: Head) -> bool:
        """Return whether this was measured with a head, or would be the same with any."""
        return self.recall is None or self.head == _name(head)


def _name(head: Head) -> str:
    """Name what orders hits: a centre changes with every indexing, but the order that it gives hardly does."""
    return head.digest if head.centre is None else f"{head.digest} centred"


def read_tuning(catalogue: Catalogue) -> Tuning | None:
    """Return the last measurement of the store's index. Raises StoreError."""
    text, rescoring = catalogue.settings.get(_SETTING), catalogue.settings.get(_RESCORING)
    try:
        tuning: Tuning | None = from_json(Tuning, json.loads(text) | json.loads(rescoring or "{}")) if text else None
    except (ValueError, TypeError, RecursionError):
        _LOGGER.warning("the tuning of %s is damaged: the next `retrieve index` makes it anew", catalogue.folder)
        return None
    return tuning


def save_tuning(catalogue: Catalogue, tuning: Tuning) -> None:
    """Save a measurement in the store, whose searches use its parameter from then on. Raises StoreError."""
    search = asdict(tuning)
    rescoring = {name: search.pop(name) for name in ("step", "head")}  # earlier versions refuse them in the former
    catalogue.settings.set(**{_SETTING: json.dumps(search), _RESCORING: json.dumps(rescoring)})
