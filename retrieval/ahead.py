"""Waiting for several things at once: a stream's items worked on ahead, given in their order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

T = TypeVar("T")
U = TypeVar("U")

_THREADS, _MOST = 16, 64  # where a server is waited for, not a processor


def ahead(function: Callable[[T], U], items: Iterable[T], threads: int = _THREADS, most: int = _MOST) -> Iterator[U]:
    """What a function gives for each item, in order, at most so many items ahead; an exception comes in its place."""
    waiting: deque[Future[U]] = deque()
    with workers(threads, "ahead") as pool:
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) >= most:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


@contextmanager
def workers(threads: int, name: str) -> Iterator[ThreadPoolExecutor]:
    """Threads that begin nothing more at the end."""
    pool = ThreadPoolExecutor(threads, thread_name_prefix=name)
    try:
        yield pool
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
