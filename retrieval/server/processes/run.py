"""A server in one process or in several, from its socket to its end."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from indexes.atomic_files import IS_WINDOWS
from retrieval.common.errors import RetrievalError
from retrieval.server.config import ServerConfig
from retrieval.server.processes.ending import killed_in_time
from retrieval.server.processes.listening import SharedSocket, address, listen
from retrieval.server.processes.signals import STOP_SIGNALS
from retrieval.server.processes.supervisor import RestartPolicy, Supervisor
from retrieval.server.processes.uvicorn_server import run
from retrieval.server.processes.worker import serve_in_worker, threads_per_process
from retrieval.server.shared_folders import shared_folders

if TYPE_CHECKING:  # heavy, and the parent of several processes needs none of it
    from retrieval.engine import Engine


def serve(
    engine: Engine, open_engine: Callable[[], Engine], config: ServerConfig, on_ready: Callable[[str], None]
) -> None:
    """Serve in this process until SIGINT, SIGTERM or SIGHUP. Raises RetrievalError.

    `on_ready` gets the address to open.
    """
    from retrieval.server.app import make_app

    with listen(config) as listener, shared_folders(config.uploads) as shared, killed_in_time():
        app = make_app(engine, open_engine, config, shared)
        on_ready(address(config, listener.getsockname()[1]))
        run(app, SharedSocket(fileno=listener.detach()), STOP_SIGNALS, clean_up=shared.delete)


def serve_in_processes(
    open_engine: Callable[[], Engine],
    config: ServerConfig,
    on_ready: Callable[[str], None],
    on_death: Callable[[str], None],
) -> None:
    """Serve in several processes until SIGINT, SIGTERM or SIGHUP. Raises RetrievalError.

    They share the socket, uploads, metrics and the lock for indexing; each calls `open_engine`, which is pickled.
    `on_ready` gets the address to open once all processes answer, `on_death` a sentence if one of them dies.
    """
    if IS_WINDOWS:
        raise RetrievalError("on Windows a server is one process: leave out --processes")
    from prometheus_client.multiprocess import mark_process_dead

    with listen(config) as listener, shared_folders(config.uploads) as shared:

        def report_death(process: int | None, sentence: str) -> None:
            if process is not None:
                mark_process_dead(process, shared.metrics)  # type: ignore[no-untyped-call]
            on_death(sentence)

        os.environ["PROMETHEUS_MULTIPROC_DIR"] = os.fspath(shared.metrics)  # both are read on import
        os.environ.setdefault("OMP_NUM_THREADS", str(threads_per_process(config.processes)))
        task = partial(serve_in_worker, open_engine, config, shared, listener)
        supervisor = Supervisor(config.processes, task, report_death, RestartPolicy())
        supervisor.run(lambda: on_ready(address(config, listener.getsockname()[1])))
