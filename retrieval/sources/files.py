"""Pictures' files: opened, hashed, fetched and prefetched."""

import hashlib
import io
import os
import stat
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import NamedTuple, TypeVar, cast

from retrieval.common.errors import PictureError, TransientPictureError, read_error
from retrieval.common.parallel import thread_pool
from retrieval.sources.entries import PictureFile, Unreadable
from retrieval.sources.location import CatalogueLocation, is_address, parse_location
from retrieval.sources.object_store import fetch_remote

_UNKNOWN_SIZE = 2**22  # bytes that a file of unknown size is taken to have
BinaryFile = io.BufferedReader | io.BytesIO

_FORMATS = (
    "jpg jpeg jpe jfif mpo png apng webp gif avif heic heif hif tif tiff bmp dib jp2 j2k jpf jpx j2c ppm pgm pbm pnm"
)
SUFFIXES = frozenset("." + ending for ending in _FORMATS.split())

_PREFETCH_FILES = 64  # files
_PREFETCH_BYTES = 2**27

MAX_WALKED_AHEAD = 200_000  # files between a walk and what uses them: about 60 MB
_MAX_OPEN = 64  # of them members of open tars, of which remote ones are copies on the disk

F = TypeVar("F", bound=PictureFile | Unreadable)


def walk_weight(item: object) -> int:
    """Return what an item of a walk counts for among `MAX_WALKED_AHEAD`: more if it holds a tar open."""
    return MAX_WALKED_AHEAD // _MAX_OPEN if isinstance(item, PictureFile) and item.read_content is not None else 1


def memory_bytes(file: PictureFile | Unreadable) -> int:
    """Return how many bytes of memory a file takes while it is read: none if it is a local file of its own."""
    if isinstance(file, Unreadable) or file.version is None:
        return 0
    return file.size or _UNKNOWN_SIZE


@contextmanager
def open_picture(picture: PictureFile) -> Iterator[BinaryFile]:
    """Open a picture for reading. Raises PictureError."""
    if picture.read_content is not None:
        yield io.BytesIO(picture.read_content())
    else:
        with open_file(parse_location(picture.path)) as file:
            yield file


class HashedFile(NamedTuple):
    """A picture's file, open at its start, the SHA-256 of its content, and its size and times from before."""

    stream: BinaryFile
    hash: bytes
    state: tuple[int, ...]

    def check_unchanged(self) -> None:
        """Raise TransientPictureError if the file was written since it was hashed: what was read may be another."""
        if _file_state(self.stream) != self.state:
            raise TransientPictureError("was changed while it was read: index it again")


@contextmanager
def open_and_hash(picture: PictureFile) -> Iterator[HashedFile]:
    """Open and hash a picture's file. Raises PictureError."""
    with open_picture(picture) as file:
        state = _file_state(file)
        yield HashedFile(file, content_hash(file), state)


def _file_state(file: BinaryFile) -> tuple[int, ...]:
    if isinstance(file, io.BytesIO):
        return ()
    found = os.fstat(file.fileno())
    return found.st_size, found.st_mtime_ns, found.st_ctime_ns


def is_picture_name(path: os.PathLike[str] | str) -> bool:
    """Return whether the name ends like that of a picture that can be opened (any case)."""
    return os.path.splitext(os.fspath(path))[1].lower() in SUFFIXES


def bytes_at(address: str, size: int | None = None) -> bytes:
    """Return the bytes of an object, a page or a member of a tar. Raises PictureError.

    If the size is unknown it is looked up first: what is too large is not fetched.
    """
    member = CatalogueLocation.parse(address)
    if not member.container:
        return fetch_remote(address, size)
    if is_address(member.container):
        return fetch_remote(member.container, member.size, member.offset)
    with open_file(member.container) as tar:
        tar.seek(member.offset)
        return tar.read(member.size)


@contextmanager
def open_file(path: str | os.PathLike[str]) -> Iterator[BinaryFile]:
    """Open a regular file or an address for reading. Raises PictureError."""
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


def whole_content(file: BinaryFile) -> bytes:
    """Return all bytes of an open file, and leave it where it is."""
    place = file.tell()
    file.seek(0)
    content = file.read()
    file.seek(place)
    return content


def content_hash(file: BinaryFile) -> bytes:
    """Return the SHA-256 of the whole file (32 bytes), and leave the file at its start."""
    digest = hashlib.file_digest(file, "sha256").digest()
    file.seek(0)
    return digest


def prefetch(files: Iterable[F]) -> Iterator[F]:
    """Yield the same files in order, with remote contents being fetched ahead, at most 128 MB of them.

    A content is held for as long as its file is.
    """
    waiting: deque[F] = deque()
    held = 0
    with thread_pool("fetcher") as pool:
        for file in files:
            started = _start_fetch(file, pool)
            if not waiting and started is file:
                yield file
                continue
            waiting.append(started)
            held += memory_bytes(file)
            while len(waiting) > _PREFETCH_FILES or held > _PREFETCH_BYTES:
                held -= memory_bytes(waiting[0])
                yield waiting.popleft()
        while waiting:
            yield waiting.popleft()
        pool.shutdown()  # waits for the last fetches


def _start_fetch(file: F, pool: ThreadPoolExecutor) -> F:
    if isinstance(file, Unreadable) or file.read_content is not None:
        return file
    source = CatalogueLocation.parse(file.path).source
    if not is_address(source):
        return file
    return cast(F, file._replace(read_content=pool.submit(bytes_at, source, file.size or None).result))
