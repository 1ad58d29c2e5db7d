"""Whose a file of SQLite is, and what its log would lose: as SQLite itself reads it."""

import os
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from indexes.catalogue.catalogue import Catalogue
from indexes.catalogue.database.sqlite import CATALOGUE_FILE
from indexes.catalogue.database.sqlite_checks import is_foreign, lost_transactions
from indexes.errors import StoreError
from tests.support.flips import flipped

_ROWS = 30
Change = Callable[[sqlite3.Connection], object]


@pytest.fixture
def logged(tmp_path: Path) -> Path:
    """Return a database with all its rows in the log, each by its transaction, as after a kill."""
    with closing(sqlite3.connect(tmp_path / "live.db", isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("CREATE TABLE rows (content)")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        for number in range(_ROWS):
            connection.execute("INSERT INTO rows VALUES (?)", (bytes([number]) * 3000,))
        for name in ("live.db", "live.db-wal"):
            shutil.copy(tmp_path / name, tmp_path / name.replace("live", "left"))
    return tmp_path / "left.db"


def count_rows(file: Path, log: bytes) -> int:
    """Return how many rows SQLite finds with this log."""
    copy = file.with_name("copy.db")
    shutil.copy(file, copy)
    copy.with_name("copy.db-wal").write_bytes(log)
    with closing(sqlite3.connect(copy)) as connection:
        return int(connection.execute("SELECT count(*) FROM rows").fetchone()[0])


def test_what_a_damaged_log_loses_is_what_sqlite_leaves_out(logged: Path) -> None:
    log = Path(f"{logged}-wal")
    content = log.read_bytes()
    assert (lost_transactions(log), count_rows(logged, content)) == (0, _ROWS)
    random = np.random.default_rng(0)
    losses = 0
    for bit in random.choice(8 * len(content), 60, replace=False).tolist():
        log.write_bytes(flipped(content, bit))
        lost = _ROWS - count_rows(logged, log.read_bytes())
        assert lost_transactions(log) == lost, bit
        losses += lost > 0
    assert losses > 50


@pytest.mark.parametrize("cut", [1, 100, 4000, 4120, 50_000, 123_000])
def test_a_log_that_breaks_off_has_lost_nothing_that_was_confirmed(logged: Path, cut: int) -> None:
    log = Path(f"{logged}-wal")
    log.write_bytes(log.read_bytes()[:-cut])
    assert lost_transactions(log) == 0


def test_pages_of_an_earlier_log_are_none_of_this_one(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "a.db", isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("CREATE TABLE rows (content)")
        for number in range(20):
            connection.execute("INSERT INTO rows VALUES (?)", (bytes([number]) * 3000,))
        connection.execute("PRAGMA wal_checkpoint(RESTART)")
        connection.execute("INSERT INTO rows VALUES (1)")
        assert lost_transactions(tmp_path / "a.db-wal") == 0
    assert lost_transactions(tmp_path / "a.db-wal") == 0  # there is none


def test_a_store_whose_log_is_damaged_is_not_opened_before_it_is_repaired(tmp_path: Path) -> None:
    store, left = tmp_path / "store", tmp_path / "left"
    with Catalogue(store, create=True) as catalogue:
        for number in range(5):
            catalogue.settings.set(model=str(number))
        shutil.copytree(store, left, ignore=shutil.ignore_patterns("*-shm"))
    log = left / f"{CATALOGUE_FILE}-wal"
    content = bytearray(log.read_bytes())
    content[32 + 24 + 50] ^= 4
    log.write_bytes(content)
    with pytest.raises(StoreError, match=r"-wal is damaged, and \d+ changes in it are lost: `retrieve index --repair`"):
        Catalogue(left)
    assert log.read_bytes() == bytes(content)


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda c: c.execute("CREATE TABLE bookmarks (x)"), True),
        (lambda c: c.execute("CREATE TABLE settings (x)").execute("CREATE TABLE users (x)"), True),
        (lambda c: c.execute("PRAGMA user_version = 3"), False),
        (lambda c: c.execute("CREATE TABLE a (x)").execute("PRAGMA application_id = 1"), True),
        (lambda c: c.execute("PRAGMA application_id = 252006674"), True),
    ],
)
def test_another_programs_database(
    make: Callable[[sqlite3.Connection], object], expected: bool, tmp_path: Path
) -> None:
    file = tmp_path / CATALOGUE_FILE
    with closing(sqlite3.connect(file)) as connection:
        make(connection)
        connection.commit()
    before = file.read_bytes()
    assert is_foreign(file) is expected
    assert os.listdir(tmp_path) == [CATALOGUE_FILE]
    if expected:
        for create in (False, True):
            with pytest.raises(StoreError, match="is another program's database, and stays as it is"):
                Catalogue(tmp_path, create=create)
        assert (os.listdir(tmp_path), file.read_bytes()) == ([CATALOGUE_FILE], before)


def test_ours_is_ours(tmp_path: Path) -> None:
    Catalogue(tmp_path, create=True).close()
    assert not is_foreign(tmp_path / CATALOGUE_FILE)
    assert not is_foreign(tmp_path / "absent")
