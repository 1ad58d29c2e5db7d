"""From files to descriptors: read and decoded ahead on threads, embedded in batches."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import chain, islice
from typing import NamedTuple, Protocol

from indexes.catalogue.catalogue import Catalogue
from indexes.catalogue.records import FailedFile, KnownContent, NewPicture
from retrieval.common.errors import PictureError
from retrieval.common.parallel import parallel_map
from retrieval.model.head import Array
from retrieval.model.inference import Network
from retrieval.model.preprocessing import PictureInfo, Pixels, read_at_size
from retrieval.sources.entries import PictureFile, Unreadable, unreadable_entry
from retrieval.sources.files import memory_bytes, open_and_hash, prefetch
from retrieval.sources.object_store import abort_if_unreachable

BATCH_SIZE = 32  # pictures of a transaction
_AHEAD = 3 * BATCH_SIZE  # files read and decoded before the network asks for them
_TOGETHER = 4  # of them that a reader takes at once
_READERS = 2
_PARALLEL_BATCHES = 2  # batches in the network: one begins where the other leaves a core free
MAX_IN_FLIGHT = _PARALLEL_BATCHES + 1  # batches: those, and one that is being written
_MAX_RECENT = _AHEAD + (MAX_IN_FLIGHT + 2) * BATCH_SIZE  # embedded, and perhaps not yet there for a reader that looks


class PendingVector(NamedTuple):
    """A descriptor that the network will have given: one row of a batch's."""

    batch: Future[Array]
    row: int

    def result(self) -> Array:
        vector: Array = self.batch.result()[self.row]
        return vector


@dataclass(frozen=True)
class ReadFile:
    """A file that was read: its content's SHA-256, what is known of the picture, its descriptor (C,) now or later."""

    file: PictureFile
    hash: bytes
    info: PictureInfo
    vector: Array | PendingVector

    def to_record(self) -> NewPicture:
        """What the catalogue records; waits for the descriptor."""
        return NewPicture(
            path=self.file.path,
            size=self.file.size,
            mtime=self.file.mtime,
            hash=self.hash,
            vector=self.vector.result() if isinstance(self.vector, PendingVector) else self.vector,
            width=self.info.width,
            height=self.info.height,
            taken_at=self.info.taken_at,
            latitude=self.info.latitude,
            longitude=self.info.longitude,
            version=self.file.version,
            label=self.file.label,
        )


@dataclass
class Batch:
    """What is recorded in one transaction: files that were read, `embedded` of them by the network, and broken ones."""

    read: list[ReadFile] = field(default_factory=list)
    failures: list[FailedFile] = field(default_factory=list)
    embedded: int = 0

    def __len__(self) -> int:
        return len(self.read) + len(self.failures)


class Pipeline(Protocol):
    """What brings files to descriptors, here or elsewhere."""

    def batches(self, changed: Iterator[PictureFile | Unreadable]) -> Generator[Batch, None, None]:
        """All these files, read and embedded, about BATCH at a time. A broken one fails itself."""
        ...


class LocalPipeline:
    """On this machine, with a prepared network, for pictures of (size, size); any number of galleries."""

    def __init__(self, catalogue: Catalogue, network: Network, fingerprint: str, size: int) -> None:
        self._catalogue = catalogue
        self._network = network
        self._fingerprint = fingerprint
        self._size = size

    def batches(self, changed: Iterator[PictureFile | Unreadable]) -> Generator[Batch, None, None]:
        """Readers decode ahead, and two batches are embedded at once; their descriptors come later than the batch."""
        recent: dict[bytes, PendingVector] = {}
        with ThreadPoolExecutor(_PARALLEL_BATCHES, thread_name_prefix="embedder") as embedder:
            for decoded, failures in _make_batches(self._read_ahead(changed)):
                yield self._embed_batch(decoded, failures, recent, embedder)

    def _read_ahead(self, changed: Iterator[PictureFile | Unreadable]) -> Iterator[_Decoded | Unreadable]:
        """Read and decode on threads, a bounded number ahead, in order."""
        fetched = prefetch(changed)
        some = iter(lambda: list(islice(fetched, _TOGETHER)), [])
        return chain.from_iterable(parallel_map(self._read, some, _READERS, _AHEAD // _TOGETHER, _total_memory))

    def _read(self, files: list[PictureFile | Unreadable]) -> list[_Decoded | Unreadable]:
        return [found if isinstance(found, Unreadable) else self._read_one(found) for found in files]

    def _read_one(self, fetched: PictureFile) -> _Decoded | Unreadable:
        found = fetched._replace(read_content=None)  # it is let go as soon as it was read
        try:
            with abort_if_unreachable(), open_and_hash(fetched) as (file, content):
                twin = self._catalogue.scans.find_by_content([content], self._fingerprint).get(content)
                if twin is not None:
                    return _Decoded(found, content, info_of(twin), vector=twin.vector)
                pixels, info = read_at_size(file, self._size)
        except PictureError as error:
            return unreadable_entry(found.path, error)
        return _Decoded(found, content, info, pixels=pixels)

    def _embed_batch(
        self,
        decoded: list[_Decoded],
        failures: list[FailedFile],
        recent: dict[bytes, PendingVector],
        embedder: ThreadPoolExecutor,
    ) -> Batch:
        """Each picture's descriptor, where it is known, or where it will be; each content is embedded once."""
        fresh = {each.hash: each.pixels for each in decoded if each.pixels is not None and each.hash not in recent}
        if fresh:
            described = embedder.submit(self._network.describe, list(fresh.values()))
            recent |= {content: PendingVector(described, row) for row, content in enumerate(fresh)}
        read = [
            ReadFile(each.file, each.hash, each.info, recent[each.hash] if each.vector is None else each.vector)
            for each in decoded
        ]
        for content in list(recent)[:-_MAX_RECENT]:
            del recent[content]
        return Batch(read, failures, len(fresh))


@dataclass(frozen=True)
class _Decoded:
    """A file after the readers: either its pixels, or the descriptor (C,) that its content has."""

    file: PictureFile
    hash: bytes
    info: PictureInfo
    pixels: Pixels | None = None
    vector: Array | None = None


def _make_batches(files: Iterator[_Decoded | Unreadable]) -> Iterator[tuple[list[_Decoded], list[FailedFile]]]:
    decoded: list[_Decoded] = []
    failures: list[FailedFile] = []
    for file in files:
        if isinstance(file, Unreadable):
            failures.append(failure_of(file))
        else:
            decoded.append(file)
        if len(decoded) >= BATCH_SIZE or len(failures) >= BATCH_SIZE:
            yield decoded, failures
            decoded, failures = [], []
    if decoded or failures:
        yield decoded, failures


def _total_memory(files: list[PictureFile | Unreadable]) -> int:
    return sum(map(memory_bytes, files))


def failure_of(file: Unreadable) -> FailedFile:
    """What the catalogue records of a file that cannot be used."""
    return FailedFile(file.path, file.reason, file.is_transient)


def info_of(twin: KnownContent) -> PictureInfo:
    """What is known of a picture by another one of the same content."""
    return PictureInfo(twin.width, twin.height, twin.taken_at, twin.latitude, twin.longitude)
