"""What a walk finds, in portions: the next one is collected while one is worked on."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Event
from typing import TypeVar

T = TypeVar("T")

_PATIENCE = 5.0  # seconds that a walk may take over a portion that is waited for


def chunks(source: Iterator[T], most: int) -> Generator[list[T], None, None]:
    """All of the source, at most so many at once; fewer where it is slow and nothing else is left to work on.

    The source is read on a thread of its own, and no more after this generator is closed.
    """
    is_awaited, is_over = Event(), Event()

    def collect() -> list[T]:
        began = time.monotonic()
        some: list[T] = []
        while len(some) < most and not is_over.is_set():
            if some and is_awaited.is_set() and time.monotonic() > began + _PATIENCE:
                break
            try:
                some.append(next(source))
            except StopIteration:
                break
        return some

    with ThreadPoolExecutor(1, thread_name_prefix="walker") as walker:
        try:
            following = walker.submit(collect)
            while True:
                is_awaited.set()
                portion = following.result()
                if not portion:
                    return
                is_awaited.clear()
                following = walker.submit(collect)
                yield portion
        finally:
            is_over.set()
