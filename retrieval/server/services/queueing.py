"""One thread for the network: what waits is taken in batches, by turns from each lane."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from http import HTTPStatus
from threading import Condition, Thread
from typing import Any, Generic, TypeVar

from threadpoolctl import threadpool_limits

from retrieval.server.errors import RequestRefused

_CLOSING_SECONDS = 2.0

Job = TypeVar("Job")
Done = TypeVar("Done")

RETRY_AFTER = 1
"""Seconds after which a refused request may come again."""


class JobQueue(Generic[Job, Done]):
    """Jobs of one kind. `run` does up to `most` of them at once; of each it gives what came of it, or an error."""

    def __init__(self, run: Callable[[list[Job]], Sequence[Done | Exception]], most: int) -> None:
        self.run = run
        self.most = most
        self.waiting: deque[tuple[Job, Future[Done]]] = deque()

    def take(self) -> list[tuple[Job, Future[Done]]]:
        """The next batch, without jobs that nobody waits for any more."""
        taken: list[tuple[Job, Future[Done]]] = []
        while self.waiting and len(taken) < self.most:
            job, future = self.waiting.popleft()
            if future.set_running_or_notify_cancel():
                taken.append((job, future))
        return taken

    def do(self, taken: list[tuple[Job, Future[Done]]]) -> None:
        """Run a batch and tell each who waits."""
        try:
            done = self.run([job for job, _ in taken])
        except Exception as error:
            done = [error] * len(taken)
        for (_, future), found in zip(taken, done, strict=True):
            if isinstance(found, Exception):
                future.set_exception(found)
            else:
                future.set_result(found)


class BatchWorker:
    """The thread. Each lane gets one batch a turn, so that a short job waits for no more than one long one."""

    def __init__(self, *queues: JobQueue[Any, Any]) -> None:
        self._queues = queues
        self._changed = Condition()
        self._closed = False
        self._thread = Thread(target=self._work, name="network", daemon=True)
        self._thread.start()

    def submit(self, queue: JobQueue[Job, Done], job: Job) -> Future[Done]:
        """Put a job into a lane; what comes of it."""
        future: Future[Done] = Future()
        with self._changed:
            if self._closed:
                raise RuntimeError("the worker is closed")
            queue.waiting.append((job, future))
            self._changed.notify()
        return future

    @property
    def waiting(self) -> int:
        """How many jobs wait."""
        return sum(len(lane.waiting) for lane in self._queues)

    def close(self) -> None:
        """Drop what waits; what is in work is waited for a little, and ends with the process."""
        with self._changed:
            self._closed = True
            for lane in self._queues:
                for _, future in lane.waiting:
                    future.cancel()
                lane.waiting.clear()
            self._changed.notify()
        self._thread.join(_CLOSING_SECONDS)

    def _work(self) -> None:
        # Threads of BLAS and OpenMP wait for each other in a spin: where another process, such as the browser, has one
        # of the cores, a small product takes ten times as long by two of them as by one.
        threadpool_limits(1)
        while not self._closed:
            with self._changed:
                self._changed.wait_for(lambda: self._closed or self.waiting)
                batches = [(lane, lane.take()) for lane in self._queues]
            for lane, taken in batches:
                if taken:
                    lane.do(taken)


class ConcurrencyLimit:
    """Lets so many in at once. Used by one event loop, so it needs no lock."""

    def __init__(self, most: int, retry_after: int = RETRY_AFTER) -> None:
        self.most = most
        self._retry_after = retry_after
        self.inside = 0

    @contextmanager
    def slot(self) -> Iterator[None]:
        """A place inside, until this ends. Raises Refused where there is none."""
        if self.inside >= self.most:
            raise RequestRefused(
                HTTPStatus.SERVICE_UNAVAILABLE,
                f"{self.most} requests are in work already: ask again in a moment",
                self._retry_after,
            )
        self.inside += 1
        try:
            yield
        finally:
            self.inside -= 1
