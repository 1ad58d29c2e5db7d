"""Web servers of all kinds: pages that list folders, answers of any size, and links without an end."""

from __future__ import annotations

import gzip
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from retrieval import remote, remote_http
from retrieval.bundle import Bundle
from retrieval.engine import Engine
from retrieval.errors import PictureError
from retrieval.remote import copied, examined, fetched, listed
from tests.objects import forget_servers
from tests.test_object_galleries import png, rows

Answering = Callable[[BaseHTTPRequestHandler], None]

pytest.importorskip("aiohttp", reason="aiohttp is not installed")


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Answering], str]]:
    """Starts a server that answers GET and HEAD as it is told to; gives its address."""
    servers: list[ThreadingHTTPServer] = []
    monkeypatch.setattr(remote, "PATIENCE", 0.3)

    def start(answer: Answering) -> str:
        class Handler(BaseHTTPRequestHandler):
            def log_message(self, format: str, *arguments: object) -> None:
                pass

            def do_GET(self) -> None:
                try:
                    answer(self)
                except OSError:  # the client had enough
                    self.close_connection = True

            do_HEAD = do_GET

        servers.append(ThreadingHTTPServer(("127.0.0.1", 0), Handler))
        threading.Thread(target=servers[-1].serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{servers[-1].server_port}"

    forget_servers()
    yield start
    for server in servers:
        server.shutdown()
        server.server_close()
    forget_servers()


def send(handler: BaseHTTPRequestHandler, content: bytes, status: int = 200, **headers: str) -> None:
    """An answer with its length."""
    handler.send_response(status)
    for name, value in ({"Content-Length": str(len(content))} | headers).items():
        handler.send_header(name.replace("_", "-"), value)
    handler.end_headers()
    if handler.command == "GET":
        handler.wfile.write(content)


@pytest.fixture
def engine(tmp_path: Path, tiny_bundle: Bundle) -> Iterator[Engine]:
    engine = Engine.create(tmp_path / "store", str(tiny_bundle.folder))
    yield engine
    engine.close()


PAGE = """<html><a href="./1.png">1</a> <A HREF='/g/a&amp;b.png'>2</A> <a class=x href="http.png">3</a>
<a href="?C=N;O=D">by name</a> <a href="../">up</a> <a href="/">top</a> <a href="https://elsewhere.example/g/4.png">4</a>
<a href="sub/">sub</a> <a href="http://[bad/">bad</a> <a>none</a> <a href="sub/deep.png">too deep</a>
<a href="caf%C3%A9%20%23.png">5</a> <a href="1.png">1 again</a>"""


def test_the_page_of_a_folder(serve: Callable[[Answering], str]) -> None:
    address = serve(lambda handler: send(handler, PAGE.encode(), Content_Type="text/html"))
    found = {entry.address.removeprefix(address): entry.is_folder for entry in listed(f"{address}/g")}
    assert found == {
        "/g/1.png": False,
        "/g/a&b.png": False,
        "/g/http.png": False,
        "/g/sub": True,
        "/g/caf%C3%A9%20%23.png": False,
    }


@pytest.mark.parametrize("link", ["deeper/", "%2e%2e/", "."])
def test_folders_without_an_end(engine: Engine, serve: Callable[[Answering], str], link: str) -> None:
    asked: list[str] = []

    def answer(handler: BaseHTTPRequestHandler) -> None:
        asked.append(handler.path)
        if handler.path.endswith(".png"):
            send(handler, png(1))
        else:
            send(handler, f'<a href="{link}">on</a><a href="1.png">1</a>'.encode())

    report = engine.index(f"{serve(answer)}/g")
    assert len(asked) < 300
    assert report.added == (65 if link == "deeper/" else 1)
    assert [reason.partition(",")[0] for _, reason in report.failures] == (
        ["lies more than 64 folders deep"] if link == "deeper/" else []
    )
    assert len(rows(engine)) == report.added


def test_a_packed_answer_is_not_unpacked_without_a_bound(
    serve: Callable[[Answering], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote, "MOST_BYTES", 10_000_000)
    bomb = gzip.compress(bytes(50_000_000))
    address = serve(lambda handler: send(handler, bomb, Content_Encoding="gzip"))
    with pytest.raises(PictureError, match=r"is more than the 0\.0 GB that are fetched"):
        fetched(f"{address}/1.png")


def test_an_answer_of_no_told_length_has_a_bound(
    serve: Callable[[Answering], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote, "MOST_BYTES", 1_000_000)
    sent = 0

    def answer(handler: BaseHTTPRequestHandler) -> None:
        nonlocal sent
        handler.send_response(200)
        handler.end_headers()
        for _ in range(1000 if handler.command == "GET" else 0):
            handler.wfile.write(bytes(100_000))
            sent += 100_000

    with pytest.raises(PictureError, match="is more than"):
        fetched(f"{serve(answer)}/1.png")
    assert sent < 50_000_000


@pytest.mark.parametrize("knows_ranges", [True, False])
def test_a_part_of_a_file_is_no_more_than_was_asked_for(serve: Callable[[Answering], str], knows_ranges: bool) -> None:
    whole = bytes(range(256)) * 1000

    def answer(handler: BaseHTTPRequestHandler) -> None:
        if knows_ranges:
            start, end = map(int, handler.headers["Range"].removeprefix("bytes=").split("-"))
            send(handler, whole[start : end + 1], 206)
        else:
            send(handler, whole)

    assert fetched(f"{serve(answer)}/a.tar", size=300, start=700) == whole[700:1000]


def test_a_server_that_drips_is_given_up(serve: Callable[[Answering], str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote_http, "_PATIENCE", 0.5)
    monkeypatch.setattr(remote_http, "_SLOWEST", 1e12)

    def answer(handler: BaseHTTPRequestHandler) -> None:
        if handler.path.endswith(".png"):
            handler.send_response(200)
            handler.end_headers()
            for _ in range(100):
                handler.wfile.write(b"x")
                time.sleep(0.05)
        else:
            send(handler, b"")

    started = time.monotonic()
    with pytest.raises(PictureError, match="cannot be read"):
        fetched(f"{serve(answer)}/1.png", size=1000)
    assert time.monotonic() - started < 4


def test_what_nobody_waits_for_is_not_fetched_to_its_end(serve: Callable[[Answering], str], tmp_path: Path) -> None:
    is_over = threading.Event()

    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.end_headers()
        for number in range(600):
            handler.wfile.write(bytes(100_000))
            time.sleep(0.05)
            if number == 5:
                is_over.set()

    started = time.monotonic()
    with pytest.raises(PictureError, match="is not waited for any more"):
        copied(f"{serve(answer)}/a.tar", str(tmp_path / "a.tar"), is_over)
    assert time.monotonic() - started < 10


@pytest.mark.parametrize(
    ("told", "mtime"),
    [
        ("Thu, 01 Jan 1970 00:00:01 GMT", 10**9),
        ("Thu, 01 Jan 1970 00:00:01 +99999999", 0),
        ("Fri, 31 Dec 9999 23:59:59 GMT", 0),
        ("never", 0),
    ],
)
def test_any_time_that_a_server_tells(serve: Callable[[Answering], str], told: str, mtime: int) -> None:
    address = serve(lambda handler: send(handler, b"x", Last_Modified=told, ETag='"caf\xe9"'))
    entry = examined(f"{address}/1.png")
    assert entry.mtime == mtime
    assert entry.version is not None
    entry.version.encode()
