"""The socket that a server listens on, and its address."""

import socket
from urllib.parse import quote

from retrieval.common.errors import RetrievalError
from retrieval.server.config import ServerConfig

_PENDING_CONNECTIONS = 2048  # connections that the system holds until they are accepted


def address(config: ServerConfig, port: int) -> str:
    """Return the URL to open in a browser, with the token if there is one."""
    host = f"[{config.host}]" if ":" in config.host else config.host
    token = f"/?token={quote(config.token, safe='')}" if config.token else "/"
    return f"http://{host}:{port}{token}"


def listen(config: ServerConfig) -> socket.socket:
    """Open a listening socket. Raises RetrievalError.

    This comes before the engine is used, so that a port in use is reported at once.
    """
    family = socket.AF_INET6 if ":" in config.host else socket.AF_INET
    try:
        listener = socket.create_server((config.host, config.port), family=family, backlog=_PENDING_CONNECTIONS)
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # else the first line waits 40 ms for an ACK
        return listener
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise RetrievalError(f"{config.host}:{config.port} cannot be served ({reason}): give another --port") from error


class SharedSocket(socket.socket):
    """A listening socket that accepts few connections at once, and that several processes may share.

    asyncio's `backlog` is both the number of connections it accepts at once and the length of the system's queue.
    Accepting one at a time leaves the next to an idle process; the queue stays long all the same.
    """

    def listen(self, backlog: int = _PENDING_CONNECTIONS) -> None:
        """Listen, with a queue of at least 2,048 connections."""
        super().listen(max(backlog, _PENDING_CONNECTIONS))
