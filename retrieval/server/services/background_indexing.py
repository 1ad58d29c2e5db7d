"""Indexing beside serving, by an engine of its own; one run at a time over all processes of a server."""

import os
from collections.abc import Callable
from http import HTTPStatus
from pathlib import Path
from threading import Thread
from typing import NamedTuple

from filelock import BaseFileLock, FileLock, Timeout

from indexes.atomic_files import write_file
from indexes.errors import UserError
from retrieval.engine import Engine
from retrieval.server.errors import RequestRefused

_INTERRUPTED = "the indexing was interrupted, what was committed is kept: start it again"


class IndexingState(NamedTuple):
    """Whether indexing runs, in whatever process; `error` is why the last run failed, None if it did not."""

    is_running: bool
    error: str | None


class BackgroundIndexer:
    """Runs `Engine.index` over the known galleries; `open_engine` gives it an engine.

    A run holds a lock on a file of `folder`, which ends with the process; another file has the reason why a run
    failed. So each process of a server reports the same.
    """

    def __init__(self, open_engine: Callable[[], Engine], folder: Path) -> None:
        self._open_engine = open_engine
        self._run_lock_file = folder / "turn"
        self._check_lock_file = folder / "door"
        self._error_file = folder / "failed"

    def start(self) -> None:
        """Start a run in a thread. Raises RequestRefused if one is running, or the disk has no room to record it."""
        lock = FileLock(self._run_lock_file, thread_local=False)  # released by the thread of the run
        try:
            with FileLock(self._check_lock_file):
                lock.acquire(blocking=False)
            try:
                write_file(self._error_file, os.fsencode(_INTERRUPTED))  # until it ends otherwise
                Thread(target=self._run, args=(lock,), name="indexer", daemon=True).start()
            except BaseException:
                lock.release()
                raise
        except Timeout as error:
            raise RequestRefused(
                HTTPStatus.CONFLICT, "indexing is running already: wait until it has finished"
            ) from error
        except OSError as error:
            raise RequestRefused(
                HTTPStatus.INSUFFICIENT_STORAGE,
                f"indexing cannot begin ({error.strerror}): make room for the server's temporary files",
            ) from error

    def state(self) -> IndexingState:
        """Return whether a run goes on and why the last one failed, of one moment."""
        with FileLock(self._check_lock_file):  # so that this check keeps no run from starting
            try:
                with FileLock(self._run_lock_file, blocking=False):  # the last run has written its error
                    error = os.fsdecode(self._error_file.read_bytes()) if self._error_file.exists() else None
                    return IndexingState(False, error)
            except Timeout:
                return IndexingState(True, None)

    def _run(self, lock: BaseFileLock) -> None:
        try:
            with self._open_engine() as engine:
                engine.index()
            self._error_file.unlink(missing_ok=True)
        except (UserError, OSError) as error:
            write_file(self._error_file, os.fsencode(str(error)))
        finally:
            lock.release()
