"""Migrations: from a blank file and from the first schema, whole or not at all, never from a newer version."""

import sqlite3
from pathlib import Path

import pytest
from sqlalchemy import Connection, Engine, TableClause, create_engine, event

from indexes.catalogue.catalogue import Catalogue
from indexes.catalogue.database import migrations, schema
from indexes.catalogue.database.migrations import MIGRATIONS, migrate, pending_migrations
from indexes.catalogue.database.sqlite import CATALOGUE_FILE, SqliteDatabase
from indexes.catalogue.records import RootCounts
from indexes.errors import StoreError
from tests.support.unprivileged import require_binding_permissions, run_unprivileged

_FIRST = [
    "INSERT INTO roots VALUES (1, x'2F67')",
    "INSERT INTO pictures VALUES (7, 1, x'2F672FFF', 10, 20, x'AA', 30, 40, 'cats', NULL, 1.5, NULL, 0)",
    "INSERT INTO descriptors VALUES (7, 'f', x'003C0040')",
    "INSERT INTO failures VALUES (x'2F6762', 'is empty')",
    "INSERT INTO settings VALUES ('generation', '3')",
]


def _engine(file: Path) -> Engine:
    engine = create_engine(f"sqlite:///{file}")

    def begin_by_hand(connection: sqlite3.Connection, record: object) -> None:
        connection.isolation_level = None

    def begin(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN")

    event.listen(engine, "connect", begin_by_hand)
    event.listen(engine, "begin", begin)
    return engine


def _applied(file: Path) -> list[str]:
    with sqlite3.connect(file) as connection:
        return [name for (name,) in connection.execute("SELECT name FROM migrations ORDER BY name")]


def _tables(file: Path) -> set[str]:
    with sqlite3.connect(file) as connection:
        return {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}


def _first_schema(folder: Path) -> Path:
    """Make a file as the first version left it, with a row in every table."""
    engine = _engine(folder / CATALOGUE_FILE)
    with engine.connect() as connection, connection.begin():
        connection.exec_driver_sql("CREATE TABLE migrations (name VARCHAR PRIMARY KEY)")
        for statement in (*MIGRATIONS[0][1], "INSERT INTO migrations VALUES ('0001-first')", *_FIRST):
            connection.exec_driver_sql(statement)
    engine.dispose()
    return folder / CATALOGUE_FILE


def test_every_migration_is_applied_to_an_empty_file(tmp_path: Path) -> None:
    file = tmp_path / CATALOGUE_FILE
    engine = _engine(file)
    migrate(engine)
    assert _applied(file) == [name for name, *_ in MIGRATIONS]
    with engine.connect() as connection:
        assert pending_migrations(connection) == {}


def test_migrating_again_changes_nothing(tmp_path: Path) -> None:
    file = tmp_path / CATALOGUE_FILE
    migrate(_engine(file))
    before = file.read_bytes()
    migrate(_engine(file))
    assert file.read_bytes() == before


def test_names_are_in_order_and_the_first_is_never_renamed() -> None:
    names = [name for name, *_ in MIGRATIONS]
    assert names[0] == "0001-first"
    assert names == sorted(set(names))


def test_rows_of_the_first_schema_are_kept(tmp_path: Path) -> None:
    _first_schema(tmp_path)
    catalogue = Catalogue(tmp_path)
    assert catalogue.scans.roots() == [b"/g"]
    assert catalogue.generation == "3"
    assert catalogue.scans.failures() == [(b"/gb", "is empty")]
    ((ids, vectors),) = catalogue.descriptors.all("f")
    assert (ids.tolist(), vectors.tolist()) == ([7], [[1.0, 2.0]])
    (candidate,) = catalogue.pictures.candidates(ids)
    assert (candidate.path, candidate.label, candidate.width, candidate.height) == (b"/g/\xff", "cats", 30, 40)


def test_a_failing_migration_rolls_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = _first_schema(tmp_path)
    broken = (
        "ALTER TABLE pictures ADD COLUMN colour VARCHAR",
        "INSERT INTO roots (id, path) VALUES (9, x'2F39')",
        "THIS IS NO SQL",
    )
    monkeypatch.setattr(migrations, "MIGRATIONS", (*MIGRATIONS, ("9999-broken", broken, ())))
    with pytest.raises(StoreError, match='cannot be used, as SQLite says: near "THIS": syntax error'):
        SqliteDatabase(tmp_path)
    assert "9999-broken" not in _applied(file)
    with sqlite3.connect(file) as connection:
        columns = {row[1] for row in connection.execute("PRAGMA table_info(pictures)")}
        roots = connection.execute("SELECT count(*) FROM roots").fetchone()
    assert "colour" not in columns
    assert roots == (1,)


def test_a_failing_first_migration_leaves_an_empty_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = (*MIGRATIONS[0][1], "THIS IS NO SQL")
    monkeypatch.setattr(migrations, "MIGRATIONS", (("0001-first", broken, ()),))
    with pytest.raises(StoreError, match='cannot be used, as SQLite says: near "THIS": syntax error'):
        SqliteDatabase(tmp_path, create=True)
    assert _tables(tmp_path / CATALOGUE_FILE) == set()


def test_an_added_migration_is_applied_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    added = ("ALTER TABLE pictures ADD COLUMN colour VARCHAR DEFAULT 'grey'",)
    file = _first_schema(tmp_path)
    monkeypatch.setattr(migrations, "MIGRATIONS", (*MIGRATIONS, ("9999-colour", added, ())))
    for _ in range(2):
        SqliteDatabase(tmp_path).close()
    assert _applied(file)[-1] == "9999-colour"
    with sqlite3.connect(file) as connection:
        assert connection.execute("SELECT id, colour FROM pictures").fetchall() == [(7, "grey")]


def test_a_newer_file_is_refused_in_one_sentence(tmp_path: Path) -> None:
    file = _first_schema(tmp_path)
    with sqlite3.connect(file) as connection:
        connection.execute("INSERT INTO migrations VALUES ('9998-new'), ('9999-newest')")
    with pytest.raises(StoreError) as raised:
        Catalogue(tmp_path)
    assert str(raised.value) == (
        f"{file} was written by a newer version (its last change is 9999-newest): upgrade this program"
    )


def test_an_older_file_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    require_binding_permissions(tmp_path)
    folder = tmp_path / "store"
    folder.mkdir()
    file = folder / CATALOGUE_FILE
    with sqlite3.connect(file) as connection:
        connection.execute("CREATE TABLE migrations (name VARCHAR PRIMARY KEY)")
    folder.chmod(0o500)
    code = "import sys, pathlib, indexes.catalogue.catalogue as c\nc.Catalogue(pathlib.Path(sys.argv[1]))"
    done = run_unprivileged(code, folder)
    folder.chmod(0o700)
    assert done.stderr.splitlines()[-1] == (
        f"indexes.errors.StoreError: {file} is of an older version and cannot be written: allow writing there once"
    )


def test_the_declared_columns_are_the_migrated_ones(tmp_path: Path) -> None:
    file = tmp_path / "migrated"
    migrate(_engine(file))
    declared = {each.name: set(each.c.keys()) for each in vars(schema).values() if isinstance(each, TableClause)}
    with sqlite3.connect(file) as connection:
        assert declared == {
            name: {row[1] for row in connection.execute(f"PRAGMA table_info({name})")}
            for name in _tables(file) - {"sqlite_sequence"}
        }


def test_pictures_of_the_first_schema_are_counted_and_their_index_can_be_updated(tmp_path: Path) -> None:
    file = _first_schema(tmp_path)
    with sqlite3.connect(file) as connection:
        connection.execute("INSERT INTO roots VALUES (2, x'2F68')")
        connection.execute(
            "INSERT INTO pictures SELECT 8, 1, x'2F6738', size, mtime, hash, width, height, label, NULL, NULL, NULL, 1"
            " FROM pictures"
        )
    catalogue = Catalogue(tmp_path)
    assert catalogue.scans.root_counts() == [RootCounts(b"/g", 1, 1), RootCounts(b"/h", 0, 0)]
    assert catalogue.pictures.count() == 1
    catalogue.scans.set_missing([7], True)
    changes = catalogue.journal.changes_since("3")
    assert changes is not None
    assert changes[1].tolist() == [7]
