"""Tars of pictures, as WebDataset keeps them: each member is a picture by itself, its bytes read where they lie."""

from __future__ import annotations

import os
import tarfile
import tempfile
from collections import Counter, deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from itertools import chain, repeat
from threading import Event
from typing import BinaryIO

from retrieval.common.errors import PictureError, read_error
from retrieval.common.parallel import thread_pool
from retrieval.sources.entries import (
    PictureFile,
    TarEnd,
    TarStart,
    UnchangedTar,
    Unreadable,
    WalkEvent,
    unreadable_entry,
)
from retrieval.sources.local import is_gallery_picture
from retrieval.sources.location import is_address, is_tar, member_path, storable_text
from retrieval.sources.object_store import MOST_BYTES, RemoteEntry, abort_if_unreachable, download, to_nanoseconds

SkipTar = Callable[[bytes, str], bool]
"""Whether the tar with this path and version need not be read."""

_LABEL = b".cls"  # as WebDataset calls a class
_LONGEST = 200  # bytes of a label
_DAMAGE = (tarfile.TarError, OSError, ValueError, OverflowError, MemoryError, RecursionError, PictureError)
_AHEAD = 64  # files met before they are given
_COPIES = 2  # tars on this disk at once, and the one that is read


def open_tar(tar: str, cancelled: Event) -> BinaryIO:
    """A tar opened for reading: a local one, or a copy of a remote one, which nobody else sees.

    Raises PictureError, also where nobody waits for it any more.
    """
    try:
        if not is_address(tar):
            return open(tar, "rb")
        with tempfile.NamedTemporaryFile(prefix="retrieve-", suffix=".tar") as copy:
            download(tar, copy.name, cancelled)
            return open(copy.name, "rb")  # it is gone when nobody reads it any more
    except OSError as error:
        raise read_error(error) from error


@dataclass(frozen=True)
class SourceFile:
    """A file that was met: its path in the catalogue, where it lies, its size in bytes, its mtime in nanoseconds.

    `version` is None for a local file, and empty where a server tells nothing by which a file is known again.
    """

    path: bytes
    location: str
    size: int
    mtime: int
    version: str | None
    label: str | None = None

    @property
    def is_tar(self) -> bool:
        return is_tar(self.location)

    @property
    def tar_version(self) -> str:
        """By what a tar is known again; empty where nothing tells."""
        return f"{self.size}-{self.mtime}" if self.version is None else self.version

    @property
    def picture_file(self) -> PictureFile:
        """The same as a picture."""
        return PictureFile(self.path, self.size, self.mtime, self.version, self.label)


def remote_file(path: bytes, entry: RemoteEntry, label: str | None = None) -> SourceFile:
    """A file of a server, as the catalogue is to know it."""
    size, untold = entry.size or 0, f"{entry.size}-{entry.mtime}" if entry.mtime else ""
    return SourceFile(path, entry.address, size, entry.mtime, entry.version or untold, label)


def path_sort_key(path: bytes, is_container: bool) -> bytes:
    """What a path is sorted by: what is entered with the slash that follows its name in the paths of what is in it."""
    return path + b"/" if is_container else path


def expand_tars(
    files: Iterator[SourceFile | Unreadable], passed_over: Counter[str], skip_tar: SkipTar
) -> Iterator[WalkEvent]:
    """The same with each tar's members in its place; one that need not be read again is `Unchanged`.

    While one is read the next is fetched.
    """
    waiting: deque[tuple[SourceFile | Unreadable, Future[BinaryIO] | None]] = deque()
    fetching = 0
    is_over = Event()
    with thread_pool("tars", 1) as pool, ExitStack() as ending:
        ending.callback(is_over.set)
        for each in chain(files, repeat(None)):
            if each is not None:
                wanted = isinstance(each, SourceFile) and each.is_tar and not skip_tar(each.path, each.tar_version)
                place = each.location if isinstance(each, SourceFile) else ""
                waiting.append((each, pool.submit(open_tar, place, is_over) if wanted else None))
                fetching += wanted
                if fetching < _COPIES and len(waiting) < _AHEAD:
                    continue
            if not waiting:
                return
            next_one, file = waiting.popleft()
            fetching -= file is not None
            yield from _expand(next_one, file, passed_over)


def _expand(
    source: SourceFile | Unreadable, file: Future[BinaryIO] | None, passed_over: Counter[str]
) -> Iterator[WalkEvent]:
    if isinstance(source, Unreadable):
        yield source
    elif not source.is_tar:
        yield source.picture_file
    elif file is None:
        yield UnchangedTar(source.path)
    else:
        try:
            with abort_if_unreachable():
                opened = file.result()
        except PictureError as error:
            yield unreadable_entry(source.path, error, is_folder=True)
        else:
            yield from tar_members(source.path, source.tar_version, opened, passed_over)


def tar_members(path: bytes, version: str, file: BinaryIO, passed_over: Counter[str]) -> Iterator[WalkEvent]:
    """A tar and its members in the order of their paths; where it is damaged, first the reason, then those before.

    A member's label is what the tar says in a `.cls` of the same name, else the name of its folder in the tar.
    """
    yield TarStart(path, version)
    contents = _Contents(path, version, file, passed_over)
    damage = contents.read()
    if damage is not None:
        yield Unreadable(path, f"is damaged or not a tar: {damage}", is_folder=True)
    yield from contents.pictures()
    yield TarEnd(path, is_complete=damage is None)


class _Contents:
    """What is in a tar, collected in one pass over its headers."""

    def __init__(self, path: bytes, version: str, file: BinaryIO, passed_over: Counter[str]) -> None:
        self._path = path
        self._version = version
        self._file = file
        self._passed_over = passed_over
        self._end = os.fstat(file.fileno()).st_size
        self._pictures: list[PictureFile] = []
        self._labels: dict[bytes, str] = {}

    def pictures(self) -> Iterator[PictureFile]:
        """In the order of their paths."""
        for each in sorted(self._pictures, key=lambda one: one.path):
            label = self._labels.get(_sample_key(each.path[len(self._path) + 1 :]), each.label)
            yield each._replace(label=label)

    def read(self) -> str | None:
        """Collect all; what is wrong with the tar, or None. Those before the damage are collected all the same."""
        try:
            with tarfile.open(fileobj=self._file, mode="r:") as tar:
                for member in tar:
                    if member.isreg() and not member.issparse():
                        if not 0 <= member.size <= self._end - member.offset_data:
                            return "a member lies beyond its end"
                        self._add_member(member)
                    tar.members = []  # type: ignore[attr-defined]  # of which it keeps all
                return None if self._has_end_block(tar.offset) else "it breaks off"  # which tarfile takes for its end
        except _DAMAGE as error:
            return str(error) or type(error).__name__

    def _has_end_block(self, offset: int) -> bool:
        """Whether the block of zeros that ends a tar is there."""
        return os.pread(self._file.fileno(), tarfile.BLOCKSIZE, offset) == bytes(tarfile.BLOCKSIZE)

    def _add_member(self, member: tarfile.TarInfo) -> None:
        name = os.fsencode(member.name).removeprefix(b"./")
        read = partial(_read_range, self._file, member.offset_data, member.size)
        if name.endswith(_LABEL):
            if member.size <= _LONGEST:
                self._labels[_sample_key(name)] = storable_text(os.fsdecode(read())).strip()
        elif b"/." not in b"/" + name and is_gallery_picture(os.path.basename(name), self._passed_over):
            place = member_path(self._path, name, member.offset_data, member.size)
            label = storable_text(os.fsdecode(os.path.basename(os.path.dirname(name))))
            self._pictures.append(
                PictureFile(place, member.size, to_nanoseconds(member.mtime), self._version, label, read)
            )


def _read_range(file: BinaryIO, start: int, size: int) -> bytes:
    """Bytes of a file, whoever else reads it. Raises PictureError."""
    if size > MOST_BYTES:
        raise PictureError(f"has {size / 1e9:.1f} GB, more than the {MOST_BYTES / 1e9:.1f} that are read")
    try:
        return os.pread(file.fileno(), size, start)
    except OSError as error:
        raise read_error(error) from error


def _sample_key(name: bytes) -> bytes:
    """What the files of one sample have in common: all up to the first dot of the last part."""
    folder, slash, last = name.rpartition(b"/")
    return folder + slash + last.partition(b".")[0]
