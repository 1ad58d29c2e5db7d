"""What every pipeline does to a file: open it once, hash it, decode it small."""

from __future__ import annotations

import hashlib
import io
import os
import stat
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar, cast

from retrieval.common.errors import PictureError, read_error
from retrieval.common.parallel import thread_pool
from retrieval.sources.entries import PictureFile, Unreadable
from retrieval.sources.location import is_address, parse_location, parse_member

_UNKNOWN_SIZE = 2**22  # bytes of a file whose server does not tell them
BinaryFile = io.BufferedReader | io.BytesIO

_ENDINGS = (
    "jpg jpeg jpe jfif mpo png apng webp gif avif heic heif hif tif tiff bmp dib jp2 j2k jpf jpx j2c ppm pgm pbm pnm"
)
SUFFIXES = frozenset("." + ending for ending in _ENDINGS.split())

_PREFETCH_FILES = 64  # files
_PREFETCH_BYTES = 2**27

F = TypeVar("F", bound=PictureFile | Unreadable)


def memory_bytes(file: PictureFile | Unreadable) -> int:
    """How much memory a file takes while it is read: none where it lies on this machine, by itself."""
    if isinstance(file, Unreadable) or file.version is None:
        return 0
    return file.size or _UNKNOWN_SIZE


@contextmanager
def open_picture(picture: PictureFile) -> Iterator[BinaryFile]:
    """What was found, opened for reading. Raises PictureError."""
    if picture.content is not None:
        yield io.BytesIO(picture.content())
    else:
        with open_file(parse_location(picture.path)) as file:
            yield file


@contextmanager
def open_and_hash(picture: PictureFile) -> Iterator[tuple[BinaryFile, bytes]]:
    """The file, open at its start, and its content's SHA-256. Raises PictureError."""
    with open_picture(picture) as file:
        yield file, content_hash(file)


def is_picture_name(path: os.PathLike[str] | str) -> bool:
    """Whether the name ends like a picture that can be opened (any case)."""
    return os.path.splitext(os.fspath(path))[1].lower() in SUFFIXES


def bytes_at(address: str, size: int | None = None) -> bytes:
    """What lies at an address, whole: an object, a page, or a member of a tar. Raises PictureError.

    Where its size is not known, it is asked for before: what is too large is not fetched.
    """
    member = parse_member(address)
    if member is None:
        from retrieval.sources.object_store import fetch_remote

        return fetch_remote(address, size)
    if is_address(member.tar):
        from retrieval.sources.object_store import fetch_remote

        return fetch_remote(member.tar, member.size, member.offset)
    with open_file(member.tar) as tar:
        tar.seek(member.offset)
        return tar.read(member.size)


@contextmanager
def open_file(path: str | os.PathLike[str]) -> Iterator[BinaryFile]:
    """A regular file opened for reading, or what lies at an address; anything else raises PictureError."""
    address = os.fspath(path)
    if isinstance(address, str) and is_address(address):
        yield io.BytesIO(bytes_at(address))
        return
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise PictureError("is not a regular file")
        with open(path, "rb") as file:
            yield file
    except FileNotFoundError as error:
        reason = "is a link to nothing" if os.path.islink(path) else "does not exist"
        raise PictureError(reason) from error
    except ValueError as error:
        raise PictureError("has a name that no file can have") from error
    except OSError as error:
        raise read_error(error) from error


def content_hash(file: BinaryFile) -> bytes:
    """SHA-256 of the whole file (32 bytes); the file is left at its start."""
    digest = hashlib.file_digest(file, "sha256").digest()
    file.seek(0)
    return digest


def prefetch(files: Iterable[F]) -> Iterator[F]:
    """The same in the same order; the content of those that lie elsewhere is on its way here, at most 128 MB of it.

    It is held for as long as what was given here is.
    """
    waiting: deque[F] = deque()
    held = 0
    with thread_pool("fetcher") as pool:
        for file in files:
            begun = _start_fetch(file, pool)
            if not waiting and begun is file:
                yield file
                continue
            waiting.append(begun)
            held += memory_bytes(file)
            while len(waiting) > _PREFETCH_FILES or held > _PREFETCH_BYTES:
                held -= memory_bytes(waiting[0])
                yield waiting.popleft()
        while waiting:
            yield waiting.popleft()
        pool.shutdown()  # what was given last may still be on its way


def _start_fetch(file: F, pool: ThreadPoolExecutor) -> F:
    if isinstance(file, Unreadable) or file.content is not None:
        return file
    place = os.fspath(parse_location(file.path))
    if not is_address(place):
        return file
    return cast(F, file._replace(content=pool.submit(bytes_at, place, file.size or None).result))
