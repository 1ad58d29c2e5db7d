"""The HTTP server of one process: uvicorn on a socket that is open already."""

import asyncio
import logging
import signal
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from types import FrameType
from typing import cast

import uvicorn
from starlette.types import ASGIApp

from retrieval.server.processes.connections import (
    MAX_CONNECTIONS,
    SILENT_SECONDS,
    Connections,
    GuardedProtocol,
    cancellable,
    most_open_files,
)
from retrieval.server.processes.ending import end_soon
from retrieval.server.processes.signals import handle_signals

_GRACE_SECONDS = 3  # for requests in work to be answered once the server ends
_ACCEPTED_AT_ONCE = 64  # connections: few enough that one too many is closed before the next are accepted
_MOST_HEAD_BYTES = 65_536  # a browser sends the cookies of every other program on this host too
_TICKS_PER_BEAT = 50  # of 0.1 s: few enough that a stopped parent's pipe is not full for 20 minutes
_TICKS_PER_LOOK = 10  # at the connections


def run(
    app: ASGIApp,
    listener: socket.socket,
    stop_signals: Sequence[signal.Signals],
    on_alive: Callable[[], None] = lambda: None,
    accepted_at_once: int = _ACCEPTED_AT_ONCE,
    clean_up: Callable[[], None] = lambda: None,
) -> None:
    """Answer the requests to a socket until one of these signals; then end within some seconds.

    `on_alive` is called once requests are answered, and then every 5 s by the event loop: not while that hangs.
    `clean_up` is called if the process has to end while something is still in work.
    """
    connections = Connections(min(MAX_CONNECTIONS, most_open_files() // 2))
    config = uvicorn.Config(
        cancellable(app),
        http=cast(type[asyncio.Protocol], partial(GuardedProtocol, connections)),
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        ws="none",
        timeout_keep_alive=round(2 * SILENT_SECONDS),  # the connections see to it
        timeout_graceful_shutdown=_GRACE_SECONDS,
        backlog=accepted_at_once,
        h11_max_incomplete_event_size=_MOST_HEAD_BYTES,
    )
    log = logging.getLogger("uvicorn.error")
    log.setLevel(logging.ERROR)
    log.addFilter(_is_fault)
    Server(config, connections, stop_signals, clean_up, on_alive).run(sockets=[listener])


class Server(uvicorn.Server):
    """A server that ends quietly and soon on its stop signals, says that it is alive and closes silent connections."""

    def __init__(
        self,
        config: uvicorn.Config,
        connections: Connections,
        stop_signals: Sequence[signal.Signals],
        clean_up: Callable[[], None],
        on_alive: Callable[[], None],
    ) -> None:
        super().__init__(config)
        self._connections = connections
        self._stop_signals = stop_signals
        self._clean_up = clean_up
        self._on_alive = on_alive

    async def on_tick(self, counter: int) -> bool:
        if counter % _TICKS_PER_BEAT == 0:
            self._on_alive()
        if counter % _TICKS_PER_LOOK == 0:
            self._connections.close_silent()
        return await super().on_tick(counter)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if not self.should_exit:
            end_soon(self._clean_up)
        super().handle_exit(sig, frame)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)  # what is cut short now is no fault
        await super().shutdown(sockets)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        with handle_signals(self._stop_signals, self.handle_exit):
            yield


def _is_fault(record: logging.LogRecord) -> bool:
    """Return whether a record has an error; the others are about clients that left."""
    return record.exc_info is not None
