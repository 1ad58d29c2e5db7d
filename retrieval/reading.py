"""What every pipeline does to a file: open it once, hash it, decode it small."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager

from retrieval.addresses import located
from retrieval.pictures import File, content_hash, open_file
from retrieval.walk import Found, Unreadable

_UNTOLD = 2**22  # bytes of a file whose server does not tell them


def bytes_held(file: Found | Unreadable) -> int:
    """How much memory a file takes while it is read: none where it lies on this machine, by itself."""
    if isinstance(file, Unreadable) or file.version is None:
        return 0
    return file.size or _UNTOLD


@contextmanager
def opened(found: Found) -> Iterator[File]:
    """What was found, opened for reading. Raises PictureError."""
    if found.content is not None:
        yield io.BytesIO(found.content())
    else:
        with open_file(located(found.path)) as file:
            yield file


@contextmanager
def hashed(found: Found) -> Iterator[tuple[File, bytes]]:
    """The file, open at its start, and its content's SHA-256. Raises PictureError."""
    with opened(found) as file:
        yield file, content_hash(file)
