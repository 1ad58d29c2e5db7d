"""The parallel map and prefetching: in order, bounded by number and by memory, and ended with their block."""

from __future__ import annotations

import time
from collections.abc import Iterator
from threading import Event

import numpy as np
import pytest

from retrieval.common import parallel as module
from retrieval.common.parallel import iterate_ahead, parallel_map, thread_pool
from retrieval.model.head import Array
from retrieval.model.preprocessing import Pixels
from retrieval.sources import files
from retrieval.sources.entries import PictureFile
from retrieval.sources.files import prefetch
from retrieval.store.indexing.pipeline import LocalPipeline
from tests.support.galleries import png


def test_results_come_in_order() -> None:
    assert list(parallel_map(lambda number: number * 2, range(200), 4, 8)) == [number * 2 for number in range(200)]


@pytest.mark.slow
def test_items_in_flight_are_bounded_by_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MAX_BYTES", 10)
    may_finish, taken = Event(), list[int]()

    def items() -> Iterator[int]:
        for number in range(20):
            taken.append(number)
            if number == 5:
                may_finish.set()
            yield number

    def work(number: int) -> int:
        may_finish.wait(0.5)
        return number

    stream = parallel_map(work, items(), 2, 100, item_bytes=lambda number: 4)
    assert next(stream) == 0
    assert taken == [0, 1, 2]  # two being worked on, and one that exceeds the limit
    assert list(stream) == list(range(1, 20))


def test_no_task_begins_after_the_pools_block() -> None:
    started: list[int] = []

    def slow(number: int) -> None:
        started.append(number)
        time.sleep(0.1)

    with thread_pool("test", 1) as pool:
        for number in range(10):
            pool.submit(slow, number)
    assert len(started) <= 2


def remote_files(count: int, size: int) -> list[PictureFile]:
    return [PictureFile(b"s3://bucket/%03d.png" % number, size, 1, "v") for number in range(count)]


def test_all_files_are_fetched_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "bytes_at", lambda address, size: address.encode())
    fetched = list(prefetch(remote_files(100, 1)))
    assert [file.read_content() for file in fetched if file.read_content] == [file.path for file in fetched]


def test_fetched_bytes_are_released_once_they_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """At most 256 MB are held, 128 of them by the readers, and none by files that wait to be recorded."""
    size, held, most = 5_000_000, 0, 0

    class Content(bytes):
        def __new__(cls, address: str, expected_size: int) -> Content:
            nonlocal held, most
            held += size
            most = max(most, held)
            return super().__new__(cls, png(int(address[-7:-4])))

        def __del__(self) -> None:
            nonlocal held
            held -= size

    class Stub:
        scans = property(lambda self: self)

        def find_by_content(self, contents: list[bytes], fingerprint: str) -> dict[bytes, object]:
            return {}

        def describe(self, pixels: list[Pixels]) -> Array:
            return np.ones((len(pixels), 4), np.float32)

    monkeypatch.setattr(files, "bytes_at", Content)
    pipeline = LocalPipeline(Stub(), Stub(), "f", 8)  # type: ignore[arg-type]
    batches = list(pipeline.batches(iter(remote_files(300, size))))
    assert sum(len(batch.read) for batch in batches) == 300
    assert most <= 2**28 + 8 * size
    assert held == 0


def test_all_items_come_in_order() -> None:
    assert list(iterate_ahead(range(1000), 7, lambda item: 1, Event())) == list(range(1000))
    assert list(iterate_ahead((), 7, lambda item: 1, Event())) == []


def test_the_weight_of_the_waiting_items_is_bounded() -> None:
    read: list[int] = []

    def source() -> Iterator[int]:
        for number in range(100):
            read.append(number)
            yield number

    ahead = iterate_ahead(source(), 10, lambda item: 5 if item else 1, Event())
    assert next(ahead) == 0
    time.sleep(0.1)
    assert len(read) <= 5  # one was taken, two or three wait, and one has no room
    assert list(ahead) == list(range(1, 100))


def test_the_error_of_a_source_is_raised_at_its_turn() -> None:
    def source() -> Iterator[int]:
        yield 1
        raise ValueError("gone")

    ahead = iterate_ahead(source(), 10, lambda item: 1, Event())
    assert next(ahead) == 1
    with pytest.raises(ValueError, match="gone"):
        next(ahead)


def test_nothing_is_read_once_it_is_closed() -> None:
    cancelled = Event()
    read: list[int] = []

    def source() -> Iterator[int]:
        while not cancelled.is_set():
            read.append(len(read))
            if len(read) < 4:
                yield read[-1]  # then nothing, for as long as nobody cancels

    ahead = iterate_ahead(source(), 10, lambda item: 1, cancelled)
    assert next(ahead) == 0
    ahead.close()
    count = len(read)
    time.sleep(0.05)
    assert cancelled.is_set()
    assert len(read) == count
