"""Web servers: pages that list folders, responses of any size and speed, and endless links."""

import gzip
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from retrieval.common.errors import PictureError
from retrieval.engine import Engine
from retrieval.model.bundle import Bundle
from retrieval.sources import object_store, web
from retrieval.sources.object_store import download, fetch_remote, list_remote, stat_remote
from retrieval.store.indexing.report import IndexReport
from tests.support.galleries import png, rows
from tests.support.objects import Web, forget_servers

Handling = Callable[[BaseHTTPRequestHandler], None]

pytest.importorskip("aiohttp", reason="aiohttp is not installed")


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Handling], str]]:
    """Yield a function that starts a server with this handler of GET and HEAD and returns its address."""
    servers: list[ThreadingHTTPServer] = []
    monkeypatch.setattr(object_store, "RETRY_SECONDS", 0.3)

    def start(answer: Handling) -> str:
        class Handler(BaseHTTPRequestHandler):
            def log_message(self, format: str, *arguments: object) -> None:
                pass

            def do_GET(self) -> None:
                try:
                    answer(self)
                except OSError:  # the client hung up
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
    """Send a response with its length."""
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
<![if foo]><a href="caf%C3%A9%20%23.png">5</a><![endif]> <a href="1.png">1 again</a>"""


def test_the_page_of_a_folder(serve: Callable[[Handling], str]) -> None:
    address = serve(lambda handler: send(handler, PAGE.encode(), Content_Type="text/html"))
    assert {entry.address.removeprefix(address): entry.is_folder for entry in list_remote(f"{address}/g")} == {
        "/g/1.png": False,
        "/g/a&b.png": False,
        "/g/http.png": False,
        "/g/sub": True,
        "/g/caf%C3%A9%20%23.png": False,
    }


def endless(links: Callable[[str], str], requests: list[str]) -> Handling:
    """Serve folders that each have a picture and these links."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        requests.append(handler.path)
        if handler.path.endswith(".png"):
            send(handler, png(1))
        else:
            send(handler, f'{links(handler.path)}<a href="1.png">1</a>'.encode())

    return answer


def reasons(report: IndexReport) -> set[str]:
    return {reason.partition(",")[0] for _, reason in report.failures}


@pytest.mark.slow
def test_the_depth_of_folders_is_bounded(engine: Engine, serve: Callable[[Handling], str]) -> None:
    requests: list[str] = []
    address = serve(endless(lambda path: f'<a href="{len(path)}/">on</a>', requests))
    report = engine.index(f"{address}/g")
    assert (report.added, reasons(report)) == (65, {"lies more than 64 folders deep"})
    assert len(requests) < 300


@pytest.mark.parametrize("links", [["on/"], ["on/", "back/", "up/"], ["%2e%2e/"], ["."]])
def test_folders_that_link_back(engine: Engine, serve: Callable[[Handling], str], links: list[str]) -> None:
    requests: list[str] = []
    page = "".join(f'<a href="{link}">on</a>' for link in links)
    report = engine.index(f"{serve(endless(lambda path: page, requests))}/g")
    enters = links[0] == "on/"
    assert report.added == (1 + len(links) if enters else 1)
    assert reasons(report) == ({"has the same contents as two folders that it lies in"} if enters else set())
    assert len(requests) < 100
    assert len(rows(engine)) == report.added


def test_nested_folders_of_one_name_are_all_entered(engine: Engine, web: Web) -> None:
    folder = web.folder
    for number in range(5):
        folder = folder / "a"
        folder.mkdir()
        (folder / f"{number}.png").write_bytes(png(number))
    assert engine.index(web.address).added == 5


def test_a_compressed_response_has_a_bound(serve: Callable[[Handling], str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(object_store, "MOST_BYTES", 10_000_000)
    bomb = gzip.compress(bytes(50_000_000))
    address = serve(lambda handler: send(handler, bomb, Content_Encoding="gzip"))
    with pytest.raises(PictureError, match=r"is more than the 0\.0 GB that are read"):
        fetch_remote(f"{address}/1.png")


def test_a_response_without_a_length_has_a_bound(
    serve: Callable[[Handling], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(object_store, "MOST_BYTES", 1_000_000)
    sent = 0

    def answer(handler: BaseHTTPRequestHandler) -> None:
        nonlocal sent
        handler.send_response(200)
        handler.end_headers()
        for _ in range(1000 if handler.command == "GET" else 0):
            handler.wfile.write(bytes(100_000))
            sent += 100_000

    with pytest.raises(PictureError, match="is more than"):
        fetch_remote(f"{serve(answer)}/1.png")
    assert sent < 50_000_000


@pytest.mark.parametrize("knows_ranges", [True, False])
def test_a_range_of_a_file_is_cut_from_any_response(serve: Callable[[Handling], str], knows_ranges: bool) -> None:
    whole = bytes(range(256)) * 1000

    def answer(handler: BaseHTTPRequestHandler) -> None:
        if knows_ranges:
            start, end = map(int, handler.headers["Range"].removeprefix("bytes=").split("-"))
            send(handler, whole[start : end + 1], 206)
        else:
            send(handler, whole)

    assert fetch_remote(f"{serve(answer)}/a.tar", size=300, start=700) == whole[700:1000]


def dripping(handler: BaseHTTPRequestHandler) -> None:
    """Send files and headers a byte at a time, but pages of folders at once."""
    if handler.path.endswith("/"):
        send(handler, b"")
    elif handler.command == "HEAD" and handler.path.endswith(".txt"):
        handler.wfile.write(b"HTTP/1.0 200 OK\r\n")
        for number in range(200):
            handler.wfile.write(f"X-{number}: x\r\n".encode())
            time.sleep(0.05)
    else:
        handler.send_response(200)
        handler.send_header("Content-Length", "1000000000")
        handler.end_headers()
        for _ in range(200 if handler.command == "GET" else 0):
            handler.wfile.write(b"x")
            time.sleep(0.05)


@pytest.mark.slow
@pytest.mark.parametrize(
    "read",
    [
        lambda address, folder: fetch_remote(f"{address}/1.png"),
        lambda address, folder: fetch_remote(f"{address}/1.png", size=1_000_000_000),
        lambda address, folder: fetch_remote(f"{address}/a.tar", size=1000, start=512),
        lambda address, folder: download(f"{address}/a.tar", str(folder / "a.tar"), threading.Event()),
        lambda address, folder: stat_remote(f"{address}/l.txt"),
    ],
)
def test_a_server_that_drips_times_out(
    serve: Callable[[Handling], str],
    monkeypatch: pytest.MonkeyPatch,
    read: Callable[[str, Path], object],
    tmp_path: Path,
) -> None:
    monkeypatch.setattr(web, "_BASE_TIMEOUT", 0.5)
    started = time.monotonic()
    with pytest.raises(PictureError, match="cannot be read"):
        read(serve(dripping), tmp_path)
    assert time.monotonic() - started < 5


@pytest.mark.slow
def test_a_fast_enough_response_may_exceed_the_timeout(
    serve: Callable[[Handling], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(web, "_BASE_TIMEOUT", 0.5)
    monkeypatch.setattr(web, "_MIN_RATE", 100_000)

    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.end_headers()
        for _ in range(10):
            handler.wfile.write(bytes(100_000))
            time.sleep(0.1)

    assert len(fetch_remote(f"{serve(answer)}/1.png", size=1_000_000)) == 1_000_000


def test_a_cancelled_download_ends(serve: Callable[[Handling], str], tmp_path: Path) -> None:
    cancelled = threading.Event()

    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.end_headers()
        for number in range(600):
            handler.wfile.write(bytes(100_000))
            time.sleep(0.05)
            if number == 5:
                cancelled.set()

    started = time.monotonic()
    with pytest.raises(PictureError, match="is no longer needed"):
        download(f"{serve(answer)}/a.tar", str(tmp_path / "a.tar"), cancelled)
    assert time.monotonic() - started < 10


@pytest.mark.parametrize(
    ("header", "mtime"),
    [
        ("Thu, 01 Jan 1970 00:00:01 GMT", 10**9),
        ("Thu, 01 Jan 1970 00:00:01 +99999999", 0),
        ("Fri, 31 Dec 9999 23:59:59 GMT", 0),
        ("never", 0),
    ],
)
def test_times_of_any_form(serve: Callable[[Handling], str], header: str, mtime: int) -> None:
    address = serve(lambda handler: send(handler, b"x", Last_Modified=header, ETag='"caf\xe9"'))
    entry = stat_remote(f"{address}/1.png")
    assert entry.mtime == mtime
    assert entry.version is not None
    entry.version.encode()


def test_labels_are_storable_text(engine: Engine, serve: Callable[[Handling], str]) -> None:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        if handler.path.endswith(".png"):
            send(handler, png(1))
        else:
            send(handler, b'<a href="a%00%ff/">a</a>' if handler.path == "/g/" else b'<a href="1.png">1</a>')

    address = f"{serve(answer)}/g"
    assert engine.index(address).added == 1
    assert list(rows(engine).values()) == ["a \ufffd"]
    assert engine.index(address).added == 1  # its server sends nothing that identifies the content
    assert engine.catalogue.pictures.labels() == ["a \ufffd"]


@pytest.mark.parametrize("target", ["foo://SECRET/1.png", "http://[SECRET/1.png"])
def test_a_redirect_to_no_address_is_not_retried(
    serve: Callable[[Handling], str], monkeypatch: pytest.MonkeyPatch, target: str
) -> None:
    monkeypatch.setattr("retrieval.sources.object_store.time.sleep", lambda seconds: pytest.fail("it was retried"))
    address = serve(lambda handler: send(handler, b"", 302, Location=target))
    with pytest.raises(PictureError) as caught:
        fetch_remote(f"{address}/1.png")
    assert "SECRET" not in str(caught.value)
