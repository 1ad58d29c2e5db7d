"""The catalogue's SQLite file: opened safely, each transaction explained where it fails."""

from __future__ import annotations

import fcntl
import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sqlalchemy import Connection, create_engine, event
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.pool import QueuePool

from indexes.catalogue.database.dialects import SQLITE
from indexes.catalogue.database.migrations import migrate, pending_migrations
from indexes.errors import StoreError
from indexes.retry import NEVER, retry

CATALOGUE_FILE = "catalogue.sqlite"
_LOCK = "index.lock"
_CONNECTIONS = 40  # beside the five that are kept: as many as a server has threads
_WAL_SECONDS = 10.0  # for which the switch to the write-ahead log is tried
_REMEDIES = {
    sqlite3.SQLITE_FULL: "cannot be written: the disk is full; make room and run the command again",
    sqlite3.SQLITE_IOERR: "cannot be read or written: the disk is full or failing; check it and try again",
    sqlite3.SQLITE_READONLY: "cannot be written: allow writing there, or choose another store with --store",
    sqlite3.SQLITE_CANTOPEN: "cannot be opened: check the folder's permissions, or choose another with --store",
    sqlite3.SQLITE_PERM: "cannot be opened: check the folder's permissions, or choose another with --store",
    sqlite3.SQLITE_BUSY: "is being written by another process: try again when that has finished",
    sqlite3.SQLITE_CONSTRAINT: "was changed by another process: run the command again",
}
_DAMAGED = "is damaged: restore it from a copy, or delete the store's folder and index again"
_OTHER_TABLES = ("no such table", "no such column", "already exists")  # SQLite has one code for these and much else


class SqliteDatabase:
    """Transactions on `catalogue.sqlite` in a store's folder. Raises StoreError throughout."""

    dialect = SQLITE
    address = None

    def __init__(self, folder: Path, create: bool = False) -> None:
        self.file = folder / CATALOGUE_FILE
        if not create and not has_catalogue(folder):
            raise StoreError(f"{folder} is not a store: make one with `retrieve index GALLERY`")
        if create:
            make_folder(folder)
        self.writable = os.access(folder, os.W_OK) and (not os.path.exists(self.file) or os.access(self.file, os.W_OK))
        self._engine = create_engine(
            "sqlite://",
            creator=self._connect,
            poolclass=QueuePool,
            max_overflow=_CONNECTIONS,
            pool_reset_on_return=None,
        )
        event.listen(self._engine, "begin", _begin)
        with self._translate_errors():
            if self.writable:
                migrate(self._engine)
            elif create and not os.path.exists(self.file):
                raise StoreError(_REMEDIES[sqlite3.SQLITE_READONLY])
            else:
                self._check_current()

    def close(self) -> None:
        """Give back the file."""
        self._engine.dispose()

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """One view of the file, whatever others write meanwhile."""
        with self._translate_errors(), self._engine.connect() as connection:
            yield connection

    def fetch(self, statement: str, values: Sequence[Any]) -> list[Any]:
        """All rows of one statement, a view of the file by itself.

        They come straight from the driver: SQLAlchemy's own way costs 40 microseconds more, with each file of a scan.
        """
        with self._translate_errors():
            pooled = self._engine.raw_connection()
            try:
                rows: list[Any] = pooled.cursor().execute(statement, values).fetchall()
                return rows
            finally:
                pooled.close()

    @contextmanager
    def write(self, exclusive: bool = True) -> Iterator[Connection]:
        """All of it, or, where it raises, nothing; always alone."""
        with self._translate_errors():
            if not self.writable:
                raise StoreError(_REMEDIES[sqlite3.SQLITE_READONLY])
            with self._engine.connect().execution_options(writes=True) as connection, connection.begin():
                yield connection

    @contextmanager
    def index_lock(self, blocking: bool) -> Iterator[bool]:
        """By a lock on a file in the store's folder, which ends with the process."""
        lock = self.file.parent / _LOCK
        try:
            descriptor = os.open(lock, os.O_CREAT | os.O_RDWR, 0o644)
        except OSError as error:
            raise StoreError(
                f"{lock} cannot be written ({error.strerror}): allow writing there, as the index must be brought up"
                " to date"
            ) from error
        try:
            granted = True
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX if blocking else fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                granted = False
            yield granted
        finally:
            os.close(descriptor)

    def _connect(self) -> sqlite3.Connection:
        mode = "mode=rwc" if self.writable else "mode=ro"
        if not self.writable and not self._has_wal():
            mode += "&immutable=1"  # a closed folder has no place for the files that a log needs
        address = f"file:{quote(os.fsencode(self.file.absolute()))}?{mode}"
        connection = sqlite3.connect(address, uri=True, timeout=30, check_same_thread=False)
        connection.isolation_level = None  # transactions begin where `_begin` says
        if self.writable:
            _enable_wal(connection)
        connection.execute("PRAGMA synchronous = FULL")  # what was committed outlasts a power cut
        connection.execute("PRAGMA secure_delete = ON")  # what was removed is not left in the file's free pages
        connection.execute("PRAGMA foreign_keys = ON")
        return connection

    def _has_wal(self) -> bool:
        """Whether a process that died left committed rows in the write-ahead log."""
        try:
            return os.stat(f"{self.file}-wal").st_size > 0
        except OSError:
            return False

    def _check_current(self) -> None:
        with self._engine.connect() as connection:
            if pending_migrations(connection):
                raise StoreError("is of an older version and cannot be written: allow writing there once")

    @contextmanager
    def _translate_errors(self) -> Iterator[None]:
        """Turn what SQLite says into one sentence with the file's name and a remedy."""
        try:
            yield
        except (DBAPIError, sqlite3.Error) as error:
            cause = error.orig if isinstance(error, DBAPIError) else error
            raise StoreError(f"{self.file} {_remedy(cause)}") from error
        except PoolTimeoutError as error:
            raise StoreError(f"{self.file} is asked by too many at once: try again") from error
        except StoreError as error:
            raise StoreError(f"{self.file} {error}") from error


def make_folder(folder: Path) -> None:
    """Make a store's folder, and those above. Raises StoreError."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(f"{folder} cannot be made ({error.strerror}): choose another with --store") from error


def has_catalogue(folder: Path) -> bool:
    """Whether the catalogue lies in this folder. Raises StoreError where that cannot be seen."""
    try:
        os.stat(folder / CATALOGUE_FILE)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        raise StoreError(f"{folder} cannot be opened ({error.strerror}): choose another with --store") from error
    return True


def _remedy(cause: BaseException | None) -> str:
    code = getattr(cause, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
    other_tables = code == sqlite3.SQLITE_ERROR and any(words in str(cause) for words in _OTHER_TABLES)
    if other_tables or code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return _DAMAGED
    return _REMEDIES.get(code, f"cannot be used, as SQLite says: {cause}")


def _enable_wal(connection: sqlite3.Connection) -> None:
    """Turn on the write-ahead log: the one change for which SQLite does not wait while another process writes."""

    def deadline(error: Exception, since: float) -> float:
        is_busy = isinstance(error, sqlite3.Error) and error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY
        return since + _WAL_SECONDS if is_busy else NEVER

    retry(lambda is_repeat: connection.execute("PRAGMA journal_mode = WAL"), deadline, 0.05, 0.05)


def _begin(connection: Connection) -> None:
    # A writer takes its lock at the start, as a reader that turns writer half-way may not wait for another.
    writes = connection.get_execution_options().get("writes", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
