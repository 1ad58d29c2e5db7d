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

from indexes.catalogue.records import Listed, Selection
from retrieval.common.errors import PictureError
from retrieval.common.settings import POOL, SLOW_METHODS, How
from retrieval.engine import Engine
from retrieval.explain.explanation import Explanation
from retrieval.explain.hit import Hit
from retrieval.model.head import Array
from retrieval.model.preprocessing import Pixels, load
from retrieval.server.errors import Refused
from retrieval.server.services.queueing import Gate, Lane, Worker
from retrieval.sources.location import Place, located
from retrieval.store.duplicates.grouping import collapsed
from retrieval.store.query import Question

T = TypeVar("T")

AT_ONCE = 16  # queries of one batch
CHUNK = 4  # hits explained at once: the first are there while the others are made
DECODERS = 2
SLOW_AT_ONCE, SLOW_SECONDS = 2, 10  # explanations by slow methods in work, and after how long one more may ask
_REMEMBERED = 256  # uploads whose pixels (150 kB) and descriptor are held
LOOKED = 3  # near-duplicates are looked for among so many times the hits at once


@dataclass(frozen=True)
class Subject:
    """A picture that is asked with: its file, and, where it is an indexed one, its id.

    `pixels` (size, size, 3) are None until an explanation needs them; `descriptor` (C,) is None until it is known.
    """

    file: Place
    width: int
    height: int
    picture: int | None = None
    pixels: Pixels | None = None
    descriptor: Array | None = None


@dataclass(frozen=True)
class Ask:
    """A query: so many hits, of this selection, at least so similar; near-duplicates of a hit under it, or as hits."""

    subject: Subject
    top: int
    among: Selection
    min_similarity: float = 0.0
    collapse: bool = False
    pool: int = POOL


@dataclass(frozen=True)
class Answer:
    """A query's hits, near-duplicates of each by its id, what is known of all of them by theirs.

    `pool` candidates were rescored. The subject has its descriptor now.
    """

    subject: Subject
    hits: list[Hit]
    copies: dict[int, list[Hit]]
    listed: dict[int, Listed]
    pool: int


@dataclass(frozen=True)
class Pairs:
    """A picture and others, read at the size that `how` says, with their distances (N,): to be explained."""

    query: Pixels
    others: list[Pixels]
    distances: NDArray[np.float64]
    how: How


class Service:
    """An engine for many at once. Its methods run in one event loop, the engine in a thread, slow work in another."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._asking: Lane[Ask, Answer] = Lane(self._ask, AT_ONCE)
        self._explaining: Lane[Pairs, list[Explanation]] = Lane(self._explain, 1)
        self._calling: Lane[Callable[[], object], object] = Lane(_call, 1)
        self._worker = Worker(self._asking, self._explaining, self._calling)
        self._slow: Lane[Callable[[], object], object] = Lane(_call, 1)
        self._slow_worker = Worker(self._slow)
        self._slow_gate = Gate(SLOW_AT_ONCE, SLOW_SECONDS)
        self._decoders = ThreadPoolExecutor(DECODERS, thread_name_prefix="decoder")
        self._uploads: OrderedDict[Place, Subject] = OrderedDict()

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
        return cast(T, await asyncio.wrap_future(self._worker.submit(self._calling, function)))

    async def call_slowly(self, function: Callable[[], T]) -> T:
        """Run something that takes long on the thread for that. Raises Refused where enough waits there already."""
        with self._slow_gate.entered():
            return cast(T, await asyncio.wrap_future(self._slow_worker.submit(self._slow, function)))

    async def in_thread(self, function: Callable[..., T], *arguments: object) -> T:
        """Run something beside the engine, such as decoding."""
        return await asyncio.get_running_loop().run_in_executor(self._decoders, partial(function, *arguments))

    def listed(self, picture: int) -> Listed:
        """An indexed picture. Raises Refused where there is none of this id."""
        found = self.engine.catalogue.picture(picture)
        if found is None:
            raise Refused(HTTPStatus.NOT_FOUND, f"no picture {picture} is indexed: it may have been moved or removed")
        return found

    async def indexed(self, listed: Listed) -> Subject:
        """An indexed picture to ask with, by the descriptor that is stored. Raises Refused."""
        descriptor = await self.in_thread(self.engine.stored, listed.id)
        if descriptor is None:
            raise Refused(HTTPStatus.NOT_FOUND, f"picture {listed.id} is no longer indexed")
        return Subject(path_of(listed), listed.width, listed.height, listed.id, descriptor=descriptor)

    async def uploaded(self, file: Path) -> Subject:
        """An upload to ask with. Raises PictureError."""
        known = self._uploads.get(file)
        if known is not None:
            self._uploads.move_to_end(file)
            return known
        try:
            pixels, info = await self.in_thread(load, file, self.engine.bundle.card.preprocessing.size)
        except PictureError as error:
            raise error.named("the picture that was sent") from error
        subject = Subject(file, info.width, info.height, pixels=pixels)
        self._remember(subject)
        return subject

    async def described(self, subject: Subject) -> Subject:
        """The subject with its descriptor."""
        pixels = subject.pixels
        if subject.descriptor is not None or pixels is None:
            return subject
        (descriptor,) = await self.call(lambda: self.engine.describe([pixels]))
        return replace(subject, descriptor=descriptor)

    async def ask(self, ask: Ask) -> Answer:
        """The hits of a query, which shares its batch with whoever asks meanwhile."""
        answer = await asyncio.wrap_future(self._worker.submit(self._asking, ask))
        if ask.subject.picture is None:
            self._remember(answer.subject)
        return answer

    async def explain(
        self, subject: Subject, hits: Sequence[Hit], how: How
    ) -> AsyncIterator[list[Explanation | PictureError]]:
        """Each hit's explanation, or why there is none, a few hits at a time, in their order. Raises PictureError."""
        query = await self._pixels(subject, how)
        for start in range(0, len(hits), CHUNK):
            some = hits[start : start + CHUNK]
            read = await asyncio.gather(*(self._decoded(hit.path, how) for hit in some))
            good = {place: each for place, each in enumerate(read) if not isinstance(each, PictureError)}
            explained: dict[int, Explanation] = {}
            if good:
                distances = np.array([some[place].distance for place in good])
                made = await self._explained(Pairs(query, list(good.values()), distances, how))
                explained = dict(zip(good, made, strict=True))
            yield [each if isinstance(each, PictureError) else explained[place] for place, each in enumerate(read)]

    async def _explained(self, job: Pairs) -> list[Explanation]:
        """By turns with queries, or, where that would keep them waiting, on a thread for what is slow."""
        if job.how.method not in SLOW_METHODS and job.how.size is None:
            return await asyncio.wrap_future(self._worker.submit(self._explaining, job))
        return (await self.call_slowly(lambda: self._explain([job])))[0]

    async def _pixels(self, subject: Subject, how: How) -> Pixels:
        if subject.pixels is not None and how.size in (None, self.engine.bundle.card.preprocessing.size):
            return subject.pixels
        return await self.in_thread(self.engine.read, subject.file, how.size)

    async def _decoded(self, file: Place, how: How) -> Pixels | PictureError:
        try:
            return await self.in_thread(self.engine.read, file, how.size)
        except PictureError as error:
            return error

    def _remember(self, subject: Subject) -> None:
        self._uploads[subject.file] = subject
        self._uploads.move_to_end(subject.file)
        while len(self._uploads) > _REMEMBERED:
            self._uploads.popitem(last=False)

    # --- on the engine's thread

    def _ask(self, asks: list[Ask]) -> Sequence[Answer | Exception]:
        """One batch: what has no descriptor yet goes through the network together, and each selection is one search."""
        fresh = {
            place: ask.subject.pixels
            for place, ask in enumerate(asks)
            if ask.subject.descriptor is None and ask.subject.pixels is not None
        }
        known = {place: ask.subject.descriptor for place, ask in enumerate(asks) if ask.subject.descriptor is not None}
        known |= dict(zip(fresh, self.engine.describe(list(fresh.values())), strict=True))
        together: dict[tuple[Selection, int], list[int]] = defaultdict(list)
        for place, ask in enumerate(asks):
            together[ask.among, ask.pool].append(place)
        answers: dict[int, Answer | Exception] = {}
        for (among, pool), places in together.items():
            found = self.engine.candidates(np.stack([known[place] for place in places]), pool, among)
            for place, ids in zip(places, found, strict=True):
                answers[place] = self._answer(asks[place], known[place], ids)
        return [answers[place] for place in range(len(asks))]

    def _answer(self, ask: Ask, descriptor: Array, ids: NDArray[np.int64]) -> Answer | Exception:
        subject = replace(ask.subject, descriptor=descriptor)
        try:
            pool, ranked = self.engine.ranked(Question(subject.file, subject.pixels, descriptor, ids, {}))
            others = (hit for hit in ranked if hit.id != subject.picture)
            similar = takewhile(lambda hit: hit.similarity >= ask.min_similarity, others)
            looked, listed = list[Hit](), dict[int, Listed]()
            more = LOOKED * ask.top if ask.collapse else ask.top
            while True:  # until there are enough groups, or no hits
                some = list(islice(similar, more))
                looked += some
                listed |= self.engine.catalogue.pictures([hit.id for hit in some])
                groups = self._groups([hit for hit in looked if hit.id in listed], listed, ask)
                if len(groups) >= ask.top or len(some) < more:
                    break
            groups = groups[: ask.top]
            hits = [replace(group[0], rank=rank) for rank, group in enumerate(groups, 1)]
            return Answer(subject, hits, {group[0].id: group[1:] for group in groups}, listed, pool)
        except Exception as error:
            return error

    def _groups(self, hits: list[Hit], listed: dict[int, Listed], ask: Ask) -> list[list[Hit]]:
        """Each hit with its near-duplicates behind it, or, where that is not asked for, alone."""
        if not ask.collapse or not hits:
            return [[hit] for hit in hits]
        ids = np.array([hit.id for hit in hits])
        known = [
            pair
            for some, vectors in self.engine.catalogue.vectors_of(ids, self.engine.bundle.fingerprint)
            for pair in zip(some.tolist(), vectors, strict=True)
        ]
        there = dict(known)
        hits = [hit for hit in hits if hit.id in there]
        numbers = collapsed([listed[hit.id].hash for hit in hits], np.stack([there[hit.id] for hit in hits]))
        groups: dict[int, list[Hit]] = defaultdict(list)
        for number, hit in zip(numbers, hits, strict=True):
            groups[number].append(hit)
        return list(groups.values())

    def _explain(self, jobs: list[Pairs]) -> list[list[Explanation]]:
        return [self.engine.explain_read(job.query, job.others, job.distances, job.how) for job in jobs]


def path_of(listed: Listed) -> Place:
    """Where an indexed picture lies."""
    return located(listed.path)


def _call(functions: list[Callable[[], object]]) -> list[object]:
    return [function() for function in functions]
