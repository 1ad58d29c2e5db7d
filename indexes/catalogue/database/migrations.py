"""Append-only migrations of the catalogue. Each is applied with its record in one transaction."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from sqlalchemy import Connection, Engine, insert, inspect, select

from indexes.catalogue.database import postgres_migrations
from indexes.catalogue.database.schema import Base, Migration
from indexes.errors import StoreError

MigrationStep = Callable[[Connection], None]


def _run(connection: Connection, sqlite: Iterable[str], postgres: Iterable[str]) -> None:
    for statement in postgres if connection.dialect.name == "postgresql" else sqlite:
        connection.exec_driver_sql(statement)


def _first(connection: Connection) -> None:
    """The tables as they were at the beginning, written out so that later changes of the classes do not reach back."""
    sqlite = (
        "CREATE TABLE settings (name VARCHAR PRIMARY KEY, value VARCHAR NOT NULL)",
        "CREATE TABLE roots (id INTEGER PRIMARY KEY, path BLOB NOT NULL UNIQUE)",
        "CREATE TABLE pictures (id INTEGER PRIMARY KEY AUTOINCREMENT, root_id INTEGER NOT NULL REFERENCES roots (id),"
        " path BLOB NOT NULL UNIQUE, size INTEGER NOT NULL, mtime INTEGER NOT NULL, hash BLOB NOT NULL,"
        " width INTEGER NOT NULL, height INTEGER NOT NULL, label VARCHAR, taken_at VARCHAR,"
        " latitude FLOAT, longitude FLOAT, missing BOOLEAN NOT NULL)",
        "CREATE INDEX pictures_by_hash ON pictures (hash)",
        "CREATE INDEX pictures_by_label ON pictures (label, missing)",
        "CREATE INDEX pictures_scan ON pictures (path, size, mtime, missing)",
        "CREATE TABLE descriptors (picture_id INTEGER NOT NULL REFERENCES pictures (id) ON DELETE CASCADE,"
        " fingerprint VARCHAR NOT NULL, vector BLOB NOT NULL, PRIMARY KEY (picture_id, fingerprint))",
        "CREATE TABLE failures (path BLOB PRIMARY KEY, reason VARCHAR NOT NULL)",
    )
    _run(connection, sqlite, postgres_migrations.FIRST)


def _counters(connection: Connection) -> None:
    """Each root's number of pictures is kept by triggers, so that nobody counts a million rows."""
    sqlite = (
        "ALTER TABLE roots ADD COLUMN pictures INTEGER NOT NULL DEFAULT 0",
        "ALTER TABLE roots ADD COLUMN missing INTEGER NOT NULL DEFAULT 0",
        "UPDATE roots SET (pictures, missing) = (SELECT count(*) - total(missing), total(missing)"
        " FROM pictures WHERE root_id = roots.id)",
        "CREATE TRIGGER pictures_come AFTER INSERT ON pictures BEGIN"
        " UPDATE roots SET pictures = pictures + 1 - NEW.missing, missing = missing + NEW.missing"
        " WHERE id = NEW.root_id; END",
        "CREATE TRIGGER pictures_go AFTER DELETE ON pictures BEGIN"
        " UPDATE roots SET pictures = pictures - 1 + OLD.missing, missing = missing - OLD.missing"
        " WHERE id = OLD.root_id; END",
        "CREATE TRIGGER pictures_move AFTER UPDATE OF root_id, missing ON pictures"
        " WHEN OLD.root_id <> NEW.root_id OR OLD.missing <> NEW.missing BEGIN"
        " UPDATE roots SET pictures = pictures - 1 + OLD.missing, missing = missing - OLD.missing"
        " WHERE id = OLD.root_id;"
        " UPDATE roots SET pictures = pictures + 1 - NEW.missing, missing = missing + NEW.missing"
        " WHERE id = NEW.root_id; END",
    )
    _run(connection, sqlite, postgres_migrations.COUNTERS)


def _journal(connection: Connection) -> None:
    """What changed since a generation, so that an index is brought up to date and not made anew."""
    sqlite = (
        "CREATE TABLE changes (position INTEGER PRIMARY KEY AUTOINCREMENT, picture_id INTEGER NOT NULL)",
        "CREATE TABLE generations (name VARCHAR PRIMARY KEY, position INTEGER NOT NULL)",
        "INSERT INTO generations SELECT value, 0 FROM settings WHERE name = 'generation'",  # its index is followed
        "CREATE TRIGGER descriptors_come AFTER INSERT ON descriptors BEGIN"
        " INSERT INTO changes (picture_id) VALUES (NEW.picture_id); END",
        "CREATE TRIGGER descriptors_go AFTER DELETE ON descriptors BEGIN"
        " INSERT INTO changes (picture_id) VALUES (OLD.picture_id); END",
        "CREATE TRIGGER pictures_missing AFTER UPDATE OF missing ON pictures WHEN OLD.missing <> NEW.missing BEGIN"
        " INSERT INTO changes (picture_id) VALUES (NEW.id); END",
    )
    _run(connection, sqlite, postgres_migrations.JOURNAL)


def _versions(connection: Connection) -> None:
    """What is not a file has a version, which a scan compares; a tar is remembered once it is read."""
    sqlite = (
        "ALTER TABLE pictures ADD COLUMN version VARCHAR",
        "DROP INDEX pictures_scan",
        "CREATE INDEX pictures_scan ON pictures (path, size, mtime, version, missing)",
        "CREATE TABLE archives (path BLOB PRIMARY KEY, version VARCHAR NOT NULL)",
    )
    _run(connection, sqlite, postgres_migrations.VERSIONS)


MIGRATIONS: tuple[tuple[str, MigrationStep], ...] = (
    ("0001-first", _first),
    ("0002-counters", _counters),
    ("0003-journal", _journal),
    ("0004-versions", _versions),
)
"""In order of application. Never change or remove one that was released: add another."""


def pending_migrations(connection: Connection) -> list[tuple[str, MigrationStep]]:
    """The migrations that this file lacks. Raises StoreError where it has one that is not known here."""
    applied = set[str]()
    if inspect(connection).has_table("migrations"):
        applied = set(connection.scalars(select(Migration.name)))
    unknown = sorted(applied - {name for name, _ in MIGRATIONS})
    if unknown:
        raise StoreError(f"was written by a newer version (its last change is {unknown[-1]}): upgrade this program")
    return [(name, change) for name, change in MIGRATIONS if name not in applied]


def migrate(engine: Engine) -> None:
    """Apply what is pending, each migration and its record in one transaction."""
    with engine.connect() as connection:
        todo = pending_migrations(connection)
    for name, change in todo:
        with engine.connect().execution_options(writes=True) as connection, connection.begin():  # one process at a time
            if name not in {pending_name for pending_name, _ in pending_migrations(connection)}:
                continue
            Base.metadata.create_all(connection, tables=[Base.metadata.tables["migrations"]])
            change(connection)
            connection.execute(insert(Migration).values(name=name))
