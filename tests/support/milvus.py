"""Milvus for tests: milvus-lite in a file, or serving on a port of this machine, to be killed and begun anew."""

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path

import numpy as np
import pytest

from indexes.arrays import Ids
from indexes.vectors.index_address import MilvusAddress, parse_address
from indexes.vectors.milvus_connection import shared_connection
from indexes.vectors.milvus_storage import MilvusStorage

FINGERPRINT = "0123456789abcdef0123"


def need_milvus() -> None:
    """Skip where the packages are missing."""
    for package in ("pymilvus", "milvus_lite"):
        pytest.importorskip(package, reason=f"{package} is not installed: pip install '.[milvus]'")


class Process:
    """milvus-lite as a process that listens on a port."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = int(free.getsockname()[1])
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        return f"milvus://127.0.0.1:{self.port}/tests"

    def start(self) -> None:
        """Begin to serve, and wait until it listens."""
        place = ["--data-dir", str(self._folder), "--host", "127.0.0.1", "--port", str(self.port)]
        command = [sys.executable, "-m", "milvus_lite", "server", *place]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for _ in range(600):
            assert self._process.poll() is None, "milvus-lite ended"
            with socket.socket() as tried:
                if tried.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.05)
        raise AssertionError("milvus-lite does not listen")

    def kill(self) -> None:
        """End it as a crash does."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


@contextmanager
def serving(folder: Path) -> Iterator[Process]:
    """Run a server."""
    process = Process(folder)
    process.start()
    try:
        yield process
    finally:
        process.kill()


def address_of(written: str) -> MilvusAddress:
    """Return the address of a Milvus."""
    address = parse_address(written)
    assert address is not None
    return address


def labels_of(ids: Ids) -> dict[int, str]:
    """Labels that are only known to tests: of every id but each fifth one."""
    return {int(id_): f"label {id_ % 3}" for id_ in ids if id_ % 5}


def home_at(written: str, folder: Path, store: str = "store", fingerprint: str = FINGERPRINT) -> MilvusStorage:
    """Return the index storage at an address, with `folder` as that of its store."""
    return MilvusStorage(shared_connection(address_of(written), folder), always, store, fingerprint, labels_of)


def always(must_wait: bool) -> AbstractContextManager[bool]:
    """Yield a lock that nobody else holds."""
    return nullcontext(True)


def no_sample(count: int) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    """Fail if called: an index on Milvus needs no sample."""
    raise AssertionError("Milvus learns by itself")
