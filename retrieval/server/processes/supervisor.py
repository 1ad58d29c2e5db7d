"""Keep so many processes alive until told to stop: one that dies is started again."""

from __future__ import annotations

import multiprocessing
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait

from retrieval.common.errors import RetrievalError
from retrieval.server.processes.signals import STOP_SIGNALS, handle_signals

Task = Callable[[Connection], None]
"""Told down its line None when it is ready, or one sentence that says why it cannot be."""

_POLL_SECONDS = 0.2  # between two looks whether it is time to stop, or to start a process again
_SPAWN = multiprocessing.get_context("spawn")


@dataclass(frozen=True)
class RestartPolicy:
    """In seconds: the pause before a process is started again is none at first, then doubles up to `longest`.

    After `most` deaths in a row all end; a process that has lived for `steady` begins a new row. What does not end
    within `ending` is killed.
    """

    most: int = 7
    pause: float = 0.5
    longest: float = 30.0
    stable_after: float = 60.0
    stop_timeout: float = 10.0

    def pause_after(self, deaths: int) -> float:
        """The pause after so many deaths in a row."""
        return 0.0 if deaths < 2 else min(self.longest, self.pause * 2.0 ** (deaths - 2))


RESTART_POLICY = RestartPolicy()


class Supervisor:
    """Runs a task in each process, which must end on SIGTERM, and when its line does.

    `on_death` is given the id of a process that died, and a sentence. One that the system did not start is a death too,
    of no id.
    """

    def __init__(
        self,
        count: int,
        task: Task,
        on_death: Callable[[int | None, str], None],
        policy: RestartPolicy = RESTART_POLICY,
    ) -> None:
        self._on_death = on_death
        self._policy = policy
        self._workers = [_WorkerProcess(task) for _ in range(count)]
        self._stopping = False

    def run(self, on_ready: Callable[[], None]) -> None:
        """Until SIGINT, SIGTERM or SIGHUP; `on_ready` is called once all are ready.

        The first is ready before the others are started, as it may have to prepare what all need. Raises RetrievalError
        where one is never ready, or they die again and again.
        """
        with handle_signals(STOP_SIGNALS, self._stop):
            try:
                for some in (self._workers[:1], self._workers[1:]):
                    for kept in some:
                        self._start(kept)
                    while not self._stopping and not all(kept.was_ready for kept in some):
                        self._poll()
                if not self._stopping:
                    on_ready()
                while not self._stopping:
                    self._poll()
            finally:
                self._stop_all()

    def _poll(self) -> None:
        """Wait a little for what processes tell and for deaths, and start again whose pause is over."""
        wait([end for kept in self._workers for end in kept.waitables()], _POLL_SECONDS)
        for kept in self._workers:
            kept.listen()
            if self._stopping:
                return
            if kept.has_died():
                self._reap(kept)
            if kept.awaits_restart and time.monotonic() >= kept.since + self._policy.pause_after(kept.deaths):
                self._start(kept)

    def _start(self, worker: _WorkerProcess) -> None:
        """Start a process. Where the system does not, that is a death. Raises RetrievalError where it is one too many.

        Processes, memory or open files may have run out, and may be there again later.
        """
        try:
            worker.start()
        except OSError as error:
            why = f"could not be started ({error.strerror or error})"
            self._count(worker, 0.0, why)
            self._on_death(None, f"a process of the server {why}: that is tried again")

    def _reap(self, worker: _WorkerProcess) -> None:
        """Tell of a death. Raises RetrievalError where it is one too many."""
        process, seconds, why = worker.reap()
        self._count(worker, seconds, why)
        self._on_death(process, f"process {process} of the server {why}: another one takes its place")

    def _count(self, worker: _WorkerProcess, seconds: float, why: str) -> None:
        """One more death, after so many seconds of life. Raises RetrievalError where it is one too many."""
        if not worker.was_ready:
            raise RetrievalError(worker.message or f"a process of the server {why} before it could serve")
        worker.deaths = 1 if seconds >= self._policy.stable_after else worker.deaths + 1
        if worker.deaths >= self._policy.most:
            raise RetrievalError(
                f"a process of the server died {worker.deaths} times in a row, as it {why}: see whether the machine has"
                " memory for so many, or give fewer --processes"
            )

    def _stop_all(self) -> None:
        """Tell all to end, and kill what does not."""
        processes = [kept.process for kept in self._workers if kept.process is not None]
        for process in processes:
            process.terminate()
        until = time.monotonic() + self._policy.stop_timeout
        for process in processes:
            process.join(max(0.0, until - time.monotonic()))
            process.kill()
            process.join()

    def _stop(self, *_: object) -> None:
        self._stopping = True


class _WorkerProcess:
    """A process, and after its death the next one; `since` is when it was started or died."""

    def __init__(self, task: Task) -> None:
        self.process: multiprocessing.context.SpawnProcess | None = None
        self.was_ready = False
        self.deaths = 0
        self.since = 0.0
        self.message = ""
        self._task = task
        self._pipe: Connection | None = None

    @property
    def awaits_restart(self) -> bool:
        """Whether it has died and was not started again."""
        return self.process is None and self.deaths > 0

    def start(self) -> None:
        """Start it. Raises OSError, and then there is none."""
        self.since, self.message = time.monotonic(), ""
        ours, theirs = _SPAWN.Pipe()
        process = _SPAWN.Process(target=self._task, args=(theirs,), daemon=True)
        # Ctrl-C in a terminal comes to all processes: to a new one not before it has said what that means to it.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGHUP))
        try:
            process.start()
        except BaseException:
            ours.close()
            raise
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            theirs.close()
        self.process, self._pipe, self.since = process, ours, time.monotonic()

    def waitables(self) -> list[Connection | int]:
        """What can be waited for."""
        line: list[Connection | int] = [] if self._pipe is None else [self._pipe]
        return line if self.process is None else [*line, self.process.sentinel]

    def listen(self) -> None:
        """Take what it has told."""
        try:
            while self._pipe is not None and self._pipe.poll():
                said = self._pipe.recv()
                self.was_ready |= said is None
                self.message = said or ""
        except (EOFError, OSError):
            self._close_pipe()

    def has_died(self) -> bool:
        """Whether it has, and was not buried yet."""
        return self.process is not None and not self.process.is_alive()

    def reap(self) -> tuple[int, float, str]:
        """Its id, how many seconds it has lived, and how it ended."""
        assert self.process is not None
        assert self.process.pid is not None
        self.listen()
        self._close_pipe()
        told = self.process.pid, time.monotonic() - self.since, self._exit_reason(self.process.exitcode or 0)
        self.process.close()
        self.process, self.since = None, time.monotonic()
        return told

    def _exit_reason(self, code: int) -> str:
        if self.message:
            return f"could not start ({self.message})"
        return f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"

    def _close_pipe(self) -> None:
        if self._pipe is not None:
            self._pipe.close()
            self._pipe = None
