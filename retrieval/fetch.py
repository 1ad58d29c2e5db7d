"""Files of servers fetched some way ahead of those who read them: waiting for many at once costs what one does."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar, cast

from retrieval.addresses import is_address, located
from retrieval.pictures import bytes_at
from retrieval.walk import Found, Unreadable

_THREADS = 16
_MOST = 64  # files
_MOST_BYTES = 2**28
_UNTOLD = 2**20  # bytes that one may have of which that is not known


F = TypeVar("F", bound=Found | Unreadable)


def fetch_ahead(files: Iterable[F]) -> Iterator[F]:
    """The same in the same order; the content of those that lie elsewhere is on its way here."""
    waiting: deque[F] = deque()
    held = 0
    pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="fetcher")
    try:
        for file in files:
            begun = _begun(file, pool)
            if not waiting and begun is file:
                yield file
                continue
            waiting.append(begun)
            held += fetched_size(file)
            while len(waiting) > _MOST or held > _MOST_BYTES:
                held -= fetched_size(waiting[0])
                yield waiting.popleft()
        yield from waiting
    except BaseException:
        pool.shutdown(cancel_futures=True)
        raise
    pool.shutdown(wait=False)  # what was given last may still be on its way


def _begun(file: F, pool: ThreadPoolExecutor) -> F:
    if isinstance(file, Unreadable) or file.content is not None:
        return file
    place = os.fspath(located(file.path))
    if not is_address(place):
        return file
    return cast(F, file._replace(content=pool.submit(bytes_at, place, file.size or None).result))


def fetched_size(file: Found | Unreadable) -> int:
    """The bytes that a file which is fetched will be held with, and 0 for others."""
    if isinstance(file, Unreadable) or not is_address(os.fspath(located(file.path))):
        return 0
    return file.size or _UNTOLD
