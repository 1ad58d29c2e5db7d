"""A server as a process of its own over a folder, for the benchmarks that ask one."""

import os
import re
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from support.machine import RETRIEVE


@contextmanager
def served_store(gallery: Path, *options: str) -> Iterator[str]:
    """Make a store of this folder, serve it, and yield the address."""
    with tempfile.TemporaryDirectory() as folder:
        index(Path(folder) / "store", gallery)
        with server(Path(folder) / "store", *options) as (address, _):
            yield address


def index(store: Path, *galleries: Path | str) -> None:
    """Bring a store up to date with these folders; options may stand among them."""
    command = [*RETRIEVE, "index", *map(str, galleries), "--store", os.fspath(store)]
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True)


@contextmanager
def server(store: Path, *options: str) -> Iterator[tuple[str, int]]:
    """Serve a store and yield the address and the process."""
    command = [*RETRIEVE, "serve", "--port", "0", "--store", os.fspath(store), *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=os.environ | {"COLUMNS": "200"}, text=True) as process:
        assert process.stdout is not None
        found = re.search(r"http://\S+", process.stdout.readline())
        assert found, "the server did not start"
        try:
            yield found[0], process.pid
        finally:
            process.terminate()  # a shell starts what runs in its background with SIGINT ignored
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                raise
