"""Clients that are silent, slow or gone, of a server in this process whose application is a stub."""

import asyncio
import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

import pytest
from starlette.types import Message, Receive, Scope, Send

from retrieval.server.processes import connections, uvicorn_server
from retrieval.server.processes.uvicorn_server import Server

MOST = 20
HEAD = b"GET / HTTP/1.1\r\nHost: here\r\n"
WHOLE = HEAD + b"\r\n"
LONG = 20_000_000
RUDE = {
    "nothing": b"",
    "half a head": HEAD + b"X-a: ",
    "a request, and nothing after it": WHOLE,
    "a request, and half of another": WHOLE + HEAD,
    "an answer before its body": b"POST / HTTP/1.1\r\nHost: here\r\nContent-Length: 9000\r\n\r\nabc",
}


class Stub:
    """Answers `/`; `/long` with much; on `/wait` it notes how its waiting ends."""

    def __init__(self) -> None:
        self.ended: list[str] = []
        self.waiting = threading.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._live(receive, send)
            return
        body = b"answer"
        if scope["path"] == "/wait":
            self.waiting.set()
            try:
                await asyncio.sleep(5 if scope["query_string"] else 0.9)
            except asyncio.CancelledError:
                self.ended.append("cancelled")
                raise
            self.ended.append("done")
        if scope["path"] == "/long":
            body = bytes(LONG)
        length = (b"content-length", b"%d" % len(body))
        await send({"type": "http.response.start", "status": 200, "headers": [length]})
        await send({"type": "http.response.body", "body": body})

    async def _live(self, receive: Receive, send: Send) -> None:
        for _ in range(2):
            message: Message = await receive()
            await send({"type": f"{message['type']}.complete"})


@pytest.fixture
def stub() -> Stub:
    return Stub()


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let clients have little time."""
    monkeypatch.setattr(connections, "SILENT_SECONDS", 0.3)
    monkeypatch.setattr(uvicorn_server, "_TICKS_PER_LOOK", 1)


@pytest.fixture
def server(stub: Stub, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[int, Callable[[], None]]]:
    """Run the server; yields its port, and what ends it and waits for that."""
    servers: list[Server] = []
    monkeypatch.setattr(uvicorn_server, "MAX_CONNECTIONS", MOST)
    monkeypatch.setattr(uvicorn_server, "_GRACE_SECONDS", 1)
    made = Server.__init__

    def make(server: Server, *arguments: Any) -> None:
        made(server, *arguments)
        servers.append(server)

    monkeypatch.setattr(Server, "__init__", make)
    ready = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        arguments = (stub, listener, (), ready.set)
        thread = threading.Thread(target=uvicorn_server.run, args=arguments, daemon=True)
        thread.start()
        assert ready.wait(10)

        def end() -> None:
            servers[0].should_exit = True
            thread.join(10)
            assert not thread.is_alive()

        yield port, end
        end()


@contextmanager
def connected(port: int, sent: bytes) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(sent)
        yield connection


def answer(port: int, sent: bytes = WHOLE) -> bytes:
    with connected(port, sent) as connection:
        return connection.recv(1000)


def wait_for(what: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize("sent", RUDE.values(), ids=RUDE)
def test_a_request_is_answered_however_many_are_silent(server: tuple[int, Callable[[], None]], sent: bytes) -> None:
    port, _ = server
    with ExitStack() as held:
        for number in range(5 * MOST):
            held.enter_context(connected(port, sent))
            if number % MOST == 0:
                assert b" 200 OK" in answer(port)
        assert b" 200 OK" in answer(port)


@pytest.mark.usefixtures("short")
@pytest.mark.parametrize("sent", RUDE.values(), ids=RUDE)
def test_a_silent_connection_is_closed(server: tuple[int, Callable[[], None]], sent: bytes) -> None:
    with connected(server[0], sent) as connection:
        while connection.recv(1000):
            pass  # until it is closed, else a TimeoutError


@pytest.mark.usefixtures("short")
def test_a_request_in_work_is_waited_for(server: tuple[int, Callable[[], None]], stub: Stub) -> None:
    assert b" 200 OK" in answer(server[0], WHOLE.replace(b"/ ", b"/wait "))
    assert stub.ended == ["done"]


@pytest.mark.usefixtures("short")
def test_an_answer_that_is_read_slowly_arrives_and_one_that_is_not_read_ends(
    server: tuple[int, Callable[[], None]],
) -> None:
    sent = WHOLE.replace(b"/ ", b"/long ")
    with connected(server[0], sent) as slow, connected(server[0], sent) as still:
        received = 0
        while received < LONG:
            part = slow.recv(400_000)
            assert part
            received += len(part)
            time.sleep(0.01)
        received = 0
        with suppress(ConnectionResetError):
            while part := still.recv(1_000_000):
                received += len(part)
        assert received < LONG


@pytest.mark.parametrize("more", [b"", b"Content-Length: 9000\r\n"], ids=["whole", "with a body to come"])
def test_a_client_that_leaves_ends_its_request(server: tuple[int, Callable[[], None]], stub: Stub, more: bytes) -> None:
    with connected(server[0], HEAD.replace(b"/ ", b"/wait?long ") + more + b"\r\n"):
        assert stub.waiting.wait(10)
    wait_for(lambda: stub.ended == ["cancelled"])


def test_ten_large_cookies_are_taken(server: tuple[int, Callable[[], None]]) -> None:
    cookies = b"; ".join(b"c%d=%s" % (number, b"x" * 4000) for number in range(10))
    assert b" 200 OK" in answer(server[0], HEAD + b"Cookie: " + cookies + b"\r\n\r\n")


def test_the_end_is_quiet_and_requests_in_work_are_answered(
    server: tuple[int, Callable[[], None]], stub: Stub, caplog: pytest.LogCaptureFixture
) -> None:
    port, end = server
    with connected(port, WHOLE.replace(b"/ ", b"/wait?long ")) as connection, caplog.at_level(logging.DEBUG):
        assert stub.waiting.wait(10)
        end()
        assert b" 503 " in connection.recv(1000)
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []
