"""Run the server until it is told to stop."""

from __future__ import annotations

import logging
import signal
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import uvicorn
from starlette.types import ASGIApp

from retrieval.engine import Engine
from retrieval.server.app import make_app
from retrieval.server.config import ServerConfig
from retrieval.server.processes.listening import address, listen
from retrieval.server.processes.signals import STOP_SIGNALS, handle_signals
from retrieval.server.shared_folders import shared_folders

_IDLE_SECONDS = 30
_CONNECTIONS = 1000  # and requests; more are told to come again
_TAKEN_AT_ONCE = 2048  # connections


def serve(
    engine: Engine, open_engine: Callable[[], Engine], config: ServerConfig, on_ready: Callable[[str], None]
) -> None:
    """Serve until SIGINT, SIGTERM or SIGHUP; `on_ready` is given the address to open. Raises RetrievalError."""
    with listen(config) as listening, shared_folders(config.uploads) as shared:
        app = make_app(engine, open_engine, config, shared)
        on_ready(address(config, listening.getsockname()[1]))
        run(app, listening, STOP_SIGNALS)


def run(
    app: ASGIApp,
    listener: socket.socket,
    stop_signals: Sequence[signal.Signals],
    on_started: Callable[[], None] = lambda: None,
    taken_at_once: int = _TAKEN_AT_ONCE,
) -> None:
    """Answer what comes to a socket until one of these signals; `on_started` is called once it is listened to."""
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        ws="none",
        limit_concurrency=_CONNECTIONS,
        timeout_keep_alive=_IDLE_SECONDS,
        timeout_graceful_shutdown=5,
        backlog=taken_at_once,
    )
    logging.getLogger("uvicorn.error").setLevel(logging.ERROR)
    _Server(config, stop_signals, on_started).run(sockets=[listener])


class _Server(uvicorn.Server):
    """Ends quietly on the signals by which it is meant to be stopped."""

    def __init__(
        self, config: uvicorn.Config, stop_signals: Sequence[signal.Signals], on_started: Callable[[], None]
    ) -> None:
        super().__init__(config)
        self._stop_signals = stop_signals
        self._on_started = on_started

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._on_started()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        with handle_signals(self._stop_signals, self.handle_exit):
            yield
