from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import CancelledError

import pytest

from retrieval.server.services.queueing import BatchWorker, JobQueue


class Held:
    """A lane that notes its batches, and waits in each until it is let go."""

    def __init__(self, most: int, log: list[list[str]]) -> None:
        self.go, self.begun = threading.Semaphore(0), threading.Semaphore(0)
        self.log = log
        self.lane: JobQueue[str, str] = JobQueue(self._run, most)

    def _run(self, jobs: list[str]) -> list[str]:
        self.log.append(list(jobs))
        self.begun.release()
        assert self.go.acquire(timeout=10)
        return [job.upper() for job in jobs]


@pytest.fixture
def held() -> Iterator[tuple[BatchWorker, Held, Held, list[list[str]]]]:
    log: list[list[str]] = []
    short, long = Held(2, log), Held(1, log)
    worker = BatchWorker(short.lane, long.lane)
    yield worker, short, long, log
    for each in (short, long):
        each.go.release(100)
    worker.close()


def test_what_waits_is_done_in_batches_by_turns(held: tuple[BatchWorker, Held, Held, list[list[str]]]) -> None:
    worker, short, long, log = held
    first = worker.submit(short.lane, "a")
    assert short.begun.acquire(timeout=10)
    waiting = [worker.submit(short.lane, name) for name in "bcd"] + [worker.submit(long.lane, name) for name in "xy"]
    assert worker.waiting == 5
    for each in (short, long):
        each.go.release(100)
    assert first.result(10) == "A"
    assert [future.result(10) for future in waiting] == ["B", "C", "D", "X", "Y"]
    assert log == [["a"], ["b", "c"], ["x"], ["d"], ["y"]]


def test_a_job_that_nobody_waits_for_is_not_done(held: tuple[BatchWorker, Held, Held, list[list[str]]]) -> None:
    worker, short, _, log = held
    worker.submit(short.lane, "a")
    assert short.begun.acquire(timeout=10)
    dropped, kept = worker.submit(short.lane, "b"), worker.submit(short.lane, "c")
    assert dropped.cancel()
    short.go.release(100)
    assert kept.result(10) == "C"
    assert log == [["a"], ["c"]]


def test_one_error_is_told_to_whom_it_belongs_and_a_failed_batch_to_all() -> None:
    def run(jobs: list[int]) -> list[int | Exception]:
        if 0 in jobs:
            raise ZeroDivisionError
        return [ValueError(job) if job < 0 else job for job in jobs]

    lane: JobQueue[int, int] = JobQueue(run, 8)
    worker = BatchWorker(lane)
    good, bad, worst = worker.submit(lane, 2), worker.submit(lane, -1), None
    assert good.result(10) == 2
    with pytest.raises(ValueError, match="-1"):
        bad.result(10)
    worst = worker.submit(lane, 0)
    with pytest.raises(ZeroDivisionError):
        worst.result(10)
    assert worker.submit(lane, 3).result(10) == 3  # the thread goes on
    worker.close()


def test_closing_drops_what_waits(held: tuple[BatchWorker, Held, Held, list[list[str]]]) -> None:
    worker, short, _, _ = held
    begun = worker.submit(short.lane, "a")
    assert short.begun.acquire(timeout=10)
    waiting = worker.submit(short.lane, "b")
    closing = threading.Thread(target=worker.close)
    closing.start()
    with pytest.raises(CancelledError):
        waiting.result(10)
    short.go.release(100)
    closing.join(10)
    assert begun.result(10) == "A"
    with pytest.raises(RuntimeError):
        worker.submit(short.lane, "c")
