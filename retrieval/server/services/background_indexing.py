"""Bring the store up to date beside the serving: an engine of its own, one run at a time in all of a server."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http import HTTPStatus
from pathlib import Path
from threading import Thread

from indexes.errors import UserError
from retrieval.engine import Engine
from retrieval.server.errors import RequestRefused

_INTERRUPTED = "the indexing was broken off, what was committed is kept: start it again"


class BackgroundIndexer:
    """Runs `Engine.index` over the known galleries; `open_engine` gives it an engine.

    Whoever runs holds a lock on a file of `folder`, which ends with the process; why a run failed is in another file.
    So each process of a server tells the same.
    """

    def __init__(self, open_engine: Callable[[], Engine], folder: Path) -> None:
        self._open = open_engine
        self._run_lock_file = folder / "turn"
        self._check_lock_file = folder / "door"
        self._error_file = folder / "failed"

    def start(self) -> None:
        """Begin. Raises Refused where a run goes on, in whatever process, or the disk has no room for a note of it."""
        try:
            with _locked(self._check_lock_file):
                turn = self._try_lock()
            if turn is None:
                raise RequestRefused(HTTPStatus.CONFLICT, "an indexing goes on already: wait until it has finished")
            self._start_thread(turn)
        except OSError as error:
            raise RequestRefused(
                HTTPStatus.INSUFFICIENT_STORAGE,
                f"the indexing cannot begin ({error.strerror}): make room for the server's temporary files",
            ) from error

    @property
    def is_running(self) -> bool:
        """Whether a run goes on, in whatever process."""
        with self._checking() as is_running:
            return is_running

    @property
    def error(self) -> str | None:
        """Why the last run failed; None where it did not, or goes on."""
        with self._checking() as is_running, suppress(FileNotFoundError):
            return None if is_running else os.fsdecode(self._error_file.read_bytes())
        return None

    @contextmanager
    def _checking(self) -> Iterator[bool]:
        """Whether a run goes on. Where none does, none begins meanwhile, and the last one has told all that it will."""
        with _locked(self._check_lock_file):  # so that nobody who wants to begin is kept from it by a look
            turn = self._try_lock()
            try:
                yield turn is None
            finally:
                if turn is not None:
                    os.close(turn)

    def _start_thread(self, lock: int) -> None:
        """Run in a thread, which gives the turn back; it is given back too where that cannot be."""
        try:
            self._write_error(_INTERRUPTED)  # until it ends otherwise
            Thread(target=self._run, args=(lock,), name="indexer", daemon=True).start()
        except BaseException:
            os.close(lock)
            raise

    def _run(self, lock: int) -> None:
        try:
            with self._open() as engine:
                engine.index()
            self._error_file.unlink(missing_ok=True)
        except (UserError, OSError) as error:
            self._write_error(str(error))
        finally:
            os.close(lock)

    def _try_lock(self) -> int | None:
        """The lock of a run; None where another one has it."""
        turn = os.open(self._run_lock_file, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(turn, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(turn)
            return None
        except BaseException:
            os.close(turn)
            raise
        return turn

    def _write_error(self, sentence: str) -> None:
        work = self._error_file.with_suffix(f".{os.getpid()}")
        work.write_bytes(os.fsencode(sentence))
        os.replace(work, self._error_file)


@contextmanager
def _locked(file: Path) -> Iterator[None]:
    """One thread of all processes at a time."""
    descriptor = os.open(file, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
