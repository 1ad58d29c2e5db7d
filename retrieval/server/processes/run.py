"""A server in one process or in several, from its socket to its end."""

from __future__ import annotations

import logging
import os
import signal
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

import uvicorn
from starlette.types import ASGIApp

from retrieval.server.config import ServerConfig
from retrieval.server.processes.listening import address, listen
from retrieval.server.processes.signals import STOP_SIGNALS, handle_signals
from retrieval.server.processes.supervisor import Supervisor
from retrieval.server.processes.worker import EngineFactory, serve_in_worker, threads_per_process
from retrieval.server.shared_folders import shared_folders

if TYPE_CHECKING:  # heavy, and the parent of several processes needs none of it
    from retrieval.engine import Engine

_IDLE_SECONDS = 30
_MAX_CONNECTIONS = 1000  # and requests in work; more get 503
_ACCEPTED_AT_ONCE = 2048  # connections
_TICKS_PER_BEAT = 50  # of 0.1 s: few enough that a stopped parent's pipe is not full for 20 minutes


def serve(
    engine: Engine, open_engine: Callable[[], Engine], config: ServerConfig, on_ready: Callable[[str], None]
) -> None:
    """Serve in this process until SIGINT, SIGTERM or SIGHUP. Raises RetrievalError.

    `on_ready` gets the address to open.
    """
    from retrieval.server.app import make_app

    with listen(config) as listener, shared_folders(config.uploads) as shared:
        app = make_app(engine, open_engine, config, shared)
        on_ready(address(config, listener.getsockname()[1]))
        run(app, listener, STOP_SIGNALS)


def serve_in_processes(
    engines: EngineFactory, config: ServerConfig, on_ready: Callable[[str], None], on_death: Callable[[str], None]
) -> None:
    """Serve in several processes until SIGINT, SIGTERM or SIGHUP. Raises RetrievalError.

    They share the socket, uploads, metrics and the lock for indexing. `on_ready` gets the address to open once all
    processes answer, `on_death` a sentence if one of them dies.
    """
    from prometheus_client.multiprocess import mark_process_dead

    with listen(config) as listener, shared_folders(config.uploads) as shared:

        def report_death(process: int | None, sentence: str) -> None:
            if process is not None:
                mark_process_dead(process, shared.metrics)  # type: ignore[no-untyped-call]
            on_death(sentence)

        os.environ["PROMETHEUS_MULTIPROC_DIR"] = os.fspath(shared.metrics)  # both are read on import
        os.environ.setdefault("OMP_NUM_THREADS", str(threads_per_process(config.processes)))
        task = partial(serve_in_worker, engines, config, shared, listener)
        supervisor = Supervisor(config.processes, task, report_death)
        supervisor.run(lambda: on_ready(address(config, listener.getsockname()[1])))


def run(
    app: ASGIApp,
    listener: socket.socket,
    stop_signals: Sequence[signal.Signals],
    on_alive: Callable[[], None] = lambda: None,
    accepted_at_once: int = _ACCEPTED_AT_ONCE,
) -> None:
    """Answer the requests to a socket until one of these signals.

    `on_alive` is called once requests are answered, and then every 5 s by the event loop: not while that hangs.
    """
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        ws="none",
        limit_concurrency=_MAX_CONNECTIONS,
        timeout_keep_alive=_IDLE_SECONDS,
        timeout_graceful_shutdown=5,
        backlog=accepted_at_once,
    )
    logging.getLogger("uvicorn.error").setLevel(logging.ERROR)
    _Server(config, stop_signals, on_alive).run(sockets=[listener])


class _Server(uvicorn.Server):
    """A server that ends quietly on its stop signals and says that it is alive."""

    def __init__(
        self, config: uvicorn.Config, stop_signals: Sequence[signal.Signals], on_alive: Callable[[], None]
    ) -> None:
        super().__init__(config)
        self._stop_signals = stop_signals
        self._on_alive = on_alive

    async def on_tick(self, counter: int) -> bool:
        if counter % _TICKS_PER_BEAT == 0:
            self._on_alive()
        return await super().on_tick(counter)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        with handle_signals(self._stop_signals, self.handle_exit):
            yield
