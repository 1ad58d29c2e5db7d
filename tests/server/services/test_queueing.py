import threading
from collections.abc import Iterator
from concurrent.futures import CancelledError

import pytest

from retrieval.server.errors import RequestRefused
from retrieval.server.services.queueing import BatchWorker, ConcurrencyLimit, JobQueue


class Held:
    """A queue that records its batches, and waits in each until it is released."""

    def __init__(self, most: int, log: list[list[str]]) -> None:
        self.go, self.begun = threading.Semaphore(0), threading.Semaphore(0)
        self.log = log
        self.queue: JobQueue[str, str] = JobQueue(self._run, most)

    def _run(self, jobs: list[str]) -> list[str]:
        self.log.append(list(jobs))
        self.begun.release()
        assert self.go.acquire(timeout=10)
        return [job.upper() for job in jobs]


@pytest.fixture
def held() -> Iterator[tuple[BatchWorker, Held, Held, list[list[str]]]]:
    log: list[list[str]] = []
    short, long = Held(2, log), Held(1, log)
    worker = BatchWorker(short.queue, long.queue)
    yield worker, short, long, log
    for each in (short, long):
        each.go.release(100)
    worker.close()


def test_waiting_jobs_are_done_in_batches_in_turn(held: tuple[BatchWorker, Held, Held, list[list[str]]]) -> None:
    worker, short, long, log = held
    first = worker.submit(short.queue, "a")
    assert short.begun.acquire(timeout=10)
    waiting = [worker.submit(short.queue, name) for name in "bcd"] + [worker.submit(long.queue, name) for name in "xy"]
    assert worker.waiting == 5
    for each in (short, long):
        each.go.release(100)
    assert first.result(10) == "A"
    assert [future.result(10) for future in waiting] == ["B", "C", "D", "X", "Y"]
    assert log == [["a"], ["b", "c"], ["x"], ["d"], ["y"]]


def test_a_cancelled_job_is_not_done(held: tuple[BatchWorker, Held, Held, list[list[str]]]) -> None:
    worker, short, _, log = held
    worker.submit(short.queue, "a")
    assert short.begun.acquire(timeout=10)
    dropped, last = worker.submit(short.queue, "b"), worker.submit(short.queue, "c")
    assert dropped.cancel()
    short.go.release(100)
    assert last.result(10) == "C"
    assert log == [["a"], ["c"]]


def test_an_error_goes_to_its_job_and_a_failed_batch_to_all_its_jobs() -> None:
    def run(jobs: list[int]) -> list[int | Exception]:
        if 0 in jobs:
            raise ZeroDivisionError
        return [ValueError(job) if job < 0 else job for job in jobs]

    queue: JobQueue[int, int] = JobQueue(run, 8)
    worker = BatchWorker(queue)
    good, bad, worst = worker.submit(queue, 2), worker.submit(queue, -1), None
    assert good.result(10) == 2
    with pytest.raises(ValueError, match="-1"):
        bad.result(10)
    worst = worker.submit(queue, 0)
    with pytest.raises(ZeroDivisionError):
        worst.result(10)
    assert worker.submit(queue, 3).result(10) == 3  # the thread still runs
    worker.close()


def test_one_client_has_three_quarters_of_the_places() -> None:
    limit = ConcurrencyLimit(4)
    with limit.slot("a"), limit.slot("a"), limit.slot("a"):
        with pytest.raises(RequestRefused), limit.slot("a"):
            pass
        with limit.slot("b"):
            assert limit.inside == 4
            with pytest.raises(RequestRefused), limit.slot("c"):
                pass
    assert limit.inside == 0


def test_closing_cancels_waiting_jobs(held: tuple[BatchWorker, Held, Held, list[list[str]]]) -> None:
    worker, short, _, _ = held
    begun = worker.submit(short.queue, "a")
    assert short.begun.acquire(timeout=10)
    waiting = worker.submit(short.queue, "b")
    closing = threading.Thread(target=worker.close)
    closing.start()
    with pytest.raises(CancelledError):
        waiting.result(10)
    short.go.release(100)
    closing.join(10)
    assert begun.result(10) == "A"
    with pytest.raises(RuntimeError):
        worker.submit(short.queue, "c")
