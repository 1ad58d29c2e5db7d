"""From files to descriptors: read and decoded ahead on threads, embedded in batches."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import chain, islice
from typing import NamedTuple, Protocol

from indexes.catalogue.catalogue import Catalogue
from indexes.catalogue.records import Failed, NewPicture, Twin
from retrieval.common.errors import PictureError
from retrieval.common.parallel import ahead
from retrieval.model.head import Array
from retrieval.model.inference import Network
from retrieval.model.preprocessing import PictureInfo, Pixels, load
from retrieval.sources.entries import Found, Unreadable, unreadable
from retrieval.sources.files import bytes_held, fetch_ahead, hashed
from retrieval.sources.object_store import answering

BATCH = 32  # pictures of a transaction
_AHEAD = 3 * BATCH  # files read and decoded before the network asks for them
_TOGETHER = 4  # of them that a reader takes at once
_READERS = 2
_EMBEDDED = 2  # batches in the network: one begins where the other leaves a core free
IN_WORK = _EMBEDDED + 1  # batches: those, and one that is being written
_REMEMBERED = _AHEAD + (IN_WORK + 2) * BATCH  # embedded, and perhaps not yet there for a reader that looks


class Embedded(NamedTuple):
    """A descriptor that the network will have given: one row of a batch's."""

    batch: Future[Array]
    row: int

    def wait(self) -> Array:
        vector: Array = self.batch.result()[self.row]
        return vector


@dataclass(frozen=True)
class Read:
    """A file that was read: its content's SHA-256, what is known of the picture, its descriptor (C,) now or later."""

    found: Found
    hash: bytes
    info: PictureInfo
    vector: Array | Embedded

    def picture(self) -> NewPicture:
        """What the catalogue records; waits for the descriptor."""
        return NewPicture(
            path=self.found.path,
            size=self.found.size,
            mtime=self.found.mtime,
            hash=self.hash,
            vector=self.vector.wait() if isinstance(self.vector, Embedded) else self.vector,
            width=self.info.width,
            height=self.info.height,
            taken_at=self.info.taken_at,
            latitude=self.info.latitude,
            longitude=self.info.longitude,
            version=self.found.version,
            label=self.found.label,
        )


@dataclass
class Batch:
    """What is recorded in one transaction: files that were read, `embedded` of them by the network, and broken ones."""

    read: list[Read] = field(default_factory=list)
    failures: list[Failed] = field(default_factory=list)
    embedded: int = 0

    def __len__(self) -> int:
        return len(self.read) + len(self.failures)


class Pipeline(Protocol):
    """What brings files to descriptors, here or elsewhere."""

    def batches(self, changed: Iterator[Found | Unreadable]) -> Generator[Batch, None, None]:
        """All these files, read and embedded, about BATCH at a time. A broken one fails itself."""
        ...


class LocalPipeline:
    """On this machine, with a prepared network, for pictures of (size, size); any number of galleries."""

    def __init__(self, catalogue: Catalogue, network: Network, fingerprint: str, size: int) -> None:
        self._catalogue = catalogue
        self._network = network
        self._fingerprint = fingerprint
        self._size = size

    def batches(self, changed: Iterator[Found | Unreadable]) -> Generator[Batch, None, None]:
        """Readers decode ahead, and two batches are embedded at once; their descriptors come later than the batch."""
        recent: dict[bytes, Embedded] = {}
        with ThreadPoolExecutor(_EMBEDDED, thread_name_prefix="embedder") as embedder:
            for decoded, failures in _batched(self._read_ahead(changed)):
                yield self._embedded(decoded, failures, recent, embedder)

    def _read_ahead(self, changed: Iterator[Found | Unreadable]) -> Iterator[_Decoded | Unreadable]:
        """Read and decode on threads, a bounded number ahead, in order."""
        fetched = fetch_ahead(changed)
        some = iter(lambda: list(islice(fetched, _TOGETHER)), [])
        return chain.from_iterable(ahead(self._read, some, _READERS, _AHEAD // _TOGETHER, _held))

    def _read(self, some: list[Found | Unreadable]) -> list[_Decoded | Unreadable]:
        return [found if isinstance(found, Unreadable) else self._read_one(found) for found in some]

    def _read_one(self, fetched: Found) -> _Decoded | Unreadable:
        found = fetched._replace(content=None)  # it is let go as soon as it was read
        try:
            with answering(), hashed(fetched) as (file, content):
                twin = self._catalogue.find_twins([content], self._fingerprint).get(content)
                if twin is not None:
                    return _Decoded(found, content, info_of(twin), vector=twin.vector)
                pixels, info = load(file, self._size)
        except PictureError as error:
            return unreadable(found.path, error)
        return _Decoded(found, content, info, pixels=pixels)

    def _embedded(
        self,
        decoded: list[_Decoded],
        failures: list[Failed],
        recent: dict[bytes, Embedded],
        embedder: ThreadPoolExecutor,
    ) -> Batch:
        """Each picture's descriptor, where it is known, or where it will be; each content is embedded once."""
        fresh = {each.hash: each.pixels for each in decoded if each.pixels is not None and each.hash not in recent}
        if fresh:
            described = embedder.submit(self._network.describe, list(fresh.values()))
            recent |= {content: Embedded(described, row) for row, content in enumerate(fresh)}
        read = [
            Read(each.found, each.hash, each.info, recent[each.hash] if each.vector is None else each.vector)
            for each in decoded
        ]
        for content in list(recent)[:-_REMEMBERED]:
            del recent[content]
        return Batch(read, failures, len(fresh))


@dataclass(frozen=True)
class _Decoded:
    """A file after the readers: either its pixels, or the descriptor (C,) that its content has."""

    found: Found
    hash: bytes
    info: PictureInfo
    pixels: Pixels | None = None
    vector: Array | None = None


def _batched(files: Iterator[_Decoded | Unreadable]) -> Iterator[tuple[list[_Decoded], list[Failed]]]:
    decoded: list[_Decoded] = []
    failures: list[Failed] = []
    for file in files:
        if isinstance(file, Unreadable):
            failures.append(failed(file))
        else:
            decoded.append(file)
        if len(decoded) >= BATCH or len(failures) >= BATCH:
            yield decoded, failures
            decoded, failures = [], []
    if decoded or failures:
        yield decoded, failures


def _held(files: list[Found | Unreadable]) -> int:
    return sum(map(bytes_held, files))


def failed(file: Unreadable) -> Failed:
    """What the catalogue records of a file that cannot be used."""
    return Failed(file.path, file.reason, file.passes)


def info_of(twin: Twin) -> PictureInfo:
    """What is known of a picture by another one of the same content."""
    return PictureInfo(twin.width, twin.height, twin.taken_at, twin.latitude, twin.longitude)
