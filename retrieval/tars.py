"""Tars of pictures, as WebDataset keeps them: each member is a picture by itself, its bytes read where they lie."""

from __future__ import annotations

import os
import tarfile
import tempfile
from collections import Counter, deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from itertools import chain, repeat
from typing import BinaryIO

from retrieval.addresses import is_address, is_tar, member_path
from retrieval.ahead import threads_for
from retrieval.errors import PictureError, cannot_read
from retrieval.remote import MOST_BYTES, Entry, answering, copied
from retrieval.walk import Closed, Found, Met, Opened, Unchanged, Unreadable, is_wanted, unreadable

IsRead = Callable[[bytes, str], bool]
"""Whether the tar with this path and version need not be read."""

_LABEL = b".cls"  # as WebDataset calls a class
_LONGEST = 200  # bytes of a label
_AHEAD = 64  # files met before they are given
_COPIES = 2  # tars on this disk at once, and the one that is read


def tar_file(tar: str) -> BinaryIO:
    """A tar opened for reading: a local one, or a copy of a remote one, which nobody else sees. Raises PictureError."""
    try:
        if not is_address(tar):
            return open(tar, "rb")
        with tempfile.NamedTemporaryFile(prefix="retrieve-", suffix=".tar") as copy:
            copied(tar, copy.name)
            return open(copy.name, "rb")  # it is gone when nobody reads it any more
    except OSError as error:
        raise cannot_read(error) from error


@dataclass(frozen=True)
class Seen:
    """A file that was met: its path in the catalogue, where it lies, its size in bytes, its mtime in nanoseconds.

    `version` is None for a local file, and empty where a server tells nothing by which a file is known again.
    """

    path: bytes
    place: str
    size: int
    mtime: int
    version: str | None
    label: str | None = None

    @property
    def is_tar(self) -> bool:
        return is_tar(self.place)

    @property
    def tar_version(self) -> str:
        """By what a tar is known again; empty where nothing tells."""
        return f"{self.size}-{self.mtime}" if self.version is None else self.version

    @property
    def found(self) -> Found:
        """The same as a picture."""
        return Found(self.path, self.size, self.mtime, self.version, self.label)


def seen_at(path: bytes, entry: Entry, label: str | None = None) -> Seen:
    """A file of a server, as the catalogue is to know it."""
    size, untold = entry.size or 0, f"{entry.size}-{entry.mtime}" if entry.mtime else ""
    return Seen(path, entry.address, size, entry.mtime, entry.version or untold, label)


def opened_tars(seen: Iterator[Seen | Unreadable], passed_over: Counter[str], is_read: IsRead) -> Iterator[Met]:
    """The same with each tar's members in its place; one that need not be read again is `Unchanged`.

    While one is read the next is fetched.
    """
    waiting: deque[tuple[Seen | Unreadable, Future[BinaryIO] | None]] = deque()
    fetching = 0
    with threads_for("tars", 1) as pool:
        for each in chain(seen, repeat(None)):
            if each is not None:
                wanted = isinstance(each, Seen) and each.is_tar and not is_read(each.path, each.tar_version)
                waiting.append((each, pool.submit(tar_file, each.place) if isinstance(each, Seen) and wanted else None))
                fetching += wanted
                if fetching < _COPIES and len(waiting) < _AHEAD:
                    continue
            if not waiting:
                return
            next_one, file = waiting.popleft()
            fetching -= file is not None
            yield from _met(next_one, file, passed_over)


def _met(each: Seen | Unreadable, file: Future[BinaryIO] | None, passed_over: Counter[str]) -> Iterator[Met]:
    if isinstance(each, Unreadable):
        yield each
    elif not each.is_tar:
        yield each.found
    elif file is None:
        yield Unchanged(each.path)
    else:
        try:
            with answering():
                opened = file.result()
        except PictureError as error:
            yield unreadable(each.path, error, is_folder=True)
        else:
            yield from tar_members(each.path, each.tar_version, opened, passed_over)


def tar_members(path: bytes, version: str, file: BinaryIO, passed_over: Counter[str]) -> Iterator[Met]:
    """A tar and its members in the order of their paths; where it is damaged, those before, and the reason.

    A member's label is what the tar says in a `.cls` of the same name, else the name of its folder in the tar.
    """
    yield Opened(path, version)
    found: list[Found] = []
    labels: dict[bytes, str] = {}
    damage: str | None = None
    try:
        with tarfile.open(fileobj=file, mode="r:") as tar:
            for member in tar:
                if member.isreg() and not member.issparse():
                    _take(path, version, file, member, passed_over, found, labels)
                tar.members = []  # type: ignore[attr-defined]  # of which it keeps all
    except (tarfile.TarError, OSError, ValueError) as error:
        damage = f"is damaged or not a tar: {error}"
    for each in sorted(found, key=lambda one: one.path):
        yield each._replace(label=labels.get(_key(each.path[len(path) + 1 :]), each.label))
    if damage is None:
        yield Closed(path)
    else:
        yield Unreadable(path, damage, is_folder=True)


def _take(
    path: bytes,
    version: str,
    file: BinaryIO,
    member: tarfile.TarInfo,
    passed_over: Counter[str],
    found: list[Found],
    labels: dict[bytes, str],
) -> None:
    name = os.fsencode(member.name).removeprefix(b"./")
    read = partial(_part, file, member.offset_data, member.size)
    if name.endswith(_LABEL):
        if member.size <= _LONGEST:
            labels[_key(name)] = read().decode("utf-8", "replace").strip()
    elif not any(part.startswith(b".") for part in name.split(b"/")) and is_wanted(os.path.basename(name), passed_over):
        label = os.path.basename(os.path.dirname(name)).decode("utf-8", "replace")
        place = member_path(path, name, member.offset_data, member.size)
        found.append(Found(place, member.size, int(member.mtime * 10**9), version, label, read))


def _part(file: BinaryIO, start: int, size: int) -> bytes:
    """Bytes of a file, whoever else reads it. Raises PictureError."""
    if size > MOST_BYTES:
        raise PictureError(f"has {size / 1e9:.1f} GB, more than the {MOST_BYTES / 1e9:.1f} that are read")
    try:
        return os.pread(file.fileno(), size, start)
    except OSError as error:
        raise cannot_read(error) from error


def _key(name: bytes) -> bytes:
    """What the files of one sample have in common: all up to the first dot of the last part."""
    folder, slash, last = name.rpartition(b"/")
    return folder + slash + last.partition(b".")[0]
