"""Queries and explanations without HTTP: one engine for many clients, on one thread."""

import asyncio
from collections import OrderedDict, defaultdict
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
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
from retrieval.common.settings import GLANCE_FIRST, POOL, QUICK_METHOD, SLOW_METHODS, ExplainOptions
from retrieval.engine import Engine
from retrieval.explain.explanation import Explanation
from retrieval.explain.hit import Hit
from retrieval.model.head import Array
from retrieval.model.preprocessing import Pixels, read_at_size
from retrieval.server.errors import RequestRefused
from retrieval.server.services.queueing import BatchWorker, ConcurrencyLimit, JobQueue
from retrieval.sources.location import PictureLocation, parse_location
from retrieval.store.maintenance.coverage import CoverageRule
from retrieval.store.maintenance.labelled_pictures import MOST_HITS
from retrieval.store.query import PreparedQuery
from retrieval.store.rescoring import rescore

T = TypeVar("T")

MAX_BATCH = 16  # queries
CHUNK = 4  # hits explained at once: the first are sent while the others are made
DECODERS = 2
MAX_SLOW, SLOW_SECONDS = 2, 10  # slow jobs in work, and the seconds after which a refused one may be repeated
_MAX_REMEMBERED = 256  # uploads whose pixels (150 kB) and descriptor are kept
COLLAPSE_FACTOR = 3  # near-duplicates are looked for among so many times the hits at once
FIRST_GLANCE = "first glance"
ONLY_GLANCE = "first glance only: the server is busy"


@dataclass(frozen=True)
class QuerySubject:
    """A query picture: its file and, if it is indexed, its id.

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
    """A query for the `top` hits of a selection, at least so similar; `collapse` puts near-duplicates under a hit.

    With a `coverage`, as many hits as it needs are found in place of `top`.
    """

    subject: QuerySubject
    top: int
    selection: Selection
    min_similarity: float = 0.0
    collapse: bool = False
    coverage: CoverageRule | None = None


@dataclass(frozen=True)
class QueryAnswer:
    """A query's hits, the near-duplicates of each and the details of all of them, by id.

    `pool` candidates were rescored. The subject has its descriptor now.
    """

    subject: QuerySubject
    hits: list[Hit]
    near_duplicates: dict[int, list[Hit]]
    details: dict[int, PictureDetails]
    pool: int
    coverage: CoverageRule | None = None


@dataclass(frozen=True)
class ExplainedHit:
    """A hit's explanation, or why there is none; `glance` says so if it is only the first glance."""

    hit: Hit
    result: Explanation | PictureError
    glance: str | None = None


class QueryService:
    """An engine for many clients. Its methods run in one event loop, the engine on one thread, slow jobs on another."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._query_queue: JobQueue[QueryJob, QueryAnswer] = JobQueue(self._run_queries, MAX_BATCH)
        self._call_queue: JobQueue[Callable[[], object], object] = JobQueue(_run_calls, 1)
        self._worker = BatchWorker(self._query_queue, self._call_queue)
        self._slow_queue: JobQueue[Callable[[], object], object] = JobQueue(_run_calls, 1)
        self._slow_worker = BatchWorker(self._slow_queue)
        self._slow_limit = ConcurrencyLimit(MAX_SLOW, SLOW_SECONDS)
        self.settling_limit = ConcurrencyLimit(MAX_SLOW)  # of queries: their hits keep no single one from its turn
        self._decoders = ThreadPoolExecutor(DECODERS, thread_name_prefix="decoder")
        self._openers = ThreadPoolExecutor(DECODERS, thread_name_prefix="opener")  # of uploads, which may take long
        self._uploads: OrderedDict[PictureLocation, QuerySubject] = OrderedDict()

    def close(self) -> None:
        """Stop the threads."""
        self._worker.close()
        self._slow_worker.close()
        for threads in (self._decoders, self._openers):
            threads.shutdown(wait=False, cancel_futures=True)

    @property
    def waiting(self) -> int:
        """Jobs that wait for the engine."""
        return self._worker.waiting

    async def call(self, function: Callable[[], T]) -> T:
        """Call a function on the engine's thread, in turn with batches of queries."""
        return cast(T, await asyncio.wrap_future(self._worker.submit(self._call_queue, function)))

    async def call_slowly(self, function: Callable[[], T], limit: ConcurrencyLimit | None = None) -> T:
        """Call a function on the thread for slow jobs. Raises RequestRefused if too many wait there already."""
        with (limit or self._slow_limit).slot():
            return cast(T, await asyncio.wrap_future(self._slow_worker.submit(self._slow_queue, function)))

    async def run_in_thread(self, function: Callable[..., T], *arguments: object) -> T:
        """Call a function beside the engine, such as decoding."""
        return await asyncio.get_running_loop().run_in_executor(self._decoders, partial(function, *arguments))

    def find_picture(self, picture_id: int) -> PictureDetails:
        """Return an indexed picture. Raises RequestRefused if there is none of this id."""
        details = self.engine.catalogue.pictures.get(picture_id)
        if details is None:
            raise RequestRefused(
                HTTPStatus.NOT_FOUND, f"no picture {picture_id} is indexed: it may have been moved or removed"
            )
        return details

    async def load_indexed(self, details: PictureDetails) -> QuerySubject:
        """Return an indexed picture as a query, with its stored descriptor. Raises RequestRefused."""
        descriptor = await self.run_in_thread(self.engine.queries.stored_descriptor, details.id)
        if descriptor is None:
            raise _not_indexed(details.id)
        location = parse_location(details.path)
        return QuerySubject(location, details.width, details.height, details.id, descriptor=descriptor)

    async def load_upload(self, file: Path) -> QuerySubject:
        """Return an upload as a query. Raises PictureError."""
        subject = self._uploads.get(file)
        if subject is None:
            size = self.engine.bundle.card.preprocessing.size
            loop = asyncio.get_running_loop()
            try:
                pixels, info = await loop.run_in_executor(self._openers, read_at_size, file, size)
            except PictureError as error:
                raise error.with_name("the picture that was sent") from error
            subject = QuerySubject(file, info.width, info.height, pixels=pixels)
        self._remember(subject)
        return subject

    async def run_query(self, job: QueryJob) -> QueryAnswer:
        """Answer a query, in one batch with others that arrive meanwhile."""
        answer = await asyncio.wrap_future(self._worker.submit(self._query_queue, job))
        if job.subject.picture_id is None:
            self._remember(answer.subject)
        return answer

    async def compare(self, subject: QuerySubject, picture_id: int) -> Hit:
        """Return an indexed picture as the only hit of another picture. Raises RequestRefused if it is not indexed."""
        hit = await self.call(lambda: self._compare(subject, picture_id))
        if hit is None:
            raise _not_indexed(picture_id)
        return hit

    async def explain_soon(
        self, subject: QuerySubject, hits: Sequence[Hit], options: ExplainOptions
    ) -> AsyncIterator[ExplainedHit]:
        """Yield the hits' explanations in order; first a glance at each, quick and unchecked, if `options` take longer.

        If too many slow jobs wait already, the glances that are not settled yet are yielded again as the only ones.
        Raises PictureError for the query.
        """
        if not _take_long(options):
            async for explained in self.explain(subject, hits, options):
                yield explained
            return
        subject = replace(subject, pixels=await self._query_pixels(subject, options))
        glances = []
        method = QUICK_METHOD if options.method in GLANCE_FIRST else options.method
        quick = replace(options, method=method, verify=False, correspond=False)
        async for explained in self.explain(subject, hits, quick):
            if isinstance(explained.result, PictureError):
                yield explained
            else:
                glances.append(explained)
                yield replace(explained, glance=FIRST_GLANCE)
        settled = 0
        try:
            hits = [glance.hit for glance in glances]
            async for explained in self.explain(subject, hits, options, self.settling_limit):
                yield explained
                settled += 1
        except RequestRefused:
            for glance in glances[settled:]:
                yield replace(glance, glance=ONLY_GLANCE)

    async def explain(
        self,
        subject: QuerySubject,
        hits: Sequence[Hit],
        options: ExplainOptions,
        limit: ConcurrencyLimit | None = None,
    ) -> AsyncIterator[ExplainedHit]:
        """Yield the hits' explanations, or why there is none, in order. Raises PictureError for the query."""
        query = await self._query_pixels(subject, options)
        for start in range(0, len(hits), CHUNK):
            chunk = hits[start : start + CHUNK]
            results = await asyncio.gather(*(self._try_read(hit.path, options) for hit in chunk))
            pairs = zip(chunk, results, strict=True)
            readable = [(hit.distance, pixels) for hit, pixels in pairs if not isinstance(pixels, PictureError)]
            explanations: Iterator[Explanation] = iter(())
            if readable:
                distances, pixels = zip(*readable, strict=True)
                job = partial(self.engine.queries.explain_pixels, query, pixels, np.array(distances), options)
                explanations = iter(await (self.call_slowly(job, limit) if _take_long(options) else self.call(job)))
            for hit, result in zip(chunk, results, strict=True):
                yield ExplainedHit(hit, result if isinstance(result, PictureError) else next(explanations))

    async def _query_pixels(self, subject: QuerySubject, options: ExplainOptions) -> Pixels:
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
        while len(self._uploads) > _MAX_REMEMBERED:
            self._uploads.popitem(last=False)

    # --- on the engine's thread

    def _run_queries(self, jobs: list[QueryJob]) -> Sequence[QueryAnswer | Exception]:
        """Run one batch: one pass of the network for all new pictures, one search for each selection.

        A search that fails fails the jobs of its selection only.
        """
        subjects = self._describe([job.subject for job in jobs])
        rows_by_selection: dict[Selection, list[int]] = defaultdict(list)
        for row, job in enumerate(jobs):
            rows_by_selection[job.selection].append(row)
        answers: dict[int, QueryAnswer | Exception] = {}
        for selection, rows in rows_by_selection.items():
            try:
                descriptors = np.stack([_descriptor(subjects[row]) for row in rows])
                candidates = self.engine.queries.candidates(descriptors, POOL, selection)
            except Exception as error:
                answers |= dict.fromkeys(rows, error)
                continue
            for row, ids in zip(rows, candidates, strict=True):
                answers[row] = self._answer(replace(jobs[row], subject=subjects[row]), ids)
        return [answers[row] for row in range(len(jobs))]

    def _describe(self, subjects: list[QuerySubject]) -> list[QuerySubject]:
        """Return the subjects with their descriptors."""
        pixels = [each.pixels for each in subjects if each.descriptor is None and each.pixels is not None]
        descriptors = iter(self.engine.queries.describe(pixels))
        return [
            each if each.descriptor is not None else replace(each, descriptor=next(descriptors)) for each in subjects
        ]

    def _answer(self, job: QueryJob, ids: NDArray[np.int64]) -> QueryAnswer | Exception:
        subject = job.subject
        try:
            prepared = PreparedQuery(subject.file, subject.pixels, _descriptor(subject), ids, {})
            gradual = job.min_similarity == 0 and job.coverage is None
            pool, ranked = self.engine.queries.ranked_hits(prepared, gradual=gradual)
            others = (hit for hit in ranked if hit.id != subject.picture_id)
            shown = job.coverage.needed(others) if job.coverage else others
            similar = takewhile(lambda hit: hit.similarity >= job.min_similarity, shown)
            top = MOST_HITS if job.coverage else job.top
            hits, details = list[Hit](), dict[int, PictureDetails]()
            step = COLLAPSE_FACTOR * top if job.collapse else top
            while True:  # until there are enough groups, or no more hits
                batch = list(islice(similar, step))
                details |= self.engine.catalogue.pictures.get_many([hit.id for hit in batch])
                hits += [hit for hit in batch if hit.id in details]
                groups = self._group_hits(hits, details, job)
                if len(groups) >= top or len(batch) < step:
                    break
            groups = groups[:top]
            best = [replace(group[0], rank=rank) for rank, group in enumerate(groups, 1)]
            copies = {group[0].id: group[1:] for group in groups}
            return QueryAnswer(subject, best, copies, details, pool, job.coverage)
        except Exception as error:
            return error

    def _group_hits(self, hits: list[Hit], details: dict[int, PictureDetails], job: QueryJob) -> list[list[Hit]]:
        """Return each hit with its near-duplicates behind it, or alone unless the job collapses them."""
        if not job.collapse or not hits:
            return [[hit] for hit in hits]
        ids = np.array([hit.id for hit in hits])
        vectors = {
            picture_id: vector
            for batch, rows in self.engine.catalogue.descriptors.of(ids, self.engine.bundle.fingerprint)
            for picture_id, vector in zip(batch.tolist(), rows, strict=True)
        }
        hits = [hit for hit in hits if hit.id in vectors]
        numbers = collapse_groups([details[hit.id].hash for hit in hits], np.stack([vectors[hit.id] for hit in hits]))
        groups: dict[int, list[Hit]] = defaultdict(list)
        for number, hit in zip(numbers, hits, strict=True):
            groups[number].append(hit)
        return list(groups.values())

    def _compare(self, subject: QuerySubject, picture_id: int) -> Hit | None:
        engine = self.engine
        (subject,) = self._describe([subject])
        ids = np.array([picture_id])
        ranking = rescore(
            engine.catalogue, engine.store.similarity, engine.bundle.fingerprint, _descriptor(subject), ids
        )
        return next(ranking.hits(engine.catalogue), None)


def _take_long(options: ExplainOptions) -> bool:
    """Return whether explanations hide parts of pictures or need another network, and so are slow jobs."""
    is_slow = options.method in SLOW_METHODS | GLANCE_FIRST or options.size is not None
    return is_slow or options.verify or options.correspond


def _descriptor(subject: QuerySubject) -> Array:
    assert subject.descriptor is not None
    return subject.descriptor


def _not_indexed(picture_id: int) -> RequestRefused:
    return RequestRefused(HTTPStatus.NOT_FOUND, f"picture {picture_id} is no longer indexed")


def _run_calls(functions: list[Callable[[], object]]) -> list[object]:
    return [function() for function in functions]
