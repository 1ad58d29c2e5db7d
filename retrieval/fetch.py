"""Files of servers fetched some way ahead of those who read them: waiting for many at once costs what one does."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar, cast

from retrieval.addresses import is_address, located
from retrieval.common.parallel import threads_for
from retrieval.pictures import bytes_at
from retrieval.reading import bytes_held
from retrieval.walk import Found, Unreadable

_MOST = 64  # files
_MOST_BYTES = 2**27

F = TypeVar("F", bound=Found | Unreadable)


def fetch_ahead(files: Iterable[F]) -> Iterator[F]:
    """The same in the same order; the content of those that lie elsewhere is on its way here, at most 128 MB of it.

    It is held for as long as what was given here is.
    """
    waiting: deque[F] = deque()
    held = 0
    with threads_for("fetcher") as pool:
        for file in files:
            begun = _begun(file, pool)
            if not waiting and begun is file:
                yield file
                continue
            waiting.append(begun)
            held += bytes_held(file)
            while len(waiting) > _MOST or held > _MOST_BYTES:
                held -= bytes_held(waiting[0])
                yield waiting.popleft()
        while waiting:
            yield waiting.popleft()
        pool.shutdown()  # what was given last may still be on its way


def _begun(file: F, pool: ThreadPoolExecutor) -> F:
    if isinstance(file, Unreadable) or file.content is not None:
        return file
    place = os.fspath(located(file.path))
    if not is_address(place):
        return file
    return cast(F, file._replace(content=pool.submit(bytes_at, place, file.size or None).result))
