"""Work on threads: a bounded, ordered map, and pools that end with their block."""

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from itertools import islice
from threading import Condition, Event
from typing import TypeVar

T = TypeVar("T")
U = TypeVar("U")

_THREADS, _MAX_WAITING = 16, 64  # for work that waits for servers, not for processors
_MAX_BYTES = 2**27


def batched(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Yield the items in lists of at most this size (itertools.batched comes with Python 3.12)."""
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch


def iterate_ahead(
    source: Iterable[T], most: int, weight: Callable[[T], int], cancelled: Event
) -> Generator[T, None, None]:
    """Yield the items of a source that is read on a thread of its own, until items of the weight `most` are waiting.

    The source's exception is raised at its turn. When this generator is closed, `cancelled` is set, the source is read
    no further, and the item that it is at is waited for.
    """
    waiting: deque[T] = deque()
    held = 0
    changed = Condition()

    def has_room() -> bool:
        return held < most or cancelled.is_set()

    def read() -> None:
        nonlocal held
        for item in source:
            with changed:
                changed.wait_for(has_room)
                if cancelled.is_set():
                    return
                waiting.append(item)
                held += weight(item)
                changed.notify()

    def wake(reading: Future[None]) -> None:
        with changed:
            changed.notify()

    with ThreadPoolExecutor(1, thread_name_prefix="reader") as thread:
        reading = thread.submit(read)
        reading.add_done_callback(wake)
        try:
            while True:
                with changed:
                    changed.wait_for(lambda: waiting or reading.done())
                    if not waiting:
                        break
                    item = waiting.popleft()
                    held -= weight(item)
                    changed.notify()
                yield item
            reading.result()
        finally:
            cancelled.set()
            with changed:
                changed.notify()


@contextmanager
def thread_pool(name: str, threads: int = _THREADS) -> Iterator[ThreadPoolExecutor]:
    """Yield a pool of threads. When the block ends, no further task begins, and those running are waited for."""
    pool = ThreadPoolExecutor(threads, thread_name_prefix=name)
    try:
        yield pool
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def parallel_map(
    function: Callable[[T], U],
    items: Iterable[T],
    threads: int = _THREADS,
    most: int = _MAX_WAITING,
    item_bytes: Callable[[T], int] | None = None,
) -> Iterator[U]:
    """Map in parallel, in order, with at most `most` items in flight; an item's exception is raised at its turn.

    `item_bytes` is the memory that an item holds until the function is done with it: beyond one item per thread, no
    more than 128 MB are in flight.
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
    sizes = [size for future, size in waiting if not future.done()]
    return len(sizes) > threads and sum(sizes) > _MAX_BYTES
