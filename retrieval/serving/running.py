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
from retrieval.serving.app import make_app
from retrieval.serving.common import common
from retrieval.serving.keeper import is_heard
from retrieval.serving.listening import address, listen
from retrieval.serving.terms import Terms

_IDLE_SECONDS = 30
_CONNECTIONS = 1000  # and requests; more are told to come again
_TAKEN_AT_ONCE = 2048  # connections


def serve(engine: Engine, open_engine: Callable[[], Engine], terms: Terms, on_ready: Callable[[str], None]) -> None:
    """Serve until SIGINT, SIGTERM or SIGHUP; `on_ready` is given the address to open. Raises RetrievalError."""
    with listen(terms) as listening, common(terms.uploads) as folders:
        app = make_app(engine, open_engine, terms, folders)
        on_ready(address(terms, listening.getsockname()[1]))
        run(app, listening, (signal.SIGINT, signal.SIGTERM, signal.SIGHUP))


def run(
    app: ASGIApp,
    listening: socket.socket,
    stops: Sequence[signal.Signals],
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
    _Server(config, stops, on_started).run(sockets=[listening])


class _Server(uvicorn.Server):
    """Ends quietly on the signals by which it is meant to be stopped."""

    def __init__(self, config: uvicorn.Config, stops: Sequence[signal.Signals], on_started: Callable[[], None]) -> None:
        super().__init__(config)
        self._stops = stops
        self._on_started = on_started

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._on_started()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        before = {each: signal.signal(each, self.handle_exit) for each in self._stops if is_heard(each)}
        try:
            yield
        finally:
            for each, handler in before.items():
                signal.signal(each, handler)
