"""Stores that came with a downloaded folder: nothing leaves the machine, nothing outside is written, one sentence."""

import json
import os
import shutil
import socket
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from indexes.catalogue.catalogue import Catalogue
from indexes.catalogue.database.database_url import CONFIG_FILE
from indexes.catalogue.database.sqlite import CATALOGUE_FILE
from indexes.catalogue.records import NewPicture
from tests.support.command import retrieve_here, sentence
from tests.support.store import Indexed

Change = Callable[[Path, int], object]
QUERY = ("query", "PICTURE", "--no-explain")


class Listener:
    """A server of the stranger, which counts who comes."""

    def __init__(self) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        self.callers = 0
        threading.Thread(target=self._count, daemon=True).start()

    def _count(self) -> None:
        while True:
            try:
                caller, _ = self._socket.accept()
            except OSError:
                return
            self.callers += 1
            caller.close()

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def listener() -> Iterator[Listener]:
    server = Listener()
    yield server
    server.close()


@pytest.fixture
def downloaded(indexed: Indexed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a store in a folder that this account has not made."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "private.txt").write_text("private")
    (tmp_path / "folder").mkdir()
    return indexed.copy(tmp_path / "folder" / ".retrieve")


def config(text: str, name: str = CONFIG_FILE) -> Change:
    return lambda store, port: (store / name).write_text(
        text.replace("PORT", str(port)).replace("OUT", str(store.parents[1] / "outside")), "utf-8"
    )


def setting(name: str, value: str) -> Change:
    def change(store: Path, port: int) -> None:
        with Catalogue(store) as catalogue:
            text = value.replace("PORT", str(port)).replace("OUT", str(store.parents[1] / "outside"))
            catalogue.settings.set(**{name: text})

    return change


def picture_at(path: str, root: str = "/gallery") -> Change:
    def change(store: Path, port: int) -> None:
        with Catalogue(store) as catalogue:
            where = path.replace("PORT", str(port)).encode()
            vector = np.ones(1280, np.float32)
            picture = NewPicture(where, 1, 1, b"x" * 32, vector, 9, 9, version="1", label="")
            folder = root.replace("PORT", str(port)).encode()
            catalogue.scans.record(folder, catalogue.settings.get("fingerprint") or "", [picture])

    return change


def database(*statements: str, linked: bool = False) -> Change:
    def change(store: Path, port: int) -> None:
        shutil.rmtree(store)
        store.mkdir()
        file = store.parents[1] / "outside" / "other.sqlite" if linked else store / CATALOGUE_FILE
        with closing(sqlite3.connect(file)) as other:
            for statement in statements:
                other.execute(statement)
            other.commit()
        if linked:
            (store / CATALOGUE_FILE).symlink_to(file)

    return change


def linked_away(ending: str) -> Change:
    def change(store: Path, port: int) -> None:
        target = store.parents[1] / "outside" / "linked"
        if ending:
            target.write_bytes(b"somebody's own")
        else:
            (store / CATALOGUE_FILE).rename(target)
        (store / f"{CATALOGUE_FILE}{ending}").symlink_to(target)

    return change


PLACES = {
    "a catalogue behind a link": (linked_away(""), ("index",)),
    **{
        f"a catalogue on a server, {command[0]}": (config('catalogue = "postgresql://x@127.0.0.1:PORT/db"'), command)
        for command in (
            *(("status",), QUERY, ("index",), ("tune",), ("calibrate",), ("remove", "x"), ("duplicates",)),
            ("calibrate", "--reset"),
        )
    },
    "a catalogue by a service": (config('catalogue = "postgresql:///db?host=127.0.0.1&port=PORT"'), ("status",)),
    "a catalogue in a schema": (
        config('catalogue = "postgresql://x@127.0.0.1:PORT/db"\nschema = "s"'),
        ("status", "--json"),
    ),
    **{
        f"an index at {text}": (setting("index", text), QUERY)
        for text in (
            *("milvus://127.0.0.1:PORT/x", "milvus+tls://127.0.0.1:PORT/x", "milvus:OUT/x.db", "milvus:../../x.db"),
            *("milvus:../../outside/new/x.db", "milvus://localhost:PORT/x"),
        )
    },
    **{
        f"a picture at {path}": (picture_at(path), QUERY)
        for path in (
            *("http://127.0.0.1:PORT/a.png", "https://127.0.0.1:PORT/a.png", "s3://bucket/a.png", "gs://b/a.png"),
            *("list:/x.txt/http://127.0.0.1:PORT/a.png", "http://127.0.0.1:PORT/a.tar/a.png#0+5", "sftp://h/a.png"),
            "list:/x.txt/s3://b/a.tar/a.png#512+3",
        )
    },
    "a gallery on a server": (picture_at("/gallery/a.png", "http://127.0.0.1:PORT/g"), ("index",)),
    **{
        f"a default, {text}": (config(text, "config.toml"), QUERY)
        for text in (
            *('html = "OUT/page.html"', 'out = "OUT/sheets"', 'model = "OUT/model"', '[query]\nhtml = "OUT/x.html"'),
            '[query]\nout = "../outside/y"',
        )
    },
    'a default, host = "0.0.0.0"': (config('[serve]\nhost = "0.0.0.0"', "config.toml"), ("serve",)),
    'a default, catalogue = "postgresql:…"': (
        config('[index]\ncatalogue = "postgresql://x@127.0.0.1:PORT/db"', "config.toml"),
        ("index",),
    ),
}
DAMAGES = {
    **{
        f"{name} is {text[:30]}": (setting(name, text), QUERY)
        for name, texts in {
            "calibration": ("{", "[" * 100_000, "[]", "{}", '{"slope": NaN}', "1e999", '"x"'),
            "gallery_statistics": ("{", "[" * 100_000, "[]", '{"centre": "AAAA"}', "7"),
            "model": ("/dev/null", "../../outside", "x" * 5000, "hf-hub:a/b"),
        }.items()
        for text in texts
    },
    **{
        f"another program's {name}": (database(*statements, linked=linked), (command,))
        for linked in (False, True)
        for command in ("status", "index")
        for name, statements in {
            "bookmarks": ("CREATE TABLE bookmarks (x)",),
            "migrations": ("CREATE TABLE migrations (id, migration)", "CREATE TABLE users (x)"),
            "marked file": ("CREATE TABLE pictures (x)", "PRAGMA application_id = 7"),
            "log": ("PRAGMA journal_mode = WAL", "CREATE TABLE places (x)"),
        }.items()
        if (name == "bookmarks") == (command == "index")
    },
    **{
        f"a link at {ending}": (linked_away(ending), command)
        for ending in ("-wal", "-shm", "-journal")
        for command in (QUERY, ("index",))
    },
    "a file that is no TOML": (config("= ["), ("status",)),
    "a file with an address of another kind": (config("catalogue = 7"), ("status",)),
    "an address of another program": (config('catalogue = "mysql://x@127.0.0.1:PORT/db"'), ("status",)),
}


def outside_of(store: Path) -> dict[str, tuple[int, int]]:
    """Return what lies beside the downloaded folder, with sizes and times."""
    top = store.parents[1]
    files = [file for file in top.rglob("*") if not file.is_relative_to(store) and file != store.parent]
    return {str(file): (status.st_size, status.st_mtime_ns) for file in files for status in [file.lstat()]}


def run(downloaded: Path, change: Change, command: tuple[str, ...], picture: Path, port: int) -> str:
    """Run a command where it finds the store, and return its one sentence; nothing outside has changed."""
    change(downloaded, port)
    before = outside_of(downloaded)
    arguments = [str(picture) if each == "PICTURE" else each for each in command]
    done = retrieve_here(*arguments, cwd=downloaded.parent, PGPASSWORD="secret", RETRIEVE_MILVUS_TOKEN="secret")
    assert outside_of(downloaded) == before
    return sentence(done)


@pytest.mark.parametrize("name", PLACES)
def test_a_strangers_store_leads_to_no_other_place(
    name: str, downloaded: Path, indexed: Indexed, listener: Listener
) -> None:
    change, command = PLACES[name]
    said = run(downloaded, change, command, indexed.picture, listener.port)
    assert "to which this account has not agreed: give --trust once" in said
    assert listener.callers == 0


@pytest.mark.parametrize("name", DAMAGES)
def test_a_strangers_store_of_another_form_is_refused(
    name: str, downloaded: Path, indexed: Indexed, listener: Listener
) -> None:
    change, command = DAMAGES[name]
    assert len(run(downloaded, change, command, indexed.picture, listener.port)) < 700
    assert listener.callers == 0


def test_trust_is_given_once(downloaded: Path, listener: Listener) -> None:
    config('catalogue = "postgresql://x@127.0.0.1:PORT/db"')(downloaded, listener.port)
    for arguments in (["status", "--trust"], ["--trust", "status"], ["status"]):
        said = sentence(retrieve_here(*arguments, cwd=downloaded.parent))
        assert "cannot be reached" in said
    config('catalogue = "postgresql://x@127.0.0.1:PORT/else"')(downloaded, listener.port)
    assert "has not agreed" in sentence(retrieve_here("status", cwd=downloaded.parent))
    assert "cannot be reached" in sentence(retrieve_here("status", cwd=downloaded.parent, RETRIEVE_TRUST="1"))


def test_what_this_account_made_is_trusted(indexed: Indexed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    store = tmp_path / ".retrieve"
    assert retrieve_here("index", indexed.gallery, "--store", store).returncode == 0
    (store / "config.toml").write_text(f"[query]\nhtml = {json.dumps(str(tmp_path / 'page.html'))}\n")
    assert retrieve_here("query", indexed.picture, "--method", "gradcam", "--top", "1", cwd=tmp_path).returncode == 0
    assert (tmp_path / "page.html").exists()


def test_a_store_above_that_another_user_owns_is_not_taken(
    downloaded: Path, indexed: Indexed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: downloaded.stat().st_uid + 1)
    said = sentence(retrieve_here("query", indexed.picture, "--no-explain", cwd=downloaded.parent))
    assert "lies above this folder and belongs to another user" in said
    assert retrieve_here("models", cwd=downloaded.parent).returncode == 0
    named = retrieve_here("query", indexed.picture, "--no-explain", "--store", downloaded)
    assert named.returncode == 0
