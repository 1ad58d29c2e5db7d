"""Run the server until it is told to stop."""

from __future__ import annotations

import logging
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from urllib.parse import quote

import uvicorn

from retrieval.engine import Engine
from retrieval.errors import RetrievalError
from retrieval.serving.app import make_app
from retrieval.serving.terms import Terms

_IDLE_SECONDS = 30
_CONNECTIONS = 1000  # and requests; more are told to come again
_LINES_WAITING = 256  # connections that the system holds until they are taken


def serve(engine: Engine, open_engine: Callable[[], Engine], terms: Terms, on_ready: Callable[[str], None]) -> None:
    """Serve until SIGINT or SIGTERM; `on_ready` is given the address to open. Raises RetrievalError."""
    listening = _listen(terms)
    config = uvicorn.Config(
        make_app(engine, open_engine, terms),
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        ws="none",
        limit_concurrency=_CONNECTIONS,
        timeout_keep_alive=_IDLE_SECONDS,
        timeout_graceful_shutdown=5,
    )
    logging.getLogger("uvicorn.error").setLevel(logging.ERROR)
    server = _Server(config)
    on_ready(address(terms, listening.getsockname()[1]))
    with listening:
        server.run(sockets=[listening])


class _Server(uvicorn.Server):
    """Ends quietly on the signals by which it is meant to be stopped."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        before = {
            each: signal.signal(each, self.handle_exit) for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        }
        try:
            yield
        finally:
            for each, handler in before.items():
                signal.signal(each, handler)


def address(terms: Terms, port: int) -> str:
    """What to open in a browser, with the token where one is needed."""
    host = f"[{terms.host}]" if ":" in terms.host else terms.host
    token = f"/?token={quote(terms.token, safe='')}" if terms.token else "/"
    return f"http://{host}:{port}{token}"


def _listen(terms: Terms) -> socket.socket:
    """A socket that listens; taken before the engine is used, so that a port in use is told at once."""
    family = socket.AF_INET6 if ":" in terms.host else socket.AF_INET
    try:
        listening = socket.create_server((terms.host, terms.port), family=family, backlog=_LINES_WAITING)
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # else the first line waits 40 ms for an ACK
        return listening
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise RetrievalError(f"{terms.host}:{terms.port} cannot be served ({reason}): give another --port") from error
