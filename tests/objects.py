"""An S3 server of the tests' own on a port of this machine, which fails as it is told to; and a plain web server."""

from __future__ import annotations

import functools
import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from retrieval import remote

BUCKET = "pictures"

Fault = Callable[[str, str], str | None]
"""What is to become of a request, by its method and path: None: it is answered; "500", "503"; "hang"."""


@dataclass
class Objects:
    """A server that runs. `fault` says what becomes of each request; `asked` are those that came."""

    port: int = 0
    bucket: str = BUCKET
    fault: Fault = lambda method, path: None
    asked: list[tuple[str, str]] = field(default_factory=list)
    hang: float = 3.0

    @property
    def address(self) -> str:
        """The bucket's address."""
        return f"s3://{self.bucket}"

    def put(self, key: str, content: bytes) -> str:
        """Keep an object; its address."""
        self._system().pipe_file(f"{self.bucket}/{key}", content)
        return f"{self.address}/{key}"

    def put_folder(self, folder: Path, prefix: str) -> str:
        """Keep all files of a folder below a prefix; its address."""
        for file in sorted(folder.rglob("*")):
            if file.is_file():
                self.put(f"{prefix}/{file.relative_to(folder)}", file.read_bytes())
        return f"{self.address}/{prefix}"

    def delete(self, key: str) -> None:
        """Delete an object."""
        self._system().rm_file(f"{self.bucket}/{key}")

    def _system(self) -> Any:
        import s3fs

        return s3fs.S3FileSystem(use_listings_cache=False)


class _Faulty:
    """The server's application, behind one that lets requests fail."""

    def __init__(self, application: Any, objects: Objects) -> None:
        self._application = application
        self._objects = objects

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        method, path = environ["REQUEST_METHOD"], environ["PATH_INFO"].encode("latin-1").decode("utf-8", "replace")
        path += f"?{environ['QUERY_STRING']}" if environ["QUERY_STRING"] else ""
        self._objects.asked.append((method, path))
        fault = self._objects.fault(method, path)
        if fault == "hang":
            time.sleep(self._objects.hang)
        elif fault:
            start_response(f"{fault} Fault", [("Content-Type", "application/xml")])
            return [b"<Error><Code>InternalError</Code><Message>We failed.</Message></Error>"]
        answer: Iterable[bytes] = self._application(environ, start_response)
        return answer


@pytest.fixture(scope="session")
def _s3() -> Iterator[Objects]:
    pytest.importorskip("moto.server", reason="moto is not installed")
    pytest.importorskip("s3fs", reason="s3fs is not installed")
    from moto.server import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import make_server

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    objects = Objects()
    application = _Faulty(DomainDispatcherApplication(create_backend_app), objects)
    server = make_server("127.0.0.1", 0, application, threaded=True)
    objects.port = server.server_port
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield objects
    server.shutdown()
    thread.join()


@pytest.fixture
def objects(_s3: Objects, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Iterator[Objects]:
    """The server with a bucket of this test, known by the environment to commands too; it fails nothing at first."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "tester")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{_s3.port}")
    _s3.bucket = f"pictures-{time.monotonic_ns()}"
    _s3.fault = lambda method, path: None
    forget_servers()
    _s3._system().mkdir(_s3.bucket)
    _s3.asked.clear()
    yield _s3
    _s3.fault = lambda method, path: None
    forget_servers()


def forget_servers() -> None:
    """Connections are made anew, with the environment's values, and no server counts as silent."""
    remote.file_system.cache_clear()
    remote._silent.clear()
    try:
        import s3fs

        s3fs.S3FileSystem.clear_instance_cache()
    except ImportError:
        pass


@dataclass
class Web:
    """A plain web server over a folder, which lists folders and knows of no ranges."""

    folder: Path
    address: str
    asked: list[tuple[str, str]] = field(default_factory=list)
    fault: Fault = lambda method, path: None


@pytest.fixture
def web(tmp_path: Path) -> Iterator[Web]:
    """A web server over the folder `www` of this test."""
    pytest.importorskip("aiohttp", reason="aiohttp is not installed")
    folder = tmp_path / "www"
    folder.mkdir()
    told = Web(folder, "")

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, format: str, *arguments: object) -> None:
            pass

        def do_GET(self) -> None:
            if not self._faulty():
                super().do_GET()

        def do_HEAD(self) -> None:
            if not self._faulty():
                super().do_HEAD()

        def _faulty(self) -> bool:
            told.asked.append((self.command, self.path))
            fault = told.fault(self.command, self.path)
            if fault:
                self.send_error(int(fault))
            return fault is not None

    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=str(folder)))
    told.address = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    forget_servers()
    yield told
    server.shutdown()
    server.server_close()
    thread.join()
