"""The connections of one process: silent ones are closed, and make room for others; requests end with their client."""

import asyncio
import sys
import time
from collections import defaultdict
from http import HTTPStatus
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from retrieval.server.config import client_address
from retrieval.server.errors import RequestRefused, refusal_response

MAX_CONNECTIONS = 1000
"""The most connections of a process."""

SILENT_SECONDS = 15.0
"""For a client to send the head of its next request, or to read another part of the last answer."""

_LEAST_READ = 75_000  # bytes of an answer in that time
_TASK = "retrieve.task"


class Connections:
    """The open connections. Those that wait for their client are kept by its address, the longest wait first.

    One more than `most` closes the connection that has waited longest of the client with the most: whoever sends a
    request is answered, however many are silent.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._open = set[GuardedProtocol]()
        self._waiting: dict[str, dict[GuardedProtocol, float]] = defaultdict(dict)

    def enter(self, protocol: "GuardedProtocol") -> None:
        """Take a new connection, which waits for its first request."""
        self._open.add(protocol)
        self.wait(protocol)
        if len(self._open) > self._most:
            most = max(self._waiting.values(), key=len)
            self._abort(next(iter(most)))

    def wait(self, protocol: "GuardedProtocol") -> None:
        """Note that a connection waits for its client from now on."""
        self.work(protocol)
        if protocol in self._open:
            self._waiting[protocol.address][protocol] = time.monotonic()

    def work(self, protocol: "GuardedProtocol") -> None:
        """Note that a connection has a request in work."""
        waiting = self._waiting[protocol.address]
        waiting.pop(protocol, None)
        if not waiting:
            del self._waiting[protocol.address]

    def leave(self, protocol: "GuardedProtocol") -> None:
        """Forget a connection that is closed."""
        self._open.discard(protocol)
        self.work(protocol)

    def close_silent(self) -> None:
        """Close the connections that have waited for too long, unless their client reads an answer fast enough."""
        for protocol in [each for each in self._open if each.is_ending]:
            if protocol not in self._waiting.get(protocol.address, ()):
                self.wait(protocol)
        before = time.monotonic() - SILENT_SECONDS
        for protocol in [
            each for waiting in self._waiting.values() for each, since in waiting.items() if since < before
        ]:
            if protocol.has_read(_LEAST_READ):
                self.wait(protocol)
            else:
                self._abort(protocol)

    def _abort(self, protocol: "GuardedProtocol") -> None:
        self.leave(protocol)
        protocol.transport.abort()


class GuardedProtocol(H11Protocol):
    """HTTP/1.1 as uvicorn speaks it, on a connection that is one of `Connections`."""

    def __init__(self, connections: Connections, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.address = ""
        self._others = connections
        self._unsent = 0  # bytes of an answer, when that was last looked at

    @property
    def is_ending(self) -> bool:
        """Whether the connection closes as soon as its client has read what was sent."""
        return self.transport.is_closing()

    def has_read(self, least: int) -> bool:
        """Return whether the client has read so many bytes of an answer since the last call, and has not read all."""
        before, self._unsent = self._unsent, self.transport.get_write_buffer_size()
        return 0 < self._unsent <= before - least

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Enter."""
        super().connection_made(transport)
        self.address = client_address(self.client)
        self._others.enter(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Leave, and cancel the request in work; one whose picture has not arrived ends by itself."""
        self._others.leave(self)
        is_in_work = self.cycle is not None and not self.cycle.response_complete
        if is_in_work and not (self.cycle.more_body and self.scope["method"] == "POST"):
            task = self.scope.get(_TASK)
            if isinstance(task, asyncio.Task):
                task.cancel()
        super().connection_lost(exc)

    def handle_events(self) -> None:
        """Begin the request that has arrived."""
        super().handle_events()
        if self.cycle is not None and not self.cycle.response_complete:
            self._others.work(self)

    def on_response_complete(self) -> None:
        """Wait for the next request."""
        self._unsent = self.transport.get_write_buffer_size()
        self._others.wait(self)
        super().on_response_complete()


def cancellable(app: ASGIApp) -> ASGIApp:
    """Return an application whose requests end when they are cancelled: as their client left, or the server ends."""

    async def run(scope: Scope, receive: Receive, send: Send) -> None:
        has_begun = False

        async def send_and_note(message: Message) -> None:
            nonlocal has_begun
            has_begun = True
            await send(message)

        if scope["type"] != "http":
            await app(scope, receive, send)
            return
        scope[_TASK] = asyncio.current_task()
        try:
            await app(scope, receive, send_and_note)
        except asyncio.CancelledError:
            if not has_begun:
                await refusal_response(_ending())(scope, receive, send)

    return run


def _ending() -> RequestRefused:
    return RequestRefused(HTTPStatus.SERVICE_UNAVAILABLE, "the server is ending: repeat the request when it is back", 5)


def most_open_files() -> int:
    """Return how many files and connections the system lets this process have open."""
    try:
        import resource
    except ModuleNotFoundError:  # on Windows, whose limit is far higher
        return sys.maxsize
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return sys.maxsize if soft == resource.RLIM_INFINITY else soft
