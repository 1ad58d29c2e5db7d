"""The pipeline from files to descriptors: they are read and decoded ahead on threads and embedded in batches."""

from __future__ import annotations

import logging
from collections.abc import Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import chain
from typing import NamedTuple, Protocol

from indexes.catalogue.catalogue import Catalogue
from indexes.catalogue.records import FailedFile, KnownContent, NewPicture
from retrieval.common.errors import PictureError, lack_of_memory, read_error
from retrieval.common.parallel import batched, parallel_map
from retrieval.common.text import safe_name
from retrieval.model.head import Array
from retrieval.model.inference import Network
from retrieval.model.preprocessing import PictureInfo, Pixels, read_at_size
from retrieval.sources.entries import PictureFile, Unreadable
from retrieval.sources.files import HashedFile, memory_bytes, open_and_hash, prefetch
from retrieval.sources.object_store import abort_if_unreachable

_LOGGER = logging.getLogger(__name__)
BATCH_SIZE = 32  # pictures in a transaction
_AHEAD = 3 * BATCH_SIZE  # files read and decoded ahead of the network
_TOGETHER = 4  # files that a reader takes at once
_READERS = 2
_PARALLEL_BATCHES = 2  # in the network: one uses the cores that the other leaves free
MAX_IN_FLIGHT = _PARALLEL_BATCHES + 1  # batches: one more is being written
_MAX_RECENT = _AHEAD + (MAX_IN_FLIGHT + 2) * BATCH_SIZE  # contents that a reader may not find in the catalogue yet


class PendingVector(NamedTuple):
    """A descriptor that the network is computing: one row of a batch."""

    batch: Future[Array]
    row: int

    def result(self) -> Array:
        """Wait for the descriptor (C,)."""
        vector: Array = self.batch.result()[self.row]
        return vector


@dataclass(frozen=True)
class ReadFile:
    """A file that was read: its content's SHA-256, the picture's metadata, and its descriptor (C,), now or later."""

    file: PictureFile
    hash: bytes
    info: PictureInfo
    vector: Array | PendingVector

    def to_record(self) -> NewPicture:
        """Return the catalogue's record; wait for the descriptor."""
        return NewPicture(
            path=self.file.path,
            size=self.file.size,
            mtime=self.file.mtime,
            ctime=self.file.ctime,
            hash=self.hash,
            vector=self.vector.result() if isinstance(self.vector, PendingVector) else self.vector,
            version=self.file.version,
            label=self.file.label,
            **vars(self.info),
        )


@dataclass
class Batch:
    """The files of one transaction: those that were read, `embedded` of them by the network, and broken ones."""

    read: list[ReadFile] = field(default_factory=list)
    failures: list[FailedFile] = field(default_factory=list)
    embedded: int = 0

    def __len__(self) -> int:
        return len(self.read) + len(self.failures)


class Pipeline(Protocol):
    """A way from files to descriptors, on this machine or elsewhere."""

    def batches(self, changed: Iterator[PictureFile | Unreadable]) -> Generator[Batch, None, None]:
        """Read and embed these files, about BATCH_SIZE at a time. A broken one fails by itself."""
        ...


class LocalPipeline:
    """A pipeline on this machine, with an opened network for pictures of (size, size), for any number of galleries.

    Known descriptors of the same contents are taken over, unless they are not to be reused.
    """

    def __init__(self, catalogue: Catalogue, network: Network, fingerprint: str, size: int, reuse: bool = True) -> None:
        self._catalogue = catalogue
        self._reuse = reuse
        self._network = network
        self._fingerprint = fingerprint
        self._size = size

    def batches(self, changed: Iterator[PictureFile | Unreadable]) -> Generator[Batch, None, None]:
        """Decode ahead and embed two batches at once; a batch is yielded before its descriptors are computed."""
        recent: dict[bytes, PendingVector] = {}
        with ThreadPoolExecutor(_PARALLEL_BATCHES, thread_name_prefix="embedder") as embedder:
            for decoded, failures in _make_batches(self._read_ahead(changed)):
                yield self._embed_batch(decoded, failures, recent, embedder)

    def _read_ahead(self, changed: Iterator[PictureFile | Unreadable]) -> Iterator[_Decoded | Unreadable]:
        """Read and decode on threads, a bounded number ahead, in order."""
        groups = batched(prefetch(changed), _TOGETHER)
        return chain.from_iterable(
            parallel_map(self._read, groups, _READERS, _AHEAD // _TOGETHER, lambda files: sum(map(memory_bytes, files)))
        )

    def _read(self, files: list[PictureFile | Unreadable]) -> list[_Decoded | Unreadable]:
        """Open and hash some files, look their contents up together, and decode those that are new."""
        with ExitStack() as stack:
            opened = [file if isinstance(file, Unreadable) else _open(file, stack) for file in files]
            contents = [file.hashed.hash for file in opened if isinstance(file, _Opened)]
            known = self._catalogue.scans.find_by_content(contents, self._fingerprint) if self._reuse else {}
            return [
                file if isinstance(file, Unreadable) else self._decode(file, known.get(file.hashed.hash))
                for file in opened
            ]

    def _decode(self, opened: _Opened, known: KnownContent | None) -> _Decoded | Unreadable:
        if known is not None:
            return _Decoded(opened.file, opened.hashed.hash, info_of(known), vector=known.vector)
        try:
            pixels, info = read_at_size(opened.hashed.stream, self._size)
            opened.hashed.check_unchanged()
        except PictureError as error:
            return Unreadable.from_error(opened.file.path, error)
        except OSError as error:
            return Unreadable.from_error(opened.file.path, read_error(error))
        return _Decoded(opened.file, opened.hashed.hash, info, pixels=pixels)

    def _embed_batch(
        self,
        decoded: list[_Decoded],
        failures: list[FailedFile],
        recent: dict[bytes, PendingVector],
        embedder: ThreadPoolExecutor,
    ) -> Batch:
        """Embed each new content once; give every picture its descriptor, or the place where it will be."""
        fresh = {file.hash: file.pixels for file in decoded if file.pixels is not None and file.hash not in recent}
        if fresh:
            described = embedder.submit(self._network.describe, list(fresh.values()))
            recent |= {content: PendingVector(described, row) for row, content in enumerate(fresh)}
        read = [
            ReadFile(file.file, file.hash, file.info, recent[file.hash] if file.vector is None else file.vector)
            for file in decoded
        ]
        for content in list(recent)[:-_MAX_RECENT]:
            del recent[content]
        return Batch(read, failures, len(fresh))


class _Opened(NamedTuple):
    """A file after it was opened and hashed."""

    file: PictureFile
    hashed: HashedFile


def _open(file: PictureFile, stack: ExitStack) -> _Opened | Unreadable:
    """Open and hash a file, which the stack closes."""
    try:
        with abort_if_unreachable():
            hashed = stack.enter_context(open_and_hash(file))
    except PictureError as error:
        return Unreadable.from_error(file.path, error)
    except MemoryError:
        return Unreadable.from_error(file.path, lack_of_memory())
    return _Opened(file._replace(read_content=None), hashed)  # what reads the content is freed


@dataclass(frozen=True)
class _Decoded:
    """A file after the readers, with its pixels, or with the known descriptor (C,) of its content."""

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


def failure_of(file: Unreadable) -> FailedFile:
    """Return the catalogue's record of a file that cannot be used."""
    _LOGGER.info("%s %s", safe_name(file.path), file.reason)
    return FailedFile(file.path, file.reason, file.is_transient)


def info_of(twin: KnownContent) -> PictureInfo:
    """Return the metadata of a picture from another one of the same content."""
    return PictureInfo(twin.width, twin.height, twin.taken_at, twin.latitude, twin.longitude)
