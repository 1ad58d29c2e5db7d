"""What the server does, without HTTP: pictures asked with, hits, explanations. One engine, one thread for it."""

from __future__ import annotations

import asyncio
from collections import OrderedDict, defaultdict
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from http import HTTPStatus
from itertools import islice, takewhile
from pathlib import Path
from typing import TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from indexes.catalogue.records import PictureDetails, Selection
from retrieval.common.errors import PictureError
from retrieval.common.grouping import collapse_groups
from retrieval.common.settings import POOL, SLOW_METHODS, ExplainOptions
from retrieval.engine import Engine
from retrieval.explain.explanation import Explanation
from retrieval.explain.hit import Hit
from retrieval.model.head import Array
from retrieval.model.preprocessing import Pixels, read_at_size
from retrieval.server.errors import RequestRefused
from retrieval.server.services.queueing import BatchWorker, ConcurrencyLimit, JobQueue
from retrieval.sources.location import PictureLocation, parse_location
from retrieval.store.query import PreparedQuery

T = TypeVar("T")

AT_ONCE = 16  # queries of one batch
CHUNK = 4  # hits explained at once: the first are there while the others are made
DECODERS = 2
SLOW_AT_ONCE, SLOW_SECONDS = 2, 10  # explanations by slow methods in work, and after how long one more may ask
_REMEMBERED = 256  # uploads whose pixels (150 kB) and descriptor are held
COLLAPSE_FACTOR = 3  # near-duplicates are looked for among so many times the hits at once


@dataclass(frozen=True)
class QuerySubject:
    """A picture that is asked with: its file, and, where it is an indexed one, its id.

    `pixels` (size, size, 3) are None until an explanation needs them; `descriptor` (C,) is None until it is known.
    """

    file: PictureLocation
    width: int
    height: int
    picture_id: int | None = None
    pixels: Pixels | None = None
    descriptor: Array | None = None


@dataclass(frozen=True)
class QueryJob:
    """A query: so many hits, of this selection, at least so similar; near-duplicates of a hit under it, or as hits."""

    subject: QuerySubject
    top: int
    selection: Selection
    min_similarity: float = 0.0
    collapse: bool = False
    pool: int = POOL


@dataclass(frozen=True)
class QueryAnswer:
    """A query's hits, near-duplicates of each by its id, what is known of all of them by theirs.

    `pool` candidates were rescored. The subject has its descriptor now.
    """

    subject: QuerySubject
    hits: list[Hit]
    near_duplicates: dict[int, list[Hit]]
    listed: dict[int, PictureDetails]
    pool: int


@dataclass(frozen=True)
class ExplainJob:
    """A picture and others, read at the size that `how` says, with their distances (N,): to be explained."""

    query: Pixels
    others: list[Pixels]
    distances: NDArray[np.float64]
    options: ExplainOptions


class QueryService:
    """An engine for many at once. Its methods run in one event loop, the engine in a thread, slow work in another."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._query_queue: JobQueue[QueryJob, QueryAnswer] = JobQueue(self._run_queries, AT_ONCE)
        self._explain_queue: JobQueue[ExplainJob, list[Explanation]] = JobQueue(self._explain, 1)
        self._call_queue: JobQueue[Callable[[], object], object] = JobQueue(_run_calls, 1)
        self._worker = BatchWorker(self._query_queue, self._explain_queue, self._call_queue)
        self._slow: JobQueue[Callable[[], object], object] = JobQueue(_run_calls, 1)
        self._slow_worker = BatchWorker(self._slow)
        self._slow_gate = ConcurrencyLimit(SLOW_AT_ONCE, SLOW_SECONDS)
        self._decoders = ThreadPoolExecutor(DECODERS, thread_name_prefix="decoder")
        self._uploads: OrderedDict[PictureLocation, QuerySubject] = OrderedDict()

    def close(self) -> None:
        """Stop the threads."""
        self._worker.close()
        self._slow_worker.close()
        self._decoders.shutdown(wait=False, cancel_futures=True)

    @property
    def waiting(self) -> int:
        """How many jobs wait for the engine."""
        return self._worker.waiting

    async def call(self, function: Callable[[], T]) -> T:
        """Run something on the engine's thread, between batches."""
        return cast(T, await asyncio.wrap_future(self._worker.submit(self._call_queue, function)))

    async def call_slowly(self, function: Callable[[], T]) -> T:
        """Run something that takes long on the thread for that. Raises Refused where enough waits there already."""
        with self._slow_gate.slot():
            return cast(T, await asyncio.wrap_future(self._slow_worker.submit(self._slow, function)))

    async def run_in_thread(self, function: Callable[..., T], *arguments: object) -> T:
        """Run something beside the engine, such as decoding."""
        return await asyncio.get_running_loop().run_in_executor(self._decoders, partial(function, *arguments))

    def find_picture(self, picture_id: int) -> PictureDetails:
        """An indexed picture. Raises Refused where there is none of this id."""
        found = self.engine.catalogue.pictures.get(picture_id)
        if found is None:
            raise RequestRefused(
                HTTPStatus.NOT_FOUND, f"no picture {picture_id} is indexed: it may have been moved or removed"
            )
        return found

    async def load_indexed(self, listed: PictureDetails) -> QuerySubject:
        """An indexed picture to ask with, by the descriptor that is stored. Raises Refused."""
        descriptor = await self.run_in_thread(self.engine.queries.stored_descriptor, listed.id)
        if descriptor is None:
            raise RequestRefused(HTTPStatus.NOT_FOUND, f"picture {listed.id} is no longer indexed")
        return QuerySubject(picture_location(listed), listed.width, listed.height, listed.id, descriptor=descriptor)

    async def load_upload(self, file: Path) -> QuerySubject:
        """An upload to ask with. Raises PictureError."""
        known = self._uploads.get(file)
        if known is not None:
            self._uploads.move_to_end(file)
            return known
        try:
            pixels, info = await self.run_in_thread(read_at_size, file, self.engine.bundle.card.preprocessing.size)
        except PictureError as error:
            raise error.with_name("the picture that was sent") from error
        subject = QuerySubject(file, info.width, info.height, pixels=pixels)
        self._remember(subject)
        return subject

    async def ensure_descriptor(self, subject: QuerySubject) -> QuerySubject:
        """The subject with its descriptor."""
        pixels = subject.pixels
        if subject.descriptor is not None or pixels is None:
            return subject
        (descriptor,) = await self.call(lambda: self.engine.queries.describe([pixels]))
        return replace(subject, descriptor=descriptor)

    async def run_query(self, job: QueryJob) -> QueryAnswer:
        """The hits of a query, which shares its batch with whoever asks meanwhile."""
        answer = await asyncio.wrap_future(self._worker.submit(self._query_queue, job))
        if job.subject.picture_id is None:
            self._remember(answer.subject)
        return answer

    async def explain(
        self, subject: QuerySubject, hits: Sequence[Hit], options: ExplainOptions
    ) -> AsyncIterator[list[Explanation | PictureError]]:
        """Each hit's explanation, or why there is none, a few hits at a time, in their order. Raises PictureError."""
        query = await self._read_query(subject, options)
        for start in range(0, len(hits), CHUNK):
            some = hits[start : start + CHUNK]
            read = await asyncio.gather(*(self._try_read(hit.path, options) for hit in some))
            good = {place: each for place, each in enumerate(read) if not isinstance(each, PictureError)}
            explained: dict[int, Explanation] = {}
            if good:
                distances = np.array([some[place].distance for place in good])
                made = await self._run_explain_job(ExplainJob(query, list(good.values()), distances, options))
                explained = dict(zip(good, made, strict=True))
            yield [each if isinstance(each, PictureError) else explained[place] for place, each in enumerate(read)]

    async def _run_explain_job(self, job: ExplainJob) -> list[Explanation]:
        """By turns with queries, or, where that would keep them waiting, on a thread for what is slow."""
        if job.options.method not in SLOW_METHODS and job.options.size is None:
            return await asyncio.wrap_future(self._worker.submit(self._explain_queue, job))
        return (await self.call_slowly(lambda: self._explain([job])))[0]

    async def _read_query(self, subject: QuerySubject, options: ExplainOptions) -> Pixels:
        if subject.pixels is not None and options.size in (None, self.engine.bundle.card.preprocessing.size):
            return subject.pixels
        return await self.run_in_thread(self.engine.queries.read, subject.file, options.size)

    async def _try_read(self, file: PictureLocation, options: ExplainOptions) -> Pixels | PictureError:
        try:
            return await self.run_in_thread(self.engine.queries.read, file, options.size)
        except PictureError as error:
            return error

    def _remember(self, subject: QuerySubject) -> None:
        self._uploads[subject.file] = subject
        self._uploads.move_to_end(subject.file)
        while len(self._uploads) > _REMEMBERED:
            self._uploads.popitem(last=False)

    # --- on the engine's thread

    def _run_queries(self, jobs: list[QueryJob]) -> Sequence[QueryAnswer | Exception]:
        """One batch: what has no descriptor yet goes through the network together, and each selection is one search."""
        fresh = {
            place: ask.subject.pixels
            for place, ask in enumerate(jobs)
            if ask.subject.descriptor is None and ask.subject.pixels is not None
        }
        known = {place: ask.subject.descriptor for place, ask in enumerate(jobs) if ask.subject.descriptor is not None}
        known |= dict(zip(fresh, self.engine.queries.describe(list(fresh.values())), strict=True))
        together: dict[tuple[Selection, int], list[int]] = defaultdict(list)
        for place, ask in enumerate(jobs):
            together[ask.selection, ask.pool].append(place)
        answers: dict[int, QueryAnswer | Exception] = {}
        for (among, pool), places in together.items():
            found = self.engine.queries.candidates(np.stack([known[place] for place in places]), pool, among)
            for place, ids in zip(places, found, strict=True):
                answers[place] = self._answer(jobs[place], known[place], ids)
        return [answers[place] for place in range(len(jobs))]

    def _answer(self, job: QueryJob, descriptor: Array, ids: NDArray[np.int64]) -> QueryAnswer | Exception:
        subject = replace(job.subject, descriptor=descriptor)
        try:
            pool, ranked = self.engine.queries.ranked_hits(
                PreparedQuery(subject.file, subject.pixels, descriptor, ids, {})
            )
            others = (hit for hit in ranked if hit.id != subject.picture_id)
            similar = takewhile(lambda hit: hit.similarity >= job.min_similarity, others)
            looked, listed = list[Hit](), dict[int, PictureDetails]()
            more = COLLAPSE_FACTOR * job.top if job.collapse else job.top
            while True:  # until there are enough groups, or no hits
                some = list(islice(similar, more))
                looked += some
                listed |= self.engine.catalogue.pictures.get_many([hit.id for hit in some])
                groups = self._group_hits([hit for hit in looked if hit.id in listed], listed, job)
                if len(groups) >= job.top or len(some) < more:
                    break
            groups = groups[: job.top]
            hits = [replace(group[0], rank=rank) for rank, group in enumerate(groups, 1)]
            return QueryAnswer(subject, hits, {group[0].id: group[1:] for group in groups}, listed, pool)
        except Exception as error:
            return error

    def _group_hits(self, hits: list[Hit], listed: dict[int, PictureDetails], job: QueryJob) -> list[list[Hit]]:
        """Each hit with its near-duplicates behind it, or, where that is not asked for, alone."""
        if not job.collapse or not hits:
            return [[hit] for hit in hits]
        ids = np.array([hit.id for hit in hits])
        known = [
            pair
            for some, vectors in self.engine.catalogue.descriptors.of(ids, self.engine.bundle.fingerprint)
            for pair in zip(some.tolist(), vectors, strict=True)
        ]
        there = dict(known)
        hits = [hit for hit in hits if hit.id in there]
        numbers = collapse_groups([listed[hit.id].hash for hit in hits], np.stack([there[hit.id] for hit in hits]))
        groups: dict[int, list[Hit]] = defaultdict(list)
        for number, hit in zip(numbers, hits, strict=True):
            groups[number].append(hit)
        return list(groups.values())

    def _explain(self, jobs: list[ExplainJob]) -> list[list[Explanation]]:
        return [self.engine.queries.explain_pixels(job.query, job.others, job.distances, job.options) for job in jobs]


def picture_location(listed: PictureDetails) -> PictureLocation:
    """Where an indexed picture lies."""
    return parse_location(listed.path)


def _run_calls(functions: list[Callable[[], object]]) -> list[object]:
    return [function() for function in functions]
