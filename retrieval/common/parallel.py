"""Waiting for several things at once: a stream's items worked on ahead, given in their order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from itertools import islice
from typing import TypeVar

T = TypeVar("T")
U = TypeVar("U")

_THREADS, _MOST = 16, 64  # where a server is waited for, not a processor
_HEAVIEST = 2**27  # bytes


def batched(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Yield the items in lists of at most this size (itertools.batched comes with Python 3.12)."""
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch


@contextmanager
def thread_pool(name: str, threads: int = _THREADS) -> Iterator[ThreadPoolExecutor]:
    """Threads that begin nothing more once the block is left; what they are at is waited for."""
    pool = ThreadPoolExecutor(threads, thread_name_prefix=name)
    try:
        yield pool
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def parallel_map(
    function: Callable[[T], U],
    items: Iterable[T],
    threads: int = _THREADS,
    most: int = _MOST,
    item_bytes: Callable[[T], int] | None = None,
) -> Iterator[U]:
    """What a function gives for each item, in order, at most so many items ahead; an exception comes in its place.

    With `weigh`, the bytes that an item holds until the function is done with it, no more wait for threads that are
    busy than are 128 MB together.
    """
    waiting: deque[tuple[Future[U], int]] = deque()
    with thread_pool("ahead", threads) as pool:
        for item in items:
            waiting.append((pool.submit(function, item), item_bytes(item) if item_bytes else 0))
            while len(waiting) >= most or (item_bytes and _exceeds_memory(waiting, threads)):
                yield waiting.popleft()[0].result()
        while waiting:
            yield waiting.popleft()[0].result()


def _exceeds_memory(waiting: Iterable[tuple[Future[U], int]], threads: int) -> bool:
    held: Sequence[int] = [weight for future, weight in waiting if not future.done()]
    return len(held) > threads and sum(held) > _HEAVIEST
