"""The socket that a server listens on, and the address that leads there."""

from __future__ import annotations

import socket
from urllib.parse import quote

from retrieval.common.errors import RetrievalError
from retrieval.server.config import ServerConfig

_PENDING_CONNECTIONS = 256  # connections that the system holds until they are taken


def address(config: ServerConfig, port: int) -> str:
    """What to open in a browser, with the token where one is needed."""
    host = f"[{config.host}]" if ":" in config.host else config.host
    token = f"/?token={quote(config.token, safe='')}" if config.token else "/"
    return f"http://{host}:{port}{token}"


def listen(config: ServerConfig) -> socket.socket:
    """A socket that listens; taken before the engine is used, so that a port in use is told at once.

    Raises RetrievalError.
    """
    family = socket.AF_INET6 if ":" in config.host else socket.AF_INET
    try:
        listening = socket.create_server((config.host, config.port), family=family, backlog=_PENDING_CONNECTIONS)
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # else the first line waits 40 ms for an ACK
        return listening
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise RetrievalError(f"{config.host}:{config.port} cannot be served ({reason}): give another --port") from error


class SharedSocket(socket.socket):
    """A socket from which several processes take connections: made of one that came from their parent.

    asyncio lets as many wait as it takes at once. It is to take one at once, so that an idle process comes to the next
    one before a busy one does; many may wait all the same.
    """

    def __init__(self, listening: socket.socket) -> None:
        super().__init__(fileno=listening.detach())

    def listen(self, backlog: int = _PENDING_CONNECTIONS) -> None:
        """Let connections wait."""
        super().listen(max(backlog, _PENDING_CONNECTIONS))
