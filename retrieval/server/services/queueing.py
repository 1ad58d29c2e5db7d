"""A thread for the network, which takes waiting jobs in batches, in turn from several queues."""

from collections import Counter, deque
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
Result = TypeVar("Result")


class JobQueue(Generic[Job, Result]):
    """Jobs of one kind. `run` takes up to `most` of them and returns a result or an error for each."""

    def __init__(self, run: Callable[[list[Job]], Sequence[Result | Exception]], most: int) -> None:
        self.run = run
        self.most = most
        self.waiting: deque[tuple[Job, Future[Result]]] = deque()

    def take(self) -> list[tuple[Job, Future[Result]]]:
        """Take the next batch, without cancelled jobs."""
        batch: list[tuple[Job, Future[Result]]] = []
        while self.waiting and len(batch) < self.most:
            job, future = self.waiting.popleft()
            if future.set_running_or_notify_cancel():
                batch.append((job, future))
        return batch

    def do(self, batch: list[tuple[Job, Future[Result]]]) -> None:
        """Run a batch and set the result of each job's future."""
        try:
            results = self.run([job for job, _ in batch])
        except Exception as error:
            results = [error] * len(batch)
        for (_, future), result in zip(batch, results, strict=True):
            if isinstance(result, Exception):
                future.set_exception(result)
            else:
                future.set_result(result)


class BatchWorker:
    """The thread. Each queue gets one batch a turn, so that a short job waits for no more than one long one."""

    def __init__(self, *queues: JobQueue[Any, Any]) -> None:
        self._queues = queues
        self._changed = Condition()
        self._closed = False
        self._thread = Thread(target=self._work, name="network", daemon=True)
        self._thread.start()

    def submit(self, queue: JobQueue[Job, Result], job: Job) -> Future[Result]:
        """Put a job into a queue; return the future of its result."""
        future: Future[Result] = Future()
        with self._changed:
            if self._closed:
                raise RuntimeError("the worker is closed")
            queue.waiting.append((job, future))
            self._changed.notify()
        return future

    @property
    def waiting(self) -> int:
        """Jobs that wait."""
        return sum(len(queue.waiting) for queue in self._queues)

    def close(self) -> None:
        """Cancel waiting jobs; wait 2 s for the batch in work, which else ends with the process."""
        with self._changed:
            self._closed = True
            for queue in self._queues:
                for _, future in queue.waiting:
                    future.cancel()
                queue.waiting.clear()
            self._changed.notify()
        self._thread.join(_CLOSING_SECONDS)

    def _work(self) -> None:
        # Threads of BLAS and OpenMP spin while they wait for each other: if another process, such as the browser, has
        # one of the cores, a small product takes ten times as long on two threads as on one.
        threadpool_limits(1)
        while not self._closed:
            with self._changed:
                self._changed.wait_for(lambda: self._closed or self.waiting)
                batches = [(queue, queue.take()) for queue in self._queues]
            for queue, batch in batches:
                if batch:
                    queue.do(batch)


class ConcurrencyLimit:
    """A limit to what is in work at once: beyond it, RequestRefused, which may be repeated after some seconds.

    One client may have three quarters of it. Used by one event loop, so it needs no lock.
    """

    def __init__(self, most: int, retry_after: int = 1) -> None:
        self.most = most
        self._retry_after = retry_after
        self._clients = Counter[str]()

    @property
    def inside(self) -> int:
        """How many are in work."""
        return self._clients.total()

    def require_room(self, client: str | None = None) -> None:
        """Raise RequestRefused if there is no slot, or none for this client."""
        share = self.most if client is None else -(-3 * self.most // 4)
        if self.inside >= self.most or self._clients[client or ""] >= share:
            raise RequestRefused(
                HTTPStatus.SERVICE_UNAVAILABLE,
                f"{self.most} requests are in work already: repeat this one in a moment",
                self._retry_after,
            )

    @contextmanager
    def slot(self, client: str | None = None) -> Iterator[None]:
        """Hold a slot. Raises RequestRefused if there is none."""
        self.require_room(client)
        self._clients[client or ""] += 1
        try:
            yield
        finally:
            self._clients[client or ""] -= 1
            self._clients += Counter()  # drops the clients that have none
