"""An S3 server of the tests' own on a port of this machine, which fails on demand; and a plain web server."""

from __future__ import annotations

import functools
import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from retrieval.sources import object_store

BUCKET = "pictures"

Fault = Callable[[str, str], str | None]
"""What is to become of a request, by its method and path: None: it is answered; "500", "503"; "hang"."""


@dataclass
class Objects:
    """A server that runs. `fault` says what becomes of each request; `requests` are those that came."""

    port: int = 0
    bucket: str = BUCKET
    fault: Fault = lambda method, path: None
    requests: list[tuple[str, str]] = field(default_factory=list)
    hang: float = 3.0
    application: Faulty | None = None

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


class Faulty:
    """The server's application, behind one that lets requests fail."""

    def __init__(self, application: Any, objects: Objects) -> None:
        self._application = application
        self.objects = objects

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        method, path = environ["REQUEST_METHOD"], environ["PATH_INFO"].encode("latin-1").decode("utf-8", "replace")
        path += f"?{environ['QUERY_STRING']}" if environ["QUERY_STRING"] else ""
        self.objects.requests.append((method, path))
        fault = self.objects.fault(method, path)
        if fault == "hang":
            time.sleep(self.objects.hang)
        elif fault:
            start_response(f"{fault} Fault", [("Content-Type", "application/xml")])
            body = b"<Error><Code>InternalError</Code><Message>We failed.</Message></Error>"
            return [] if method == "HEAD" else [body]
        answer: Iterable[bytes] = self._application(environ, start_response)
        return answer


@pytest.fixture(scope="session")
def s3() -> Iterator[Objects]:
    pytest.importorskip("moto.server", reason="moto is not installed")
    pytest.importorskip("s3fs", reason="s3fs is not installed")
    from moto.server import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import make_server

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    objects = Objects()
    objects.application = Faulty(DomainDispatcherApplication(create_backend_app), objects)
    server = make_server("127.0.0.1", 0, objects.application, threaded=True)
    objects.port = server.server_port
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield objects
    server.shutdown()
    thread.join()


@contextmanager
def bucket_of(server: Objects) -> Iterator[Objects]:
    """Return the server with a new bucket, set in the environment for commands too; no request fails at first."""
    values = {
        "AWS_ACCESS_KEY_ID": "tester",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{server.port}",
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in values.items():
            patch.setenv(name, value)
        forget_servers()
        own = replace(server, bucket=f"pictures-{time.monotonic_ns()}", requests=[])
        assert server.application is not None
        before, server.application.objects = server.application.objects, own
        own._system().mkdir(own.bucket)
        own.requests.clear()
        yield own
        server.application.objects = before
        forget_servers()


@pytest.fixture
def objects(s3: Objects) -> Iterator[Objects]:
    """Return the server with a bucket of this test."""
    with bucket_of(s3) as objects:
        yield objects


def forget_servers() -> None:
    """Reset all connections, the environment's values, and the list of unreachable servers."""
    object_store.file_system.cache_clear()
    object_store._unreachable.clear()
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
    requests: list[tuple[str, str]] = field(default_factory=list)
    fault: Fault = lambda method, path: None


@pytest.fixture
def web(tmp_path: Path) -> Iterator[Web]:
    """Run a web server over the folder `www` of this test."""
    pytest.importorskip("aiohttp", reason="aiohttp is not installed")
    folder = tmp_path / "www"
    folder.mkdir()
    web = Web(folder, "")

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
            web.requests.append((self.command, self.path))
            fault = web.fault(self.command, self.path)
            if fault:
                self.send_error(int(fault))
            return fault is not None

    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=str(folder)))
    web.address = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    forget_servers()
    yield web
    server.shutdown()
    server.server_close()
    thread.join()
