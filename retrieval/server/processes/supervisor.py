"""Supervision of a server's processes: one that dies or hangs is replaced."""

from __future__ import annotations

import multiprocessing
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait

from retrieval.common.errors import RetrievalError
from retrieval.server.processes.signals import STOP_SIGNALS, delay_terminal_signals, handle_signals

Task = Callable[[Connection], None]
"""What a process runs. It sends None once it is ready and then again and again, or one sentence if it cannot start."""

_POLL_SECONDS = 0.2  # between two checks whether it is time to stop, or to restart a process
_STOPPED_SECONDS = 2.0  # between two polls: this process was stopped itself, and perhaps all of them were
_SPAWN = multiprocessing.get_context("spawn")


@dataclass(frozen=True)
class RestartPolicy:
    """When processes are restarted, in seconds.

    The pause before a restart is zero after the first death in a row, then `pause`, doubled up to `longest`. After
    `most` deaths in a row all processes end; one that has lived for `stable_after` begins a new row. A ready process
    that is silent for `hung_after` is killed, and so is one that does not stop within `stop_timeout`.
    """

    most: int = 7
    pause: float = 0.5
    longest: float = 30.0
    stable_after: float = 60.0
    hung_after: float = 30.0
    stop_timeout: float = 8.0

    def pause_after(self, deaths: int) -> float:
        """Return the pause after so many deaths in a row."""
        return 0.0 if deaths < 2 else min(self.longest, self.pause * 2.0 ** (deaths - 2))


class Supervisor:
    """A number of processes that run one task, which must end on SIGTERM, and when its pipe is closed.

    `on_death` gets a process's id and a sentence. A process that the system failed to start counts as a death too,
    without an id.
    """

    def __init__(
        self, count: int, task: Task, on_death: Callable[[int | None, str], None], policy: RestartPolicy
    ) -> None:
        self._on_death = on_death
        self._policy = policy
        self._workers = [_WorkerProcess(task, policy) for _ in range(count)]
        self._stopping = False
        self._polled_at = 0.0

    def run(self, on_ready: Callable[[], None]) -> None:
        """Run until SIGINT, SIGTERM or SIGHUP; `on_ready` is called once all processes are ready.

        The first is ready before the others are started, as it may have to prepare the model for all. Raises
        RetrievalError if one is never ready, or they die again and again.
        """
        with handle_signals(STOP_SIGNALS, self._stop):
            try:
                for batch in (self._workers[:1], self._workers[1:]):
                    for worker in batch:
                        self._start(worker)
                    while not self._stopping and not all(worker.was_ready for worker in batch):
                        self._poll()
                if not self._stopping:
                    on_ready()
                while not self._stopping:
                    self._poll()
            finally:
                self._stop_all()

    def _poll(self) -> None:
        """Wait a little for messages and deaths; restart the processes whose pause is over."""
        wait([end for worker in self._workers for end in worker.waitables()], _POLL_SECONDS)
        before, self._polled_at = self._polled_at, time.monotonic()
        was_stopped = self._polled_at > before + _STOPPED_SECONDS
        for worker in self._workers:
            worker.receive()
            if self._stopping:
                return
            if was_stopped and worker.last_beat is not None:
                worker.last_beat = self._polled_at
            worker.kill_if_hung()
            if death := worker.reap():
                process, reason = death
                self._on_death(process, f"process {process} of the server {reason}: another one takes its place")
            if time.monotonic() >= worker.restart_at:
                self._start(worker)

    def _start(self, worker: _WorkerProcess) -> None:
        """Start a process. If the system refuses, that is a death. Raises RetrievalError if it is one too many.

        The system may have run out of processes, memory or open files, and have them again later.
        """
        try:
            worker.start()
        except OSError as error:
            reason = f"could not be started ({error.strerror or error})"
            worker.record_death(reason)
            self._on_death(None, f"a process of the server {reason}: that is tried again")

    def _stop_all(self) -> None:
        """Ask all processes to end, and kill those that do not."""
        processes = [worker.process for worker in self._workers if worker.process is not None]
        for process in processes:
            process.terminate()
        deadline = time.monotonic() + self._policy.stop_timeout
        for process in processes:
            process.join(max(0.0, deadline - time.monotonic()))
            process.kill()
            process.join()

    def _stop(self, *_: object) -> None:
        self._stopping = True


class _WorkerProcess:
    """A process and its successors. `last_beat` is None until it is ready, `restart_at` infinite while it runs."""

    def __init__(self, task: Task, policy: RestartPolicy) -> None:
        self.process: multiprocessing.context.SpawnProcess | None = None
        self.was_ready = False
        self.last_beat: float | None = None
        self.restart_at = float("inf")
        self._task = task
        self._policy = policy
        self._pipe: Connection | None = None
        self._message = ""
        self._is_hung = False
        self._deaths = 0  # in a row
        self._started_at = 0.0

    def start(self) -> None:
        """Start the process. Raises OSError, and then there is none."""
        self._message, self._is_hung, self.last_beat, self.restart_at = "", False, None, float("inf")
        pipe, worker_pipe = _SPAWN.Pipe()
        process = _SPAWN.Process(target=self._task, args=(worker_pipe,), daemon=True)
        try:
            with delay_terminal_signals():  # the new process would not know yet how to handle Ctrl-C
                process.start()
        except BaseException:
            pipe.close()
            raise
        finally:
            worker_pipe.close()
        self.process, self._pipe, self._started_at = process, pipe, time.monotonic()

    def waitables(self) -> list[Connection | int]:
        """Return what to wait for: a message and the end of the process."""
        pipe: list[Connection | int] = [] if self._pipe is None else [self._pipe]
        return pipe if self.process is None else [*pipe, self.process.sentinel]

    def receive(self) -> None:
        """Take the messages that it has sent."""
        try:
            while self._pipe is not None and self._pipe.poll():
                message = self._pipe.recv()
                if message is None:
                    self.was_ready, self.last_beat = True, time.monotonic()
                self._message = message or ""
        except (EOFError, OSError):
            self._close_pipe()

    def kill_if_hung(self) -> None:
        """Kill the process if it was ready and has been silent for too long."""
        if self.process is not None and self.last_beat is not None:
            self._is_hung = time.monotonic() > self.last_beat + self._policy.hung_after
            if self._is_hung:
                self.process.kill()

    def reap(self) -> tuple[int, str] | None:
        """Return the process's id and how it ended, if it did. Raises RetrievalError if that is a death too many."""
        if self.process is None or self.process.is_alive():
            return None
        assert self.process.pid is not None
        self.receive()
        self._close_pipe()
        process, reason = self.process.pid, self._exit_reason(self.process.exitcode or 0)
        self.process.close()
        self.process = None
        self.record_death(reason, time.monotonic() - self._started_at)
        return process, reason

    def record_death(self, reason: str, lifetime: float = 0.0) -> None:
        """Count a death and plan the restart. Raises RetrievalError if it is one too many."""
        if not self.was_ready:
            raise RetrievalError(self._message or f"a process of the server {reason} before it could serve")
        self._deaths = 1 if lifetime >= self._policy.stable_after else self._deaths + 1
        if self._deaths >= self._policy.most:
            raise RetrievalError(
                f"a process of the server died {self._deaths} times in a row; the last time it {reason}: check that the"
                " machine has memory for so many, or give fewer --processes"
            )
        self.restart_at = time.monotonic() + self._policy.pause_after(self._deaths)

    def _exit_reason(self, code: int) -> str:
        if self._is_hung:
            return f"did not answer for {self._policy.hung_after:g} s"
        if self._message:
            return f"could not start ({self._message})"
        return f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"

    def _close_pipe(self) -> None:
        if self._pipe is not None:
            self._pipe.close()
            self._pipe = None
