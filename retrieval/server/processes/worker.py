"""One process of several that serve: an engine of its own, the common socket, and an end when its parent ends."""

from __future__ import annotations

import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection
from threading import Thread
from typing import TYPE_CHECKING, Protocol

from indexes.errors import UserError
from retrieval.common.errors import RetrievalError
from retrieval.server.config import ServerConfig
from retrieval.server.processes.listening import SharedSocket
from retrieval.server.shared_folders import SharedFolders

if TYPE_CHECKING:  # imported where the environment is set up for it
    from retrieval.engine import Engine

_ENDING_SECONDS = 10.0  # that a process without a parent may take


class EngineFactory(Protocol):
    """Opens engines on the store, in whatever process it is sent to. Raises RetrievalError and StoreError."""

    def open_prepared(self) -> Engine:
        """The one that is asked, ready for it."""
        ...

    def open_another(self) -> Engine:
        """A further one, for indexing."""
        ...


def serve_in_worker(
    engines: EngineFactory, config: ServerConfig, shared: SharedFolders, listener: socket.socket, pipe: Connection
) -> None:
    """Serve until SIGTERM, or until the parent's end of the line is closed.

    Down the line goes None once requests are answered, or one sentence that says why that cannot be.
    """
    Thread(target=_end_with_parent, args=(pipe, shared), name="parent", daemon=True).start()
    _set_up(config, shared)
    try:
        _serve(engines, config, shared, listener, lambda: pipe.send(None))
    except (UserError, OSError) as error:
        with suppress(OSError):
            pipe.send(str(error))
        sys.exit(1)


def _set_up(config: ServerConfig, shared: SharedFolders) -> None:
    """Leave Ctrl-C and a closed terminal to the parent, and say in the environment what imports ask it for."""
    stops = (signal.SIGINT, signal.SIGHUP)
    for each in stops:
        signal.signal(each, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, stops)
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = os.fspath(shared.metrics)
    os.environ.setdefault("OMP_NUM_THREADS", str(_threads(config.processes)))


def _serve(
    engines: EngineFactory,
    config: ServerConfig,
    shared: SharedFolders,
    listener: socket.socket,
    on_started: Callable[[], None],
) -> None:
    from indexes.vectors.storage import is_single_process
    from retrieval.model.inference import limit_threads
    from retrieval.server.app import make_app
    from retrieval.server.processes.run import run

    limit_threads(_threads(config.processes))
    with engines.open_prepared() as engine:
        if is_single_process(engine.catalogue):
            raise RetrievalError(
                "the store's index is a file of milvus-lite, which one process at a time can open: leave out"
                " --processes, or move the index with `retrieve index --index faiss`"
            )
        app = make_app(engine, engines.open_another, config, shared)
        run(app, SharedSocket(listener), (signal.SIGTERM,), on_started, taken_at_once=1)


def _threads(processes: int) -> int:
    """This process' share of the cores."""
    cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    return max(1, cores // processes)


def _end_with_parent(pipe: Connection, shared: SharedFolders) -> None:
    """Once the parent is gone, however it ended, end too, and delete what it would have deleted."""
    with suppress(EOFError, OSError):
        pipe.recv()
    shared.delete()
    os.kill(os.getpid(), signal.SIGTERM)
    until = time.monotonic() + _ENDING_SECONDS
    while time.monotonic() < until:
        time.sleep(0.1)
        shared.delete()
    os._exit(1)
