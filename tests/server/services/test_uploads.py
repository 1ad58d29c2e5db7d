import asyncio
import errno
import hashlib
import io
import os
import tempfile
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus
from pathlib import Path
from threading import get_ident
from typing import Any

import pytest
from starlette.requests import ClientDisconnect

from retrieval.common.errors import RetrievalError
from retrieval.server.config import ServerConfig
from retrieval.server.errors import RequestRefused
from retrieval.server.services import arrivals
from retrieval.server.services import uploads as module
from retrieval.server.services.uploads import Uploads
from retrieval.server.shared_folders import shared_folders
from tests.support.served import client_of
from tests.support.store import Indexed


async def body(*chunks: bytes) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk


def receive(uploads: Uploads, *chunks: bytes, declared: int | None = None) -> str:
    """Send a picture; return its name."""
    return asyncio.run(uploads.receive(body(*chunks), declared)).name


def find(uploads: Uploads, name: str) -> Path:
    return asyncio.run(uploads.find(name))


def test_a_picture_is_stored_under_its_hash(tmp_path: Path) -> None:
    uploads = Uploads(tmp_path, 100)
    name = receive(uploads, b"pic", b"ture")
    assert name == hashlib.sha256(b"picture").hexdigest()
    assert find(uploads, name).read_bytes() == b"picture"
    assert receive(uploads, b"picture") == name
    assert os.listdir(tmp_path) == [name]


@pytest.mark.parametrize(("chunks", "declared"), [((b"x" * 6, b"x" * 6), None), ((b"",), 11)])
def test_a_file_that_is_too_large_is_refused_and_leaves_nothing(
    tmp_path: Path, chunks: tuple[bytes, ...], declared: int | None
) -> None:
    with pytest.raises(RequestRefused, match="--max-upload") as refusal:
        receive(Uploads(tmp_path, 10), *chunks, declared=declared)
    assert refusal.value.status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE
    assert os.listdir(tmp_path) == []


def test_an_empty_body_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(RequestRefused, match="no picture came"):
        receive(Uploads(tmp_path, 10))
    assert os.listdir(tmp_path) == []


def test_a_picture_that_does_not_arrive_in_time_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrivals, "GRACE_SECONDS", 0.05)

    async def slow() -> AsyncIterator[bytes]:
        yield b"p"
        await asyncio.sleep(30)

    with pytest.raises(RequestRefused) as refusal:
        asyncio.run(Uploads(tmp_path, 10).receive(slow(), None))
    assert refusal.value.status == HTTPStatus.REQUEST_TIMEOUT
    assert os.listdir(tmp_path) == []


def test_a_client_that_disconnects_leaves_nothing(tmp_path: Path) -> None:
    async def interrupted() -> AsyncIterator[bytes]:
        yield b"p"
        raise ClientDisconnect

    with pytest.raises(RequestRefused, match="did not arrive whole"):
        asyncio.run(Uploads(tmp_path, 10).receive(interrupted(), None))
    assert os.listdir(tmp_path) == []


def test_the_least_recently_used_are_dropped_first(tmp_path: Path) -> None:
    uploads = Uploads(tmp_path, 100, max_bytes=20)
    first, second = receive(uploads, b"a" * 10), receive(uploads, b"b" * 10)
    for age, name in ((200, first), (100, second)):
        os.utime(tmp_path / name, ns=((10**9 - age) * 10**9,) * 2)
    find(uploads, first)
    third = receive(uploads, b"c" * 10)
    assert sorted(os.listdir(tmp_path)) == sorted([first, third])


@pytest.mark.parametrize("name", ["", ".", "..", "../../etc/passwd", "0" * 63, "0" * 64, "A" * 64, "/etc/passwd"])
def test_only_the_name_of_an_upload_finds_a_file(tmp_path: Path, name: str) -> None:
    with pytest.raises(RequestRefused, match="no longer kept"):
        find(Uploads(tmp_path, 10), name)


@pytest.mark.slow
def test_several_senders_may_drop_the_oldest_at_once(tmp_path: Path) -> None:
    def send(sender: int) -> None:
        uploads = Uploads(tmp_path, 100, max_bytes=50)
        for number in range(60):
            receive(uploads, b"%05d%05d" % (sender, number))

    with ThreadPoolExecutor(4) as senders:
        list(senders.map(send, range(4)))
    receive(Uploads(tmp_path, 100, max_bytes=50), b"the last one")
    assert sum(file.stat().st_size for file in tmp_path.iterdir()) <= 50
    assert hashlib.sha256(b"the last one").hexdigest() in os.listdir(tmp_path)


def test_unfinished_files_of_a_process_that_died_are_deleted(tmp_path: Path) -> None:
    for name in ("coming-old", "coming-new", "of-another-program"):
        (tmp_path / name).touch()
    os.utime(tmp_path / "coming-old", (0, 0))
    name = receive(Uploads(tmp_path, 10), b"picture")
    assert sorted(os.listdir(tmp_path)) == sorted(["coming-new", "of-another-program", name])


def test_servers_that_share_a_folder_find_the_uploads_of_both(indexed: Indexed, tmp_path: Path) -> None:
    config = ServerConfig(uploads=tmp_path / "uploads")
    with client_of(indexed.store, config) as one, client_of(indexed.copy(tmp_path / "store"), config) as other:
        name = one.post("/api/uploads", content=indexed.picture.read_bytes()).json()["upload"]
        hits = [client.get(f"/api/query?upload={name}&explain=false").json()["hits"] for client in (one, other)]
    assert hits[0]
    assert hits[0] == hits[1]
    assert os.listdir(tmp_path / "uploads") == ["retrieve-uploads"]
    own = tmp_path / "uploads" / "retrieve-uploads"
    assert os.listdir(own) == [name]  # also when they have ended
    assert own.stat().st_mode & 0o077 == 0


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no /dev/full")
@pytest.mark.parametrize("size", [1, 100_000])
def test_a_full_disk_is_reported_and_nothing_is_left(
    indexed: Indexed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    def make_on_full_disk(dir: Path, prefix: str) -> tuple[int, str]:
        work = dir / f"{prefix}1"
        work.touch()
        return os.open("/dev/full", os.O_WRONLY), str(work)

    config = ServerConfig(uploads=tmp_path)
    with client_of(indexed.store, config) as client:
        monkeypatch.setattr("tempfile.mkstemp", make_on_full_disk)
        answer = client.post("/api/uploads", content=bytes(size))
        monkeypatch.undo()
        assert answer.status_code == HTTPStatus.INSUFFICIENT_STORAGE
        assert os.strerror(errno.ENOSPC) in answer.json()["error"]
        assert os.listdir(tmp_path / "retrieve-uploads") == []
        assert client.post("/api/uploads", content=indexed.picture.read_bytes()).status_code == HTTPStatus.OK


def test_a_folder_is_no_upload(tmp_path: Path) -> None:
    name = "0" * 64
    (tmp_path / name).mkdir()
    os.utime(tmp_path / name, (0, 0))
    uploads = Uploads(tmp_path, 100, max_bytes=10)
    with pytest.raises(RequestRefused, match="no longer kept"):
        find(uploads, name)
    last = [receive(uploads, content * 10) for content in (b"a", b"b")][1]
    assert sorted(os.listdir(tmp_path)) == sorted([name, last])


def test_files_of_other_programs_in_the_folder_stay(indexed: Indexed, tmp_path: Path) -> None:
    other = tmp_path / hashlib.sha256(b"a blob of another program").hexdigest()
    with other.open("wb") as file:
        file.truncate(module.MAX_STORED_BYTES + 1)
    os.utime(other, (0, 0))
    with client_of(indexed.store, ServerConfig(uploads=tmp_path)) as client:
        assert client.post("/api/uploads", content=indexed.picture.read_bytes()).status_code == HTTPStatus.OK
        assert client.get(f"/api/uploads/{other.name}/image").status_code == HTTPStatus.NOT_FOUND
    assert other.exists()


def test_the_event_loop_never_waits_for_the_disk(
    indexed: Indexed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every operation on a file happens in another thread than that of the event loop."""
    threads: dict[str, set[int]] = {}
    loops = set()

    def record(owner: object, name: str) -> None:
        real = getattr(owner, name)

        def recorded(*arguments: Any, **options: Any) -> Any:
            threads.setdefault(name, set()).add(get_ident())
            return real(*arguments, **options)

        monkeypatch.setattr(owner, name, recorded)

    class File(io.FileIO):
        def write(self, content: Any) -> int:
            threads.setdefault("write", set()).add(get_ident())
            return super().write(content)

        def close(self) -> None:
            threads.setdefault("close", set()).add(get_ident())
            super().close()

    async def receive_on_loop(uploads: Uploads, stream: AsyncIterator[bytes], *more: Any) -> Any:
        loops.add(get_ident())
        return await real_receive(uploads, stream, *more)

    real_receive = Uploads.receive
    with client_of(indexed.store, ServerConfig(uploads=tmp_path)) as client:
        monkeypatch.setattr(Uploads, "receive", receive_on_loop)
        monkeypatch.setattr("os.fdopen", File)
        record(Uploads, "_drop_oldest")
        record(tempfile, "mkstemp")
        for name in ("utime", "unlink", "replace"):
            record(os, name)
        name = client.post("/api/uploads", content=indexed.picture.read_bytes()).json()["upload"]
        assert client.get(f"/api/uploads/{name}/image").status_code == HTTPStatus.OK
        assert client.get(f"/api/query?upload={name}&explain=false").status_code == HTTPStatus.OK
        assert client.post("/api/uploads", content=b"no picture").status_code == HTTPStatus.UNPROCESSABLE_ENTITY
    assert threads.keys() == {"mkstemp", "write", "close", "replace", "_drop_oldest", "unlink", "utime"}
    assert {name for name, idents in threads.items() if idents & loops} == set()


def test_a_folder_that_cannot_keep_uploads_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(RetrievalError, match="--uploads"), shared_folders(tmp_path / "file"):
        pass


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such permissions")
@pytest.mark.parametrize("planted", ["others can write", "a link or another", "everybody can write"])
def test_a_folder_that_others_can_change_is_refused(tmp_path: Path, planted: str) -> None:
    folder = tmp_path / "retrieve-uploads"
    match planted:
        case "others can write":
            folder.mkdir()
            folder.chmod(0o730)
        case "a link or another":
            folder.symlink_to(tmp_path)
        case _:
            tmp_path.chmod(0o777)
    with pytest.raises(RetrievalError, match=f"{planted}.*--uploads"), shared_folders(tmp_path):
        pass
    tmp_path.chmod(0o1777)  # as /tmp has it: nobody replaces another one's folder
    folder.unlink() if folder.is_symlink() else folder.chmod(0o700)
    with shared_folders(tmp_path) as shared:
        assert shared.uploads.stat().st_mode & 0o777 == 0o700


def test_a_link_is_no_upload(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"secret")
    (tmp_path / ("0" * 64)).symlink_to(tmp_path / "secret")
    with pytest.raises(RequestRefused, match="no longer kept"):
        find(Uploads(tmp_path, 10), "0" * 64)


def test_a_missing_folder_for_temporary_files_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "away"))
    with pytest.raises(RetrievalError, match="TMPDIR"), shared_folders(tmp_path / "uploads"):
        pass


def test_only_the_folder_of_a_killed_server_is_deleted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    orphaned, elsewhere = tmp_path / "retrieve-serve-left", tmp_path / "elsewhere"
    for folder in (orphaned, elsewhere, tmp_path / "retrieve-serve-begins"):
        folder.mkdir()
    for folder in (orphaned, elsewhere):
        (folder / "alive").touch()
        (folder / "picture").touch()
    (tmp_path / "retrieve-serve-link").symlink_to(elsewhere)
    stay = {"elsewhere", "retrieve-serve-begins", "retrieve-serve-link"}
    with shared_folders() as one, shared_folders() as other:
        assert set(os.listdir(tmp_path)) == {*stay, one.folder.name, other.folder.name}
        assert (elsewhere / "picture").exists()
    assert set(os.listdir(tmp_path)) == stay
