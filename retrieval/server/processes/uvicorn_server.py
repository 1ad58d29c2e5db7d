"""The HTTP server of one process: uvicorn on a socket that is open already."""

import logging
import signal
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import uvicorn
from starlette.types import ASGIApp

from retrieval.server.processes.signals import handle_signals

_IDLE_SECONDS = 30
_MAX_CONNECTIONS = 1000  # and requests in work; more get 503
_ACCEPTED_AT_ONCE = 2048  # connections
_TICKS_PER_BEAT = 50  # of 0.1 s: few enough that a stopped parent's pipe is not full for 20 minutes


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
