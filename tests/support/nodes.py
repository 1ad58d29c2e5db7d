"""A Ray cluster of node processes on this machine, for tests; all of it is ended."""

import os
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from tests.support.command import PROJECT

_STORE_BYTES = 100 << 20


@contextmanager
def ray_folder() -> Iterator[None]:
    """Let Ray keep its files, and look for clusters, in a folder with a short name, as sockets need it."""
    folder = tempfile.mkdtemp(prefix="ray-", dir="/tmp")
    with pytest.MonkeyPatch.context() as patch:
        for name in ("RAY_ADDRESS", "RAY_JOB_ID"):
            patch.delenv(name, raising=False)
        patch.setenv("RAY_TMPDIR", folder)
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("PYTHONPATH", os.fspath(PROJECT))
        try:
            yield
        finally:
            _end(folder)
            shutil.rmtree(folder, ignore_errors=True)


class Nodes:
    """A head and one more node, each with the room of one worker."""

    def __init__(self) -> None:
        from ray.cluster_utils import Cluster

        options: dict[str, Any] = {"num_cpus": 2, "object_store_memory": _STORE_BYTES, "include_dashboard": False}
        self._cluster = _begun(lambda: Cluster(initialize_head=True, head_node_args=options))
        self.address: str = self._cluster.address
        self.add()

    def add(self) -> None:
        """Add a node."""
        self._node = _begun(lambda: self._cluster.add_node(num_cpus=2, object_store_memory=_STORE_BYTES))

    def kill(self) -> None:
        """Send SIGKILL to the raylet of the node that was added last; its workers end with it."""
        os.kill(self._node.all_processes["raylet"][0].process.pid, signal.SIGKILL)

    def shutdown(self) -> None:
        self._cluster.shutdown()


def _begun(start: Callable[[], Any]) -> Any:
    """Start a node, with a second try: Ray gives it half a minute, which a busy machine may exceed."""
    for left in reversed(range(3)):
        try:
            return start()
        except Exception:
            if not left:
                raise
    raise AssertionError("the last try ends it")


def processes(words: str) -> list[int]:
    """Return the processes whose command line or environment contains these words."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit() and int(folder.name) != os.getpid():
            with suppress(OSError):
                said = (folder / "cmdline").read_bytes() + (folder / "environ").read_bytes()
                if words.encode() in said:
                    found.append(int(folder.name))
    return found


def workers() -> list[int]:
    """Return the indexing worker processes of the clusters in this folder."""
    here = set(processes(f"RAY_TMPDIR={os.environ['RAY_TMPDIR']}"))
    return [pid for pid in here if b"ray::Worker" in _title(pid)]


def _title(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def _end(folder: str) -> None:
    """End what Ray has started in this folder and not ended itself."""
    started = time.monotonic()
    while left := processes(folder):
        if time.monotonic() > started + 5:
            for pid in left:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        if time.monotonic() > started + 20:
            raise AssertionError(f"{left} of Ray did not end")
        time.sleep(0.1)
