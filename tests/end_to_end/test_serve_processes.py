"""`retrieve serve --processes` as a user starts it: real processes, all but one of which are stopped at times."""

import http.client
import json
import os
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from indexes.catalogue.catalogue import Catalogue
from retrieval.engine import Engine
from tests.support.command import retrieve, sentence
from tests.support.served import started
from tests.support.store import Indexed

pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="processes are found in /proc")


def children(process: int) -> dict[int, str]:
    """Return the child processes of a process, with their commands."""
    found = {}
    for place in Path("/proc").iterdir():
        try:
            if place.name.isdecimal() and (place / "stat").read_text().rpartition(")")[2].split()[1] == str(process):
                found[int(place.name)] = (place / "cmdline").read_text().replace("\0", " ")
        except OSError:  # ended meanwhile
            continue
    return found


def workers(process: int) -> list[int]:
    return sorted(child for child, command in children(process).items() if "resource_tracker" not in command)


def is_alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def wait_until(holds: Callable[[], bool], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@contextmanager
def only(worker: int, of: list[int]) -> Iterator[None]:
    """Let one worker answer; the others are stopped."""
    others = [each for each in of if each != worker]
    for each in others:
        os.kill(each, signal.SIGSTOP)
    try:
        yield
    finally:
        for each in others:
            os.kill(each, signal.SIGCONT)


def folders_of(gallery: Path) -> list[Path]:
    """Return the folders of servers whose indexing failed with this gallery's name."""
    notes = Path(tempfile.gettempdir()).glob("retrieve-serve-*/indexing/failed")
    return [note.parent.parent for note in notes if str(gallery) in note.read_text()]


class Served:
    def __init__(self, address: str, process: subprocess.Popen[bytes]) -> None:
        self.process = process
        self.killed = 0
        self._address = address.removeprefix("http://").rstrip("/")

    @property
    def workers(self) -> list[int]:
        return workers(self.process.pid)

    def request(self, method: str, path: str, content: bytes = b"") -> tuple[int, bytes]:
        """Send a request over a connection of its own."""
        connection = http.client.HTTPConnection(self._address, timeout=30)
        try:
            connection.request(method, path, content)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def json(self, method: str, path: str, content: bytes = b"") -> Any:
        status, body = self.request(method, path, content)
        assert status in (200, 202), body
        return json.loads(body)

    def by_each(self, method: str, path: str, content: bytes = b"") -> list[Any]:
        """Return the answer of every worker."""
        found = []
        for worker in self.workers:
            with only(worker, self.workers):
                found.append(self.json(method, path, content))
        return found

    def counted(self, name: str) -> float:
        lines = self.request("GET", "/metrics")[1].decode().splitlines()
        return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(name))


@contextmanager
def processes(store: Path, count: int = 2, *options: str | Path) -> Iterator[Served]:
    with started(store, "--processes", str(count), *options) as (address, process):
        yield Served(address, process)


def stop_server(served: Served, stop: Callable[[], None], code: int, seconds: float = 15) -> str:
    """Stop the server; return its standard error. None of its processes may be left."""
    family = list(children(served.process.pid))
    assert len(family) >= 2
    stop()
    assert served.process.wait(seconds) == code
    wait_until(lambda: not any(map(is_alive, family)), seconds)
    assert served.process.stderr is not None
    return served.process.stderr.read().decode()


@pytest.fixture(scope="module")
def served(indexed: Indexed) -> Iterator[Served]:
    with processes(indexed.store) as served:
        yield served
        group = served.process.pid
        message = stop_server(served, lambda: os.killpg(group, signal.SIGINT), 0)  # as Ctrl-C in a terminal does
        assert "Traceback" not in message
        assert message.count("was ended by SIGKILL: another one takes its place\n") == served.killed, message
        assert message.count("\n") == served.killed, message


def test_each_gives_equal_answers(served: Served, indexed: Indexed) -> None:
    one, other = served.by_each("POST", "/api/query?top=4&verify=true", indexed.picture.read_bytes())
    assert one["hits"]
    assert one["hits"] == other["hits"]
    assert one["explanations"] == other["explanations"]


def test_an_upload_to_one_process_is_found_by_each(served: Served, indexed: Indexed) -> None:
    with only(served.workers[0], served.workers):
        name = served.json("POST", "/api/uploads", indexed.picture.read_bytes())["upload"]
    one, other = served.by_each("GET", f"/api/query?upload={name}&explain=false")
    assert one["hits"] == other["hits"]
    with only(served.workers[1], served.workers):
        assert served.request("GET", f"/api/uploads/{name}/image")[0] == 200


def test_metrics_add_up_whichever_process_answers(served: Served) -> None:
    name = 'retrieve_requests_total{method="GET",route="/api/pictures/{picture}",status="200"}'
    before = served.counted(name)
    served.by_each("GET", "/api/pictures/1")
    served.by_each("GET", "/api/pictures/2")
    wait_until(lambda: served.counted(name) == before + 4)  # an answer is counted after it was sent
    for worker in served.workers:
        with only(worker, served.workers):
            assert served.counted(name) == before + 4
            assert served.counted("retrieve_pictures ") == 16


def test_a_killed_process_loses_its_requests_in_work_and_is_replaced(served: Served, indexed: Indexed) -> None:
    first, second = served.workers
    name = 'retrieve_requests_total{method="POST",route="/api/query",status="200"}'
    before, content, lost = served.counted(name), indexed.picture.read_bytes(), []

    def send_queries() -> None:
        for _ in range(10):
            try:
                served.json("POST", "/api/query?top=4&method=gradcam", content)
            except (OSError, http.client.HTTPException):
                lost.append(1)

    clients = [threading.Thread(target=send_queries) for _ in range(3)]
    for client in clients:
        client.start()
    time.sleep(0.1)
    os.kill(first, signal.SIGKILL)
    served.killed += 1
    for client in clients:
        client.join()
    assert len(lost) <= 3
    wait_until(lambda: len(served.workers) == 2 and first not in served.workers)
    assert second in served.workers
    new = next(worker for worker in served.workers if worker != second)
    with only(new, served.workers):
        assert served.json("POST", "/api/query?top=4", content)["hits"]
    wait_until(lambda: served.counted(name) >= before + 30 - len(lost))  # the counts of the dead process stay
    wait_until(lambda: served.counted("retrieve_requests_in_work") == 0)


def test_each_process_reports_the_only_indexing_and_a_killed_parent_leaves_nothing(
    indexed: Indexed, tmp_path: Path
) -> None:
    gallery, store = tmp_path / "gallery", tmp_path / "store"
    gallery.mkdir()
    shutil.copy(indexed.picture, gallery)
    engine = Engine.create(store)
    engine.index(gallery)
    engine.close()
    shutil.rmtree(gallery)
    uploads = tmp_path / "uploads"
    with processes(store, 2, "--uploads", uploads) as served:
        name = served.json("POST", "/api/uploads", indexed.picture.read_bytes())["upload"]
        served.json("POST", "/api/index")
        wait_until(lambda: served.json("GET", "/api/status")["indexing"] is None)
        for status in served.by_each("GET", "/api/status"):
            assert str(gallery) in status["indexing_error"]
        (own,) = folders_of(gallery)
        with FileLock(own / "indexing" / "turn"):  # as if it ran in another process
            for worker in served.workers:
                with only(worker, served.workers):
                    status, body = served.request("POST", "/api/index")
                    assert status == 409, body
                    assert served.json("GET", "/api/status")["indexing"] is not None
        stop_server(served, served.process.kill, -signal.SIGKILL)
    assert not own.exists()
    assert os.listdir(uploads / "retrieve-uploads") == [name]


def test_a_damaged_store_ends_all_processes_with_one_sentence(indexed: Indexed, tmp_path: Path) -> None:
    store = indexed.copy(tmp_path / "store")
    (store / "catalogue.sqlite").write_bytes(b"no database" * 1000)
    message = sentence(retrieve("serve", "--processes", "2", "--port", "0", "--store", store))
    assert "is damaged" in message


def test_an_index_for_a_single_process_is_refused(indexed: Indexed, tmp_path: Path) -> None:
    store = indexed.copy(tmp_path / "store")
    catalogue = Catalogue(store)
    catalogue.settings.set(index="milvus:index.db")
    catalogue.close()
    message = sentence(retrieve("serve", "--processes", "2", "--port", "0", "--store", store))
    assert "leave out --processes" in message


def test_a_port_in_use_is_reported_at_once(served: Served, indexed: Indexed) -> None:
    port = served._address.rpartition(":")[2]
    message = sentence(retrieve("serve", "--processes", "2", "--port", port, "--store", indexed.store))
    assert "--port" in message
