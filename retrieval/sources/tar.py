"""Tars of pictures in the layout of WebDataset: each member is a picture, whose bytes are read where they lie."""

import os
import posixpath
import tarfile
import tempfile
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from itertools import chain, repeat
from threading import Event, Lock
from typing import BinaryIO

from retrieval.common.errors import PictureError, read_error
from retrieval.common.parallel import thread_pool
from retrieval.sources.entries import PictureFile, TarEnd, TarStart, UnchangedTar, Unreadable, WalkEvent
from retrieval.sources.local import is_gallery_picture, is_hidden
from retrieval.sources.location import TAR_PREFIX, CatalogueLocation, is_address, is_tar, member_path, storable_text
from retrieval.sources.object_store import abort_if_unreachable, check_size, download, to_nanoseconds

SkipTar = Callable[[bytes, str], bool]
"""Return whether the tar with this path and version need not be read."""

_LABEL_SUFFIX = b".cls"  # as WebDataset names a sample's class
_MAX_LABEL = 200  # bytes
_DAMAGE = (tarfile.TarError, OSError, ValueError, OverflowError, MemoryError, RecursionError, PictureError)
_MAX_WAITING = 64  # files that are walked before they are yielded
_MAX_COPIES = 2  # copies of tars on this disk, beside that of the one being read
_seeking = Lock()


def open_tar(tar: str, cancelled: Event) -> BinaryIO:
    """Open a local tar, or a copy of a remote one that is deleted when it is closed.

    Raises PictureError, also once `cancelled` is set.
    """
    try:
        if not is_address(tar):
            return open(tar, "rb")
        descriptor, copy = tempfile.mkstemp(prefix="retrieve-", suffix=".tar")
        os.close(descriptor)  # Windows opens no file twice
        try:
            download(tar, copy, cancelled)
            delete_on_close = getattr(os, "O_TEMPORARY", 0)  # a flag of Windows alone
            return open(copy, "rb", opener=lambda path, flags: os.open(path, flags | delete_on_close))
        finally:
            with suppress(PermissionError):  # on Windows it is still open
                os.unlink(copy)
    except OSError as error:
        raise read_error(error) from error


def path_sort_key(path: bytes, is_container: bool) -> bytes:
    """Return what a path is sorted by: a container sorts with the slash that follows it in its contents' paths."""
    return path + b"/" if is_container else path


def expand_tars(
    files: Iterator[PictureFile | Unreadable], passed_over: Counter[str], skip_tar: SkipTar, cancelled: Event
) -> Iterator[WalkEvent]:
    """Yield the files, with each tar replaced by its members, or by `UnchangedTar` if it need not be read.

    While one tar is read, the next is fetched, until `cancelled` is set.
    """
    waiting: deque[tuple[Iterable[WalkEvent], int]] = deque()  # and how many copies of tars they need
    fetching = 0
    with thread_pool("tars", 1) as pool:
        for file in chain(files, repeat(None)):
            if file is not None:
                source = CatalogueLocation.parse(file.path).source
                if not isinstance(file, PictureFile) or not is_tar(source):
                    waiting.append(([file], 0))
                elif skip_tar(file.path, _tar_version(file)):
                    waiting.append(([UnchangedTar(file.path)], 0))
                else:
                    opening = pool.submit(open_tar, source.removeprefix(TAR_PREFIX), cancelled)
                    waiting.append((_expand(file, opening, passed_over), 1))
                    fetching += 1
                if fetching < _MAX_COPIES and len(waiting) < _MAX_WAITING:
                    continue
            if not waiting:
                return
            events, copies = waiting.popleft()
            fetching -= copies
            yield from events


def _tar_version(tar: PictureFile) -> str:
    """Return what identifies a tar's content; empty if nothing does."""
    return f"{tar.size}-{tar.mtime}" if tar.version is None else tar.version


def _expand(tar: PictureFile, opening: Future[BinaryIO], passed_over: Counter[str]) -> Iterator[WalkEvent]:
    try:
        with abort_if_unreachable():
            file = opening.result()
    except PictureError as error:
        yield Unreadable.from_error(tar.path, error, is_folder=True)
    else:
        yield from tar_members(tar.path, _tar_version(tar), file, passed_over)


def tar_members(path: bytes, version: str, file: BinaryIO, passed_over: Counter[str]) -> Iterator[WalkEvent]:
    """Yield a tar and its members in the order of their paths; of a damaged one the reason, then those before it.

    A member's label is the text of the `.cls` file of the same name in the tar, or else the name of its folder there.
    """
    yield TarStart(path, version)
    pictures: list[PictureFile | Unreadable] = []
    places: dict[str, tarfile.TarInfo] = {}  # by name, for links to them
    labels: dict[bytes, str] = {}
    damage = None
    try:
        for link in _file_members(file):
            name = _name_within(link.name)
            member = places.get(link.linkname, link) if link.islnk() else link
            read = partial(_read_member, file, member.offset_data, member.size)
            if name.endswith(_LABEL_SUFFIX):
                if member.isreg() and member.size <= _MAX_LABEL:
                    labels[_sample_key(name)] = storable_text(os.fsdecode(read())).strip()
            elif not is_hidden(name, False, passed_over) and is_gallery_picture(os.path.basename(name), passed_over):
                if not member.isreg() or member.issparse():
                    reason = "is a sparse file in a tar" if member.isreg() else "is a link in a tar, not a picture"
                    pictures.append(Unreadable(member_path(path, name, 0, 0), reason))
                    continue
                places[link.name] = member
                location = member_path(path, name, member.offset_data, member.size)
                label = storable_text(os.fsdecode(os.path.basename(os.path.dirname(name))))
                mtime = to_nanoseconds(member.mtime)
                pictures.append(PictureFile(location, member.size, mtime, version, label, read))
    except _DAMAGE as error:
        damage = str(error) or type(error).__name__
        yield Unreadable(path, f"is damaged or not a tar: {damage}", is_folder=True)
    for picture in sorted(pictures, key=lambda picture: picture.path):
        if isinstance(picture, PictureFile):
            picture = picture._replace(label=labels.get(_sample_key(picture.path[len(path) + 1 :]), picture.label))
        yield picture
    yield TarEnd(path, is_complete=damage is None)


def _name_within(name: str) -> bytes:
    """Return a member's name without steps such as `./` and `../`, as programs that unpack it take it."""
    return posixpath.normpath(b"/" + os.fsencode(name)).lstrip(b"/")


def _file_members(file: BinaryIO) -> Iterator[tarfile.TarInfo]:
    """Yield a tar's files and links, in one pass over its headers. Raises one of `_DAMAGE` at any damage."""
    end = os.fstat(file.fileno()).st_size
    with tarfile.open(fileobj=file, mode="r:") as tar:
        for member in tar:
            if member.isreg() and not member.issparse() and not 0 <= member.size <= end - member.offset_data:
                raise tarfile.ReadError("a member lies beyond its end")
            if member.isreg() or member.islnk() or member.issym():
                yield member
            tar.members = []  # type: ignore[attr-defined]  # else it keeps every member in memory
        if _read_at(file, tar.offset, tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
            raise tarfile.ReadError("it breaks off")  # tarfile takes the lack of the last block for the end


def _read_member(file: BinaryIO, offset: int, size: int) -> bytes:
    """Read bytes of a file that other threads read too. Raises PictureError."""
    check_size(size)
    try:
        return _read_at(file, offset, size)
    except OSError as error:
        raise read_error(error) from error


def _read_at(file: BinaryIO, offset: int, size: int) -> bytes:
    """Read bytes without moving the position at which others read."""
    if hasattr(os, "pread"):
        return os.pread(file.fileno(), size, offset)
    with _seeking:  # Windows has no pread
        position = file.tell()
        try:
            file.seek(offset)
            return file.read(size)
        finally:
            file.seek(position)


def _sample_key(name: bytes) -> bytes:
    """Return what the files of one WebDataset sample share: all up to the first dot of the last part."""
    folder, slash, last = name.rpartition(b"/")
    return folder + slash + last.partition(b".")[0]
