"""Bits that a failing disk turns round in what is stored: the same answer, or a word, and never a traceback.

A few of each file always run; a hundred of each, with figures, by
`RETRIEVE_FLIPS=1 pytest -s tests/end_to_end/test_flips.py`.
"""

import json
import os
import shutil
import sqlite3
import threading
import zlib
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from indexes.catalogue.catalogue import Catalogue
from indexes.catalogue.database.consent import agree
from indexes.catalogue.database.database_url import CONFIG_FILE, parse_url, read_url, write_url
from indexes.catalogue.database.sqlite import CATALOGUE_FILE
from indexes.errors import StoreError
from retrieval.model.bundle import find_bundle
from tests.support.command import retrieve_here
from tests.support.flips import flipped
from tests.support.galleries import make_gallery

FEW, MANY = 2, 100
_ADDRESS = "postgresql://ada@127.0.0.1:9/pictures"
_PLAIN = ("query", "PICTURE", "--top", "8", "--no-explain")
_EXPLAINED = ("query", "PICTURE", "--top", "2", "--method", "gradcam")

Place = tuple[Path, int, int]
"""A file, and the first and the last byte but one in it that may be turned."""


@dataclass(frozen=True)
class Stored:
    """A folder with a store, a bundle and a cache, its copy as it should be, and one of the gallery's pictures."""

    folder: Path
    backup: Path
    picture: Path

    def restore(self) -> None:
        """Make the folder as it should be, once the query before has opened its network, whatever became of it."""
        for thread in threading.enumerate():
            if thread.name.startswith("network"):
                thread.join()
        shutil.rmtree(self.folder, ignore_errors=True)
        shutil.copytree(self.backup, self.folder)

    def ask(self, *command: str) -> tuple[Any, bytes, int]:
        """Return the answer to a command, what it says, and the exit code."""
        store, model = os.fspath(self.folder / "store"), os.fspath(self.folder / "model")
        arguments = [os.fspath(self.picture) if each == "PICTURE" else each for each in command]
        named = ("--model", model) if command[0] == "query" else ()
        done = retrieve_here(*arguments, "--json", "--store", store, *named, RETRIEVE_CACHE=str(self.folder / "cache"))
        answer = json.loads(done.stdout) if done.stdout.startswith(b"{") else {}
        answer.pop("seconds", None)
        return answer, done.stderr, done.returncode


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Stored:
    parent = tmp_path_factory.mktemp("flips")
    folder, gallery = parent / "live", make_gallery(parent / "gallery", 1, 48)
    shutil.copytree(find_bundle("default").folder, folder / "model")
    whole = Stored(folder, parent / "backup", gallery / "class-0" / "000.png")
    cache = str(folder / "cache")
    retrieve_here("index", gallery, "--model", folder / "model", "--store", folder / "store", RETRIEVE_CACHE=cache)
    assert retrieve_here("calibrate", "--store", folder / "store", RETRIEVE_CACHE=cache).returncode == 0
    whole.ask(*_EXPLAINED)
    shutil.copytree(folder, whole.backup)
    return whole


def a_file(pattern: str, number: int = 0) -> Callable[[Path], Place]:
    """Return what finds the files of a pattern, the oldest first."""

    def find(folder: Path) -> Place:
        file = sorted(folder.glob(pattern), key=lambda file: file.stat().st_mtime)[number]
        return file, 0, file.stat().st_size

    return find


def a_setting(name: bytes) -> Callable[[Path], Place]:
    """Return what finds the text of a setting in the catalogue's file."""

    def find(folder: Path) -> Place:
        file = folder / "store" / CATALOGUE_FILE
        with closing(sqlite3.connect(file)) as database:
            ((text,),) = database.execute("SELECT value FROM settings WHERE name = ?", (name.decode(),))
        start = file.read_bytes().index(name + text[:40].encode()) + len(name)
        return file, start, start + min(len(text), 400)  # a long one goes on on other pages

    return find


def with_log(folder: Path) -> Place:
    """Leave the last changes in the write-ahead log, as a process that was killed does."""
    file, left = folder / "store" / CATALOGUE_FILE, folder / "left"
    with closing(sqlite3.connect(file, isolation_level=None)) as reader, Catalogue(file.parent) as catalogue:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM pictures").fetchone()  # while it reads, nothing leaves the log
        for value in ("", "1", "", "1"):
            catalogue.settings.set(plain_similarity=value)
        shutil.copytree(file.parent, left, ignore=shutil.ignore_patterns("*-shm"))
    shutil.rmtree(file.parent)
    left.rename(file.parent)
    log = file.with_name(f"{CATALOGUE_FILE}-wal")
    return log, 0, log.stat().st_size


FILES: dict[str, tuple[Callable[[Path], Place], tuple[str, ...]]] = {
    "catalogue": (a_file(f"store/{CATALOGUE_FILE}"), _PLAIN),
    "catalogue, by label": (a_file(f"store/{CATALOGUE_FILE}"), (*_PLAIN, "--label", "class-1")),
    "catalogue, duplicates": (a_file(f"store/{CATALOGUE_FILE}"), ("duplicates",)),
    "catalogue, status": (a_file(f"store/{CATALOGUE_FILE}"), ("status",)),
    "log": (with_log, _PLAIN),
    "calibration": (a_setting(b"calibration"), _PLAIN),
    "statistics": (a_setting(b"gallery_statistics"), _PLAIN),
    "index": (a_file("store/*.faiss"), _PLAIN),
    "weights": (a_file("model/weights.safetensors"), _PLAIN),
    "card": (a_file("model/model.json"), _PLAIN),
    "network": (a_file("model/network.onnx"), _PLAIN),
    "prepared network": (a_file("cache/*/*.blob"), _PLAIN),
    "prepared network of heatmaps": (a_file("cache/*/*.blob", -1), _EXPLAINED),
}


def turn_bits(stored: Stored, name: str, count: int) -> Counter[str]:
    """Turn one bit after the other in a file that is as it should be, and count what that leads to."""
    random, found = np.random.default_rng(zlib.crc32(name.encode())), Counter[str]()
    place, how = FILES[name]
    stored.restore()
    place(stored.folder)
    expected = stored.ask(*how)[0]
    assert expected
    for _ in range(count):
        stored.restore()
        file, start, stop = place(stored.folder)
        bit = int(random.integers(8 * start, 8 * stop))
        file.chmod(0o600)
        file.write_bytes(flipped(file.read_bytes(), bit))
        found[outcome(stored, how, expected, bit)] += 1
    return found


def outcome(stored: Stored, how: tuple[str, ...], expected: Any, bit: int) -> str:
    try:
        answer, said, code = stored.ask(*how)
    except Exception as error:
        return f"traceback at bit {bit}: {error!r}"
    if code == 0 and not said and answer != expected:
        return f"another answer at bit {bit}"
    if code not in (0, 1) or said.count(b"\n") > 3:
        return f"many words at bit {bit}: {said!r}"
    return "one sentence" if code else "a warning" if said else "the same"


@pytest.mark.parametrize("name", ["catalogue", "log", "calibration", "index", "weights", "card", "prepared network"])
def test_a_turned_bit_gives_the_same_or_a_word(name: str, stored: Stored) -> None:
    assert turn_bits(stored, name, FEW).keys() <= {"the same", "a warning", "one sentence"}


@pytest.mark.slow
@pytest.mark.skipif("RETRIEVE_FLIPS" not in os.environ, reason="takes minutes: set RETRIEVE_FLIPS=1")
@pytest.mark.parametrize("name", FILES)
def test_a_hundred_turned_bits(name: str, stored: Stored) -> None:
    found = turn_bits(stored, name, FEW if name == "network" else MANY)  # tests/model/test_bundle.py turns more of it
    print(f"{name}: {dict(found)}")
    assert found.keys() <= {"the same", "a warning", "one sentence"}


def test_a_turned_bit_in_an_address_leads_to_no_other_server(tmp_path: Path) -> None:
    store, url = tmp_path / "store", parse_url(_ADDRESS)
    store.mkdir()
    write_url(store, url)
    agree(store, str(url))
    file = store / CONFIG_FILE
    content = file.read_bytes()
    for bit in np.random.default_rng(0).choice(8 * len(content), 100, replace=False).tolist():
        file.write_bytes(flipped(content, bit))
        with pytest.raises(StoreError) as raised:
            Catalogue(store)
        is_reached = "cannot be reached" in str(raised.value)
        assert not is_reached or str(read_url(store)) == str(url)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE descriptors SET vector = zeroblob(2560) WHERE picture_id % 9 = 4",
        "UPDATE pictures SET checksum = 1 WHERE id = (SELECT max(id) FROM pictures)",
        "UPDATE settings SET value = '7' || value WHERE name IN ('gallery_statistics', 'generation', 'tuning')",
        "UPDATE settings SET value = 'x' || value WHERE name = 'fingerprint'",
    ],
)
def test_repair_brings_the_answer_back(statement: str, stored: Stored) -> None:
    stored.restore()
    expected = stored.ask(*_PLAIN)[0]
    with closing(sqlite3.connect(stored.folder / "store" / CATALOGUE_FILE)) as database:
        database.execute(statement)
        database.commit()
    answer, said, code = stored.ask(*_PLAIN)
    assert (answer, code) == ({}, 1)
    assert b"`retrieve index --repair`" in said
    repaired, said, code = stored.ask("index", "--repair")
    assert (said, code) == (b"", 0)
    assert repaired["notes"]
    assert repaired["missing"] == 0
    assert stored.ask(*_PLAIN)[0]["hits"] == expected["hits"]
