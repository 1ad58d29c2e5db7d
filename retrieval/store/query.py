"""Queries with pictures against a store, as a whole and step by step."""

import logging
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import chain, islice, takewhile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from indexes.arrays import Ids, cosines, unit
from indexes.catalogue.records import EVERYTHING, Selection
from indexes.vectors.base import NO_ID, LabelledIndex
from retrieval.common.errors import PictureError
from retrieval.common.grouping import COLLAPSE_COSINE
from retrieval.common.parallel import batched
from retrieval.common.settings import DEFAULT_EXPLAIN, POOL, ExplainOptions
from retrieval.explain.explanation import Explanation
from retrieval.explain.hit import Hit
from retrieval.explain.pair_explainer import PairExplainer
from retrieval.model.head import Array, Head
from retrieval.model.preprocessing import Pixels, Source
from retrieval.store.maintenance.coverage import CoverageRule
from retrieval.store.opened_store import OpenedStore
from retrieval.store.rescoring import existing_files, rescored_hits
from retrieval.store.similarity import StoreSimilarity

_MOST_CANDIDATES = 16_384  # as many as Milvus gives
_PAGE = 16  # hits whose contents are looked up at once
_WIDER = 8  # times as many candidates if copies leave too few hits
_LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True)
class QueryResult:
    """A query's hits, the number of candidates that they were taken from, and the seconds of each stage.

    `coverage` says how many hits were needed, if that was the question. `best` is the similarity of the nearest
    picture, which need not be a hit; None if there is none. `nothing` says why there are no hits, if that is known.
    """

    hits: list[Hit]
    pool: int
    seconds: dict[str, float]
    coverage: CoverageRule | None = None
    best: float | None = None
    nothing: str | None = None


@dataclass(frozen=True)
class PreparedQuery:
    """A query picture with its descriptor (C,), the ids of its candidates, and its share of the seconds so far.

    `pixels` is None if the descriptor was known already; an explanation then reads the picture. `size` is the upright
    picture's width and height, None if the pixels came without.
    """

    source: Source
    pixels: Pixels | None
    descriptor: Array
    candidates: Ids
    seconds: dict[str, float]
    size: tuple[int, int] | None = None
    pool: int = POOL
    selection: Selection = EVERYTHING


class Queries:
    """Queries on one opened store. Methods raise StoreError, ModelError and PictureError."""

    def __init__(self, store: OpenedStore) -> None:
        self._store = store

    def prepare(
        self, sources: Sequence[Source], pool: int = POOL, selection: Selection = EVERYTHING
    ) -> list[PreparedQuery | PictureError]:
        """Find the candidates of several pictures in one search of the index; a broken picture gives its error."""
        stopwatch, store = _Stopwatch(), self._store
        with stopwatch("load"):
            store.current_index(), store.bundle.head
        with stopwatch("embed"):
            read = store.encoder.read_all(sources)
        with stopwatch("load"):  # now, as a thread may be opening the network
            store.encoder.load()
        with stopwatch("embed"):
            pairs = zip(sources, read, strict=True)
            readable = [(source, *result) for source, result in pairs if not isinstance(result, PictureError)]
            descriptors = self.describe([pixels for _, pixels, _ in readable])
        with stopwatch("search"):
            pools = self.candidates(descriptors, pool, selection)
        _LOGGER.debug("candidates of each picture: %s", [len(ids) for ids in pools])
        seconds = {stage: total / max(1, len(readable)) for stage, total in stopwatch.seconds.items()}
        prepared = iter(
            PreparedQuery(source, pixels, descriptor, ids, seconds, info.size, pool, selection)
            for (source, pixels, info), descriptor, ids in zip(readable, descriptors, pools, strict=True)
        )
        return [result if isinstance(result, PictureError) else next(prepared) for result in read]

    def read(self, source: Source, size: int | None = None) -> Pixels:
        """Return a picture as the network sees it, uint8 (size, size, 3); None: at the model's own size."""
        return self._store.encoder.at_size(size).decode(source)

    def describe(self, pixels: Sequence[Pixels]) -> Array:
        """Return descriptors (N, C) of pictures at the model's own size, equal to the stored ones of the same files."""
        return self._store.encoder.describe(pixels)

    def candidates(self, descriptors: Array, pool: int = POOL, selection: Selection = EVERYTHING) -> list[Ids]:
        """Return the ids nearest to each descriptor (N, C) by the index, nearest first: at most `pool` each."""
        if not len(descriptors):
            return []
        index = self._store.current_index()
        if selection.only_label is not None and isinstance(index, LabelledIndex):
            rows = index.search_label(descriptors, pool, selection.only_label)[1]
        else:
            among = None if selection.is_all else self._store.catalogue.pictures.select_ids(selection)
            rows = index.search(descriptors, pool, among)[1]
        return [ids[ids != NO_ID] for ids in rows]

    def stored_descriptor(self, picture: int) -> Array | None:
        """Return the descriptor (C,) of an indexed picture by its id; None if there is no such picture."""
        rows = self._store.catalogue.descriptors.of(np.array([picture]), self._store.bundle.fingerprint)
        return next((vectors[0] for _, vectors in rows), None)

    def ranked_hits(
        self, prepared: PreparedQuery, similarity: StoreSimilarity | None = None, gradual: bool = True
    ) -> tuple[int, Iterator[Hit]]:
        """Return how many candidates there are, and those whose files exist as hits, best first.

        They are rescored, by the store's similarity if no other is given, and read as they are taken.
        In a large store that is `gradual`, unless the hits must be in order to the last.
        """
        store, ids = self._store, prepared.candidates
        fingerprint, step = store.bundle.fingerprint, store.rescoring_step if gradual else None
        similarity = similarity or store.similarity
        generation = store.index_generation
        hits = rescored_hits(store.catalogue, similarity, fingerprint, prepared.descriptor, ids, step, generation)
        return len(ids), existing_files(hits, store.catalogue)

    def finish(
        self,
        prepared: PreparedQuery,
        top: int = 5,
        min_similarity: float = 0.0,
        explain: bool = True,
        options: ExplainOptions = DEFAULT_EXPLAIN,
        coverage: CoverageRule | None = None,
        collapse: bool | None = None,
    ) -> QueryResult:
        """Rescore a query's candidates and explain the `top` of them, or as many as `coverage` needs.

        Files of one content are one hit; near-duplicates are one too if they are to `collapse`, and if not (False)
        every file is one. If copies leave too few hits, there are more candidates.
        """
        stopwatch = _Stopwatch(prepared.seconds)
        similarity = self._store.similarity  # one for all: the store may be calibrated meanwhile
        with stopwatch("rescore"):
            while True:
                gradual = min_similarity == 0 and coverage is None
                pool, ranked = self.ranked_hits(prepared, similarity, gradual)
                nearest = next(ranked, None)
                ranked = chain([nearest] if nearest else [], ranked)
                shown = takewhile(lambda hit: hit.similarity >= min_similarity, ranked)
                if coverage or collapse is False:
                    hits = list(coverage.needed(ranked) if coverage else islice(shown, top))
                    break
                hits = self._collapse(prepared.source, shown, top, bool(collapse))
                if len(hits) >= top or next(ranked, None) or not prepared.pool <= pool < _MOST_CANDIDATES:
                    break
                prepared = self._widen(prepared)
        if explain:
            with stopwatch("explain"):
                hits = self._explain_hits(prepared, hits, similarity.head, options)
        return QueryResult(hits, pool, stopwatch.seconds, coverage, nearest.similarity if nearest else None)

    def _widen(self, prepared: PreparedQuery) -> PreparedQuery:
        """Return the query with more candidates."""
        pool = min(_WIDER * prepared.pool, _MOST_CANDIDATES)
        (ids,) = self.candidates(prepared.descriptor[None], pool, prepared.selection)
        return replace(prepared, candidates=ids, pool=pool)

    def _collapse(self, source: Source, ranked: Iterator[Hit], top: int, near: bool) -> list[Hit]:
        """Return the first `top` groups of hits of one content, or `near` each other, as one hit each.

        That is the query's own file if it is in the group, else the best.
        """
        own = os.path.realpath(source) if isinstance(source, (str, Path)) else None
        groups: list[list[Hit]] = []
        firsts: list[bytes] = []  # the contents of the groups' first hits
        vectors: list[Array] = []  # and their descriptors
        for hit, content, vector in self._with_contents(ranked, near):
            place = firsts.index(content) if content in firsts else _near_place(vectors, vector)
            if place is not None:
                groups[place].insert(0 if own == os.fspath(hit.path) else len(groups[place]), hit)
            elif len(groups) < top:
                groups.append([hit])
                firsts.append(content)
                vectors += [] if vector is None else [vector]
            else:
                break
        return [
            replace(hit, rank=rank, copies=tuple(copy.path for copy in copies))
            for rank, (hit, *copies) in enumerate(groups, 1)
        ]

    def _with_contents(self, ranked: Iterator[Hit], near: bool) -> Iterator[tuple[Hit, bytes, Array | None]]:
        """Yield hits with the hashes of their contents, and with their descriptors (C,) if `near`."""
        catalogue, fingerprint = self._store.catalogue, self._store.bundle.fingerprint
        for page in batched(ranked, _PAGE):
            ids = [hit.id for hit in page]
            details = catalogue.pictures.get_many(ids)
            batches = catalogue.descriptors.of(np.array(ids), fingerprint) if near else ()
            vectors = {id_: vector for known, rows in batches for id_, vector in zip(known.tolist(), rows, strict=True)}
            for hit in page:
                if hit.id in details:
                    yield hit, details[hit.id].hash, vectors.get(hit.id)

    def explain_pixels(
        self,
        query: Pixels,
        others: Sequence[Pixels],
        distances: NDArray[np.float64],
        options: ExplainOptions = DEFAULT_EXPLAIN,
    ) -> list[Explanation]:
        """Explain why a picture has these distances (N,) from others, all decoded at the size that `options` say."""
        return PairExplainer(self._store.encoder, self._store.head).explain_query(query, others, distances, options)

    def _explain_hits(self, prepared: PreparedQuery, hits: list[Hit], head: Head, options: ExplainOptions) -> list[Hit]:
        """Explain the hits; the network activates only them and the query, in one batch."""
        encoder = self._store.encoder.at_size(options.size)
        query, size = prepared.pixels if encoder is self._store.encoder else None, prepared.size
        if query is None:
            query, info = encoder.read(prepared.source)
            size = info.size
        decoded = encoder.decode_all([hit.path for hit in hits])
        readable = [pixels for pixels in decoded if not isinstance(pixels, PictureError)]
        explanations: Iterator[Explanation] = iter(())
        if readable:
            pairs = zip(hits, decoded, strict=True)
            distances = np.array([hit.distance for hit, pixels in pairs if not isinstance(pixels, PictureError)])
            explainer = PairExplainer(self._store.encoder, head)
            explanations = iter(explainer.explain_query(query, readable, distances, options))
        return [
            replace(hit, note=f"cannot be explained: the file {result.reason}")
            if isinstance(result, PictureError)
            else replace(hit, explanation=next(explanations).with_sizes(size, (hit.width, hit.height)))
            for hit, result in zip(hits, decoded, strict=True)
        ]


def _near_place(vectors: list[Array], vector: Array | None) -> int | None:
    """Return the first of the descriptors that one is a near-duplicate of, as `collapse_groups` has it."""
    if vector is None or not vectors:
        return None
    near = np.flatnonzero(cosines(np.stack(vectors), unit(vector[None])[0]) >= COLLAPSE_COSINE)
    return int(near[0]) if len(near) else None


class _Stopwatch:
    """Seconds by stage."""

    def __init__(self, before: Mapping[str, float] | None = None) -> None:
        self.seconds: dict[str, float] = dict(before or {})

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        started = time.perf_counter()
        yield
        self.seconds[stage] = self.seconds.get(stage, 0.0) + time.perf_counter() - started
