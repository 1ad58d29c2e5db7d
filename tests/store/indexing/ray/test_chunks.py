"""Chunks: all items of the source, in order, and no more of it after the end."""

import time
from collections.abc import Iterator

import pytest

from retrieval.store.indexing.ray import chunks as module
from retrieval.store.indexing.ray.chunks import chunks


def test_all_comes_in_order() -> None:
    assert list(chunks(iter(range(10)), 4)) == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    assert list(chunks(iter(range(8)), 4)) == [[0, 1, 2, 3], [4, 5, 6, 7]]
    assert list(chunks(iter(()), 4)) == []


def test_a_slow_source_is_not_waited_for_while_there_is_something(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_PATIENCE", 0.0)

    def slow() -> Iterator[int]:
        for number in range(3):
            time.sleep(0.05)
            yield number

    assert list(chunks(slow(), 1000)) == [[0], [1], [2]]


def test_a_failing_source_fails_the_chunks() -> None:
    def failing() -> Iterator[int]:
        yield 1
        raise ValueError("gone")

    with pytest.raises(ValueError, match="gone"):
        list(chunks(failing(), 1000))


def test_nothing_is_read_after_the_end() -> None:
    given: list[int] = []

    def endless() -> Iterator[int]:
        while True:
            given.append(len(given))
            yield given[-1]

    some = chunks(endless(), 3)
    assert next(some) == [0, 1, 2]
    some.close()
    count = len(given)
    time.sleep(0.05)
    assert len(given) == count <= 6
