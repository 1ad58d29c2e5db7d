"""The flow of `retrieve index`: walk, skip what is unchanged, hash, reuse, decode, embed, commit."""

from __future__ import annotations

import os
import stat
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from indexes.address import FAISS
from indexes.catalogue import Catalogue, holds
from indexes.errors import StoreError
from indexes.faiss_file import delete_files
from indexes.homes import index_address
from indexes.records import KnownFile, NewPicture, Removed, Twin
from retrieval.errors import GalleryError, PictureError
from retrieval.head import Array
from retrieval.network import Network
from retrieval.pictures import PictureInfo, Pixels, content_hash, load, open_file
from retrieval.upkeep import open_index
from retrieval.walk import Found, Unreadable, walk

BATCH = 32  # pictures of a transaction
_AHEAD = 3 * BATCH  # files read and decoded before the network asks for them
_TOGETHER = 4  # of them that a reader takes at once
_READERS = 2
_EMBEDDED = 2  # batches in the network: one begins where the other leaves a core free
_IN_WORK = _EMBEDDED + 1  # and one that is being written
_REMEMBERED = _AHEAD + (_IN_WORK + 2) * BATCH  # embedded, and perhaps not yet there for a reader that looks

Advance = Callable[[int], None]
"""Called with the number of files that were dealt with since the last call."""


@dataclass(frozen=True)
class IndexReport:
    """What a run did. `added` pictures are new or changed; `reused` of them took a known descriptor.

    `embedded` went through the network; `unchanged` were skipped; `missing` vanished since the last run;
    `failed` are broken, each with its reason in `failures`; `kept_roots` are galleries that seemed empty, or known
    ones that were absent, of which nothing was marked missing; `passed_over` counts files that are named like no
    picture, by the endings of their names; `notes` are sentences on what else was not as it should be.
    """

    added: int
    reused: int
    embedded: int
    unchanged: int
    missing: int
    failures: tuple[tuple[Path, str], ...]
    kept_roots: tuple[Path, ...]
    passed_over: dict[str, int]
    seconds: float
    notes: tuple[str, ...] = ()

    @property
    def failed(self) -> int:
        return len(self.failures)


@dataclass
class _Tally:
    added: int = 0
    reused: int = 0
    embedded: int = 0
    unchanged: int = 0
    missing: int = 0
    failures: list[tuple[bytes, str]] = field(default_factory=list)
    kept_roots: list[Path] = field(default_factory=list)
    passed_over: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True)
class _Read:
    """A file after the readers: its content's hash and either its pixels or the descriptor that they have."""

    found: Found
    hash: bytes
    info: PictureInfo
    pixels: Pixels | None = None
    vector: Array | None = None


class _Embedded(NamedTuple):
    """A descriptor that the network will have given: one row of a batch's."""

    batch: Future[Array]
    row: int

    def wait(self) -> Array:
        vector: Array = self.batch.result()[self.row]
        return vector


def resolve_gallery(gallery: str | os.PathLike[str]) -> bytes:
    """A gallery's absolute path as bytes. Raises GalleryError where it is no folder that can be read."""
    path = Path(gallery)
    try:
        is_folder = stat.S_ISDIR(os.stat(path).st_mode)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise GalleryError(
            f"{path} does not exist, so nothing was marked missing: check the name, or mount its disk"
        ) from error
    except OSError as error:
        raise GalleryError(
            f"{path} cannot be read ({error.strerror}), so nothing was marked missing: check the name and permissions"
        ) from error
    if not is_folder:
        raise GalleryError(f"{path} is not a folder: give the folder that holds the pictures")
    return os.fsencode(os.path.realpath(path))


def outermost(folders: Iterable[bytes]) -> list[bytes]:
    """Each folder once, without those that a walk of another one comes to."""
    each = list(dict.fromkeys(folders))
    return [folder for folder in each if not any(holds(other, folder) for other in each)]


def remove(catalogue: Catalogue, path: str | os.PathLike[str]) -> Removed:
    """Take a picture, or a folder and all below it, out of the store, by any path that leads to it.

    A gallery is known by its real path, and its pictures by the names below that, links among them. So links are
    followed as far as it takes to come to something known, and no further. Raises StoreError.
    """
    absolute = Path(os.path.abspath(path))
    for up in (*reversed(absolute.parents), absolute):
        removed = catalogue.remove(os.fsencode(Path(os.path.realpath(up)) / absolute.relative_to(up)))
        if removed:
            _follow(catalogue)
            return removed
    return Removed()


def _follow(catalogue: Catalogue) -> None:
    """Bring the index's file up to date with what was removed; nothing is left of that."""
    try:
        open_index(catalogue, catalogue.setting("fingerprint") or "", must_save=True).close()
    except StoreError as error:
        if index_address(catalogue) != FAISS:
            raise StoreError(f"it is out of the store, but not yet out of its index: {error}") from error
        delete_files(catalogue.folder)


def index_galleries(
    catalogue: Catalogue,
    network: Network,
    fingerprint: str,
    size: int,
    galleries: Iterable[bytes],
    advance: Advance = lambda files: None,
) -> IndexReport:
    """Bring the catalogue up to date with these folders. Each batch is committed as it is done."""
    started = time.perf_counter()
    tally = _Tally()
    for gallery in galleries:
        _Scan(catalogue, network, fingerprint, size, gallery, tally, advance).run()
    return IndexReport(
        added=tally.added,
        reused=tally.reused,
        embedded=tally.embedded,
        unchanged=tally.unchanged,
        missing=tally.missing,
        failures=tuple((Path(os.fsdecode(path)), reason) for path, reason in tally.failures),
        kept_roots=tuple(tally.kept_roots),
        passed_over=dict(tally.passed_over.most_common()),
        seconds=time.perf_counter() - started,
    )


class _Scan:
    """One pass over one gallery."""

    def __init__(
        self,
        catalogue: Catalogue,
        network: Network,
        fingerprint: str,
        size: int,
        gallery: bytes,
        tally: _Tally,
        advance: Advance,
    ) -> None:
        self.catalogue = catalogue
        self.network = network
        self.fingerprint = fingerprint
        self.size = size
        self.gallery = gallery
        self.tally = tally
        self.advance = advance
        catalogue.root_of(gallery)  # a gallery without pictures is known too
        self.vanished: list[int] = []
        self.returned: list[int] = []
        self.closed_folders: list[bytes] = []
        self.failed: set[bytes] = set()
        self.seen = 0
        self.recent: dict[bytes, _Embedded] = {}

    def run(self) -> None:
        """Readers decode ahead, the network embeds two batches, and one writer commits them in turn."""
        with (
            ThreadPoolExecutor(_EMBEDDED, thread_name_prefix="embedder") as embedder,
            ThreadPoolExecutor(1, thread_name_prefix="writer") as writer,
        ):
            in_work: deque[Future[None]] = deque()
            for batch, failures in self._batches():
                in_work.append(writer.submit(self._commit, batch, failures, self._embed(batch, embedder)))
                if len(in_work) > _IN_WORK:
                    in_work.popleft().result()
            while in_work:
                in_work.popleft().result()
        self._settle_vanished()
        self.catalogue.keep_failures(self.gallery, self.failed)

    def _batches(self) -> Iterator[tuple[list[_Read], list[tuple[bytes, str]]]]:
        batch: list[_Read] = []
        failures: list[tuple[bytes, str]] = []
        for read in self._read_ahead(self._changed()):
            if isinstance(read, _Read):
                batch.append(read)
            else:
                failures.append((read.path, read.reason))
            if len(batch) >= BATCH or len(failures) >= BATCH:
                yield batch, failures
                batch, failures = [], []
        if batch or failures:
            yield batch, failures

    def _changed(self) -> Iterator[Found | Unreadable]:
        """What is new, changed or broken; tells apart on the way what is unchanged, back or gone."""
        for found, known in _merged(
            walk(self.gallery, self.tally.passed_over), self.catalogue.known_files(self.gallery)
        ):
            if isinstance(found, Unreadable):
                if found.is_folder:
                    self.closed_folders.append(found.path + b"/")
                yield found
            elif found is None:
                assert known is not None
                seen = holds(self.gallery, known.path) and not known.path.startswith(tuple(self.closed_folders))
                if seen and not known.missing:
                    self.vanished.append(known.id)
            else:
                self.seen += 1
                if known is None or (known.size, known.mtime) != (found.size, found.mtime):
                    yield found
                elif known.missing:
                    self.returned.append(known.id)
                else:
                    self.tally.unchanged += 1
                    self.advance(1)

    def _read_ahead(self, changed: Iterator[Found | Unreadable]) -> Iterator[_Read | Unreadable]:
        """Read and decode on threads, a bounded number ahead, in order."""
        waiting: deque[Future[list[_Read | Unreadable]]] = deque()
        readers = ThreadPoolExecutor(_READERS, thread_name_prefix="reader")
        try:
            while some := list(islice(changed, _TOGETHER)):
                waiting.append(readers.submit(self._read, some))
                if len(waiting) >= _AHEAD // _TOGETHER:
                    yield from waiting.popleft().result()
            while waiting:
                yield from waiting.popleft().result()
        finally:
            readers.shutdown(wait=True, cancel_futures=True)

    def _read(self, some: list[Found | Unreadable]) -> list[_Read | Unreadable]:
        return [found if isinstance(found, Unreadable) else self._read_one(found) for found in some]

    def _read_one(self, found: Found) -> _Read | Unreadable:
        try:
            with open_file(os.fsdecode(found.path)) as file:
                content = content_hash(file)
                twin = self.catalogue.find_twins([content], self.fingerprint).get(content)
                if twin is not None:
                    return _Read(found, content, _info_of(twin), vector=twin.vector)
                pixels, info = load(file, self.size)
        except PictureError as error:
            return Unreadable(found.path, error.reason)
        return _Read(found, content, info, pixels=pixels)

    def _embed(self, batch: list[_Read], embedder: ThreadPoolExecutor) -> list[Array | _Embedded]:
        """Each picture's descriptor, where it is known, or where it will be; each content is embedded once."""
        fresh = {read.hash: read.pixels for read in batch if read.pixels is not None and read.hash not in self.recent}
        if fresh:
            described = embedder.submit(self.network.describe, list(fresh.values()))
            self.recent |= {content: _Embedded(described, row) for row, content in enumerate(fresh)}
        self.tally.embedded += len(fresh)
        self.tally.reused += len(batch) - len(fresh)
        vectors = [self.recent[read.hash] if read.vector is None else read.vector for read in batch]
        for content in list(self.recent)[:-_REMEMBERED]:
            del self.recent[content]
        return vectors

    def _commit(self, batch: list[_Read], failures: list[tuple[bytes, str]], vectors: list[Array | _Embedded]) -> None:
        pictures = [self._picture(read, vector) for read, vector in zip(batch, vectors, strict=True)]
        self.catalogue.record(self.gallery, self.fingerprint, pictures, failures)
        self.failed.update(path for path, _ in failures)
        self.tally.failures.extend(failures)
        self.tally.added += len(batch)
        self.advance(len(batch) + len(failures))

    def _picture(self, read: _Read, vector: Array | _Embedded) -> NewPicture:
        info = read.info
        return NewPicture(
            path=read.found.path,
            size=read.found.size,
            mtime=read.found.mtime,
            hash=read.hash,
            vector=vector.wait() if isinstance(vector, _Embedded) else vector,
            width=info.width,
            height=info.height,
            taken_at=info.taken_at,
            latitude=info.latitude,
            longitude=info.longitude,
        )

    def _settle_vanished(self) -> None:
        if self.seen == 0 and self.vanished:
            self.tally.kept_roots.append(Path(os.fsdecode(self.gallery)))
            return
        if self.vanished:
            self.catalogue.set_missing(self.vanished, True)
            self.tally.missing += len(self.vanished)
        if self.returned:
            self.catalogue.set_missing(self.returned, False)
            self.tally.added += len(self.returned)
            self.tally.reused += len(self.returned)
            self.advance(len(self.returned))


def _merged(
    found: Iterator[Found | Unreadable], known: Iterator[KnownFile]
) -> Iterator[tuple[Found | Unreadable | None, KnownFile | None]]:
    """Join two streams that are both in the order of their paths."""
    here, there = next(found, None), next(known, None)
    while here is not None or there is not None:
        if there is None or (here is not None and here.path < there.path):
            yield here, None
            here = next(found, None)
        elif here is None or there.path < here.path:
            yield None, there
            there = next(known, None)
        else:
            yield here, there
            here, there = next(found, None), next(known, None)


def _info_of(twin: Twin) -> PictureInfo:
    return PictureInfo(twin.width, twin.height, twin.taken_at, twin.latitude, twin.longitude)
