"""Chunks of an iterator that is read ahead: the next chunk is collected while one is worked on."""

import time
from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Event
from typing import TypeVar

T = TypeVar("T")

_PATIENCE = 5.0  # seconds that a slow source may take over a chunk that is waited for


def chunks(source: Iterator[T], most: int) -> Generator[list[T], None, None]:
    """Yield all items of the source, at most `most` at once; fewer if it is slow and the caller waits for them.

    The source is read on a thread of its own, and no longer after this generator is closed.
    """
    is_awaited, is_closed = Event(), Event()
    is_awaited.set()

    def collect() -> list[T]:
        started = time.monotonic()
        chunk: list[T] = []
        for item in source:
            chunk.append(item)
            is_late = is_awaited.is_set() and time.monotonic() > started + _PATIENCE
            if len(chunk) == most or is_late or is_closed.is_set():
                break
        return chunk

    with ThreadPoolExecutor(1, thread_name_prefix="walker") as walker:
        try:
            following = walker.submit(collect)
            while chunk := following.result():
                is_awaited.clear()
                following = walker.submit(collect)
                yield chunk
                is_awaited.set()
        finally:
            is_closed.set()
