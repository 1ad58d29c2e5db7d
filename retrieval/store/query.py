"""A store asked with pictures: a query as a whole, and its steps one by one."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import islice, takewhile

import numpy as np
from numpy.typing import NDArray

from indexes.arrays import Ids
from indexes.catalogue.records import EVERYTHING, Selection
from indexes.vectors.base import NO_ID, LabelledIndex
from retrieval.common.errors import PictureError
from retrieval.common.settings import DEFAULT_EXPLAIN, POOL, ExplainOptions
from retrieval.explain.explanation import Explanation
from retrieval.explain.hit import Hit
from retrieval.explain.pair_explainer import PairExplainer
from retrieval.model.head import Array, Head
from retrieval.model.preprocessing import Pixels, Source
from retrieval.store.opened_store import OpenedStore
from retrieval.store.rescoring import existing_files, rescore


@dataclass(frozen=True)
class QueryResult:
    """A query's hits, how many candidates were rescored, and the seconds of each stage."""

    hits: list[Hit]
    pool: int
    seconds: dict[str, float]


@dataclass(frozen=True)
class PreparedQuery:
    """A query picture with its descriptor (C,), the ids of its candidates, and its share of the seconds so far.

    `pixels` is None where the descriptor was known already; the picture is read where an explanation needs it.
    """

    source: Source
    pixels: Pixels | None
    descriptor: Array
    candidates: Ids
    seconds: dict[str, float]


class Queries(OpenedStore):
    """Raises StoreError, ModelError, PictureError."""

    def query(
        self, source: Source, top: int = 5, explain: bool = True, options: ExplainOptions = DEFAULT_EXPLAIN
    ) -> list[Hit]:
        """The `top` most similar pictures of the store, best first, each with its explanation."""
        return self.search(source, top, explain=explain, options=options).hits

    def search(
        self,
        source: Source,
        top: int = 5,
        pool: int = POOL,
        label: str | None = None,
        min_similarity: float = 0.0,
        explain: bool = True,
        options: ExplainOptions = DEFAULT_EXPLAIN,
    ) -> QueryResult:
        """A query with its figures. `label` and `min_similarity` (0 to 1) keep only such hits.

        Raises ValueError where `top` is less than 1 or more than `pool`.
        """
        if not 1 <= top <= pool:
            raise ValueError(f"top must be from 1 to the pool of {pool}, not {top}")
        question = self.prepare([source], pool, Selection(label))[0]
        if isinstance(question, PictureError):
            raise question
        return self.finish(question, top, min_similarity, explain, options)

    def prepare(
        self, sources: Sequence[Source], pool: int = POOL, selection: Selection = EVERYTHING
    ) -> list[PreparedQuery | PictureError]:
        """The candidates of any number of pictures, from one search of the index; a broken picture gives its error."""
        watch = _Stopwatch()
        with watch("load"):
            self.current_index(), self.bundle.head, self.encoder.network
        with watch("embed"):
            read = self.encoder.decode_all(sources)
            good = [
                (source, pixels)
                for source, pixels in zip(sources, read, strict=True)
                if not isinstance(pixels, PictureError)
            ]
            descriptors = self.describe([pixels for _, pixels in good])
        with watch("search"):
            pools = self.candidates(descriptors, pool, selection)
        seconds = {stage: each / max(1, len(good)) for stage, each in watch.seconds.items()}
        found = iter(
            PreparedQuery(source, pixels, descriptor, ids, seconds)
            for (source, pixels), descriptor, ids in zip(good, descriptors, pools, strict=True)
        )
        return [pixels if isinstance(pixels, PictureError) else next(found) for pixels in read]

    def read(self, source: Source, size: int | None = None) -> Pixels:
        """A picture as the network sees it, uint8 (size, size, 3); None: at the model's own size."""
        return self.encoder.at_size(size).decode(source)

    def describe(self, pixels: Sequence[Pixels]) -> Array:
        """Descriptors (N, C) of pictures at the model's own size, equal to the stored ones of the same pictures."""
        return self.encoder.describe(pixels)

    def candidates(self, descriptors: Array, pool: int = POOL, selection: Selection = EVERYTHING) -> list[Ids]:
        """The ids nearest to each descriptor (N, C) by the index, nearest first: at most `pool` each."""
        if not len(descriptors):
            return []
        index = self.current_index()
        if selection.only_label is not None and isinstance(index, LabelledIndex):
            found = index.search_label(descriptors, pool, selection.only_label)[1]
        else:
            chosen = None if selection.is_all else self.catalogue.select_ids(selection)
            found = index.search(descriptors, pool, chosen)[1]
        return [ids[ids != NO_ID] for ids in found]

    def stored_descriptor(self, picture: int) -> Array | None:
        """The descriptor (C,) of an indexed picture by its id; None where it is not there."""
        found = [vectors for _, vectors in self.catalogue.vectors_of(np.array([picture]), self.bundle.fingerprint)]
        return found[0][0] if found else None

    def ranked_hits(self, prepared: PreparedQuery, head: Head | None = None) -> tuple[int, Iterator[Hit]]:
        """How many candidates were rescored, and those whose files are there as hits, best first, as they are read.

        `head` is the store's where it is not given.
        """
        fingerprint = self.bundle.fingerprint
        ranking = rescore(self.catalogue, head or self.head, fingerprint, prepared.descriptor, prepared.candidates)
        return len(ranking), existing_files(ranking.hits(self.catalogue))

    def finish(
        self,
        prepared: PreparedQuery,
        top: int = 5,
        min_similarity: float = 0.0,
        explain: bool = True,
        options: ExplainOptions = DEFAULT_EXPLAIN,
    ) -> QueryResult:
        """A question's candidates rescored: the `top` of them, each with its explanation."""
        watch = _Stopwatch(prepared.seconds)
        head = self.head  # one for ranking and heatmaps: another process may calibrate the store meanwhile
        with watch("rescore"):
            pool, ranked = self.ranked_hits(prepared, head)
            hits = list(islice(takewhile(lambda hit: hit.similarity >= min_similarity, ranked), top))
        if explain:
            with watch("explain"):
                hits = self._explain_hits(prepared, hits, head, options)
        return QueryResult(hits, pool, watch.seconds)

    def explain(self, a: Source, b: Source, options: ExplainOptions = DEFAULT_EXPLAIN) -> Explanation:
        """Why two pictures are similar or different: `a` in the place of the query, `b` of the hit."""
        return PairExplainer(self.encoder, self.head).explain(a, b, options)

    def distances(self, descriptor: Array, others: Array) -> NDArray[np.float64]:
        """The head's distances d (N,) of a descriptor (C,) from others (N, C), as the store is calibrated."""
        return self.head.descriptor_distances(descriptor[None], others)

    def explain_pixels(
        self,
        query: Pixels,
        others: Sequence[Pixels],
        distances: NDArray[np.float64],
        options: ExplainOptions = DEFAULT_EXPLAIN,
    ) -> list[Explanation]:
        """Why a picture has these distances (N,) from others, all read already, at the size that `how` says."""
        return PairExplainer(self.encoder, self.head).explain_query(query, others, distances, options)

    def preprocess(self, source: Source) -> NDArray[np.float32]:
        """What the network sees of a picture: float32 (3, size, size)."""
        return self.encoder.preprocess(source)

    def _explain_hits(self, prepared: PreparedQuery, hits: list[Hit], head: Head, options: ExplainOptions) -> list[Hit]:
        """The query and the hits, and only those, go through the network for their activations, in one batch."""
        comparer = self.encoder.at_size(options.size)
        known = prepared.pixels if comparer is self.encoder else None
        query = comparer.decode(prepared.source) if known is None else known
        read = dict(zip([hit.rank for hit in hits], comparer.decode_all([hit.path for hit in hits]), strict=True))
        pixels = {rank: seen for rank, seen in read.items() if not isinstance(seen, PictureError)}
        notes = {
            rank: f"cannot be explained: the file {error.reason}"
            for rank, error in read.items()
            if isinstance(error, PictureError)
        }
        explanations: dict[int, Explanation] = {}
        if pixels:
            distances = np.array([hit.distance for hit in hits if hit.rank in pixels])
            explainer = PairExplainer(self.encoder, head)
            explained = explainer.explain_query(query, list(pixels.values()), distances, options)
            explanations = dict(zip(pixels, explained, strict=True))
        return [
            replace(hit, explanation=explanations.get(hit.rank), note=notes.get(hit.rank, hit.note)) for hit in hits
        ]


class _Stopwatch:
    """Seconds by stage."""

    def __init__(self, before: Mapping[str, float] | None = None) -> None:
        self.seconds: dict[str, float] = dict(before or {})

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        started = time.perf_counter()
        yield
        self.seconds[stage] = self.seconds.get(stage, 0.0) + time.perf_counter() - started
