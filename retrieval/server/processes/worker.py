"""One of several server processes: an engine of its own on the common socket; it ends when its parent ends."""

from __future__ import annotations

import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from multiprocessing.connection import Connection
from threading import Thread
from typing import TYPE_CHECKING

from indexes.errors import UserError
from retrieval.common.errors import RetrievalError
from retrieval.server.config import ServerConfig
from retrieval.server.processes.listening import SharedSocket
from retrieval.server.processes.signals import ignore_terminal_signals
from retrieval.server.processes.uvicorn_server import run
from retrieval.server.shared_folders import SharedFolders

if TYPE_CHECKING:  # heavy, and the parent needs none of it
    from retrieval.engine import Engine

_EXIT_SECONDS = 10.0  # for a process whose parent is gone to end by itself


def serve_in_worker(
    open_engine: Callable[[], Engine],
    config: ServerConfig,
    shared: SharedFolders,
    listener: socket.socket,
    pipe: Connection,
) -> None:
    """Serve until SIGTERM, or until the parent's end of the pipe is closed.

    The pipe carries None again and again while requests are answered, or one sentence that says why they cannot be.
    """
    Thread(target=_end_with_parent, args=(pipe, shared), name="parent", daemon=True).start()
    ignore_terminal_signals()

    def send(message: str | None) -> None:
        with suppress(OSError):
            pipe.send(message)

    try:
        from indexes.vectors.storage import is_single_process
        from retrieval.model.inference import limit_threads
        from retrieval.server.app import make_app

        limit_threads(threads_per_process(config.processes))
        with open_engine() as engine:
            engine.load()
            if is_single_process(engine.catalogue):
                raise RetrievalError(
                    "the store's index is a milvus-lite file, which only one process can open: leave out --processes,"
                    " or move the index with `retrieve index --index faiss`"
                )
            app = make_app(engine, open_engine, config, shared)
            stop_signals = (signal.SIGTERM,)
            run(app, SharedSocket(fileno=listener.detach()), stop_signals, partial(send, None), accepted_at_once=1)
    except (UserError, OSError) as error:
        send(str(error))
        sys.exit(1)


def threads_per_process(processes: int) -> int:
    """Return each process's share of the cores."""
    cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    return max(1, cores // processes)


def _end_with_parent(pipe: Connection, shared: SharedFolders) -> None:
    """Wait until the parent is gone, however it ended; then end too, and delete what it would have deleted."""
    with suppress(EOFError, OSError):
        pipe.recv()
    shared.delete()
    os.kill(os.getpid(), signal.SIGTERM)
    deadline = time.monotonic() + _EXIT_SECONDS
    while time.monotonic() < deadline:
        time.sleep(0.1)
        shared.delete()
    os._exit(1)
