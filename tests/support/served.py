"""Servers over the tests' own store: in the test's process, or as a user starts them."""

import json
import re
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from fastapi.testclient import TestClient

from retrieval.engine import Engine
from retrieval.server.app import make_app
from retrieval.server.config import ServerConfig
from retrieval.server.shared_folders import shared_folders
from tests.support.command import RETRIEVE, environment

HERE = "http://127.0.0.1:8000"


@contextmanager
def client_of(store: Path, config: ServerConfig | None = None, base_url: str = HERE) -> Iterator[TestClient]:
    """Return a client of a server in this process."""
    config = config or ServerConfig()
    with Engine.open(store) as engine, shared_folders(config.uploads) as shared:
        app = make_app(engine, lambda: Engine.open(store), config, shared)
        with TestClient(app, base_url=base_url, follow_redirects=False) as client:
            yield client


@contextmanager
def served(store: Path, *options: str | Path, stop: signal.Signals = signal.SIGINT) -> Iterator[str]:
    """Run `retrieve serve` on a free port; yields its address. It must end well on the `stop` signal."""
    with started(store, *options) as (address, process):
        assert process.stderr is not None
        try:
            yield address
        finally:
            stopped = time.monotonic()
            process.send_signal(stop)
            process.wait(timeout=30)
        assert process.returncode == 0, process.stderr.read().decode()
        assert time.monotonic() - stopped < 15


@contextmanager
def started(
    store: Path, *options: str | Path, ignored: Sequence[signal.Signals] = ()
) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """Also yield the process, which leads its own group; the caller ends it, or it is killed.

    It begins with these signals ignored, and no others, whatever those of the tests are.
    """
    command = [*RETRIEVE, "serve", "--port", "0", "--store", store, *options]
    pipe = subprocess.PIPE
    with subprocess.Popen(
        command,
        env=environment(),
        stdout=pipe,
        stderr=pipe,
        start_new_session=True,
        preexec_fn=partial(_ignore, ignored),
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        try:
            line = process.stdout.readline().decode()
            match = re.search(r"http://\S+", line)
            assert match, process.stderr.read().decode()
            yield match[0], process
        finally:
            process.kill()


def _ignore(ignored: Sequence[signal.Signals]) -> None:
    for each in (signal.SIGINT, signal.SIGHUP):
        signal.signal(each, signal.SIG_IGN if each in ignored else signal.SIG_DFL)


def lines_of(text: str) -> list[dict[str, Any]]:
    """Return the objects of a stream."""
    return [json.loads(line) for line in text.splitlines()]
