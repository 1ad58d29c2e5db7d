"""The catalogue's SQLite file: opened safely, each transaction explained where it fails."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

from sqlalchemy import Connection, create_engine, event
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import QueuePool

from indexes.errors import StoreError
from indexes.migrations import migrate, pending

FILE_NAME = "catalogue.sqlite"
_REMEDIES = {
    sqlite3.SQLITE_FULL: "cannot be written: the disk is full; make room and run the command again",
    sqlite3.SQLITE_IOERR: "cannot be read or written: the disk is full or failing; check it and try again",
    sqlite3.SQLITE_READONLY: "cannot be written: allow writing there, or choose another store with --store",
    sqlite3.SQLITE_CANTOPEN: "cannot be opened: check the folder's permissions, or choose another with --store",
    sqlite3.SQLITE_PERM: "cannot be opened: check the folder's permissions, or choose another with --store",
    sqlite3.SQLITE_BUSY: "is being written by another process: try again when that has finished",
}
_DAMAGED = "is damaged: restore it from a copy, or delete the store's folder and index again"


class Database:
    """Transactions on `catalogue.sqlite` in a store's folder. Raises StoreError throughout."""

    def __init__(self, folder: Path, create: bool = False) -> None:
        self.file = folder / FILE_NAME
        if not create and not self.file.is_file():
            raise StoreError(f"{folder} is not a store: make one with `retrieve index GALLERY`")
        if create:
            try:
                folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise StoreError(f"{folder} cannot be made ({error.strerror}): choose another with --store") from error
        self.writable = os.access(folder, os.W_OK) and (not self.file.exists() or os.access(self.file, os.W_OK))
        self._engine = create_engine("sqlite://", creator=self._connect, poolclass=QueuePool)
        event.listen(self._engine, "begin", _begin)
        with self._explained():
            if self.writable:
                migrate(self._engine)
            elif create and not self.file.exists():
                raise StoreError(_REMEDIES[sqlite3.SQLITE_READONLY])
            else:
                self._check_current()

    def close(self) -> None:
        """Give back the file."""
        self._engine.dispose()

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """One view of the file, whatever others write meanwhile."""
        with self._explained(), self._engine.connect() as connection:
            yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """All of it, or, where it raises, nothing."""
        with self._explained():
            if not self.writable:
                raise StoreError(_REMEDIES[sqlite3.SQLITE_READONLY])
            with self._engine.connect().execution_options(writes=True) as connection, connection.begin():
                yield connection

    def _connect(self) -> sqlite3.Connection:
        # A folder without write permission has no place for the files of a write-ahead log.
        mode = "mode=rwc" if self.writable else "mode=ro&immutable=1"
        address = f"file:{quote(os.fsencode(self.file.absolute()))}?{mode}"
        connection = sqlite3.connect(address, uri=True, timeout=30, check_same_thread=False)
        connection.isolation_level = None  # transactions begin where `_begin` says
        if self.writable:
            connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute("PRAGMA foreign_keys = ON")
        return connection

    def _check_current(self) -> None:
        with self._engine.connect() as connection:
            if pending(connection):
                raise StoreError("is of an older version and cannot be written: allow writing there once")

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Turn what SQLite says into one sentence with the file's name and a remedy."""
        try:
            yield
        except (DBAPIError, sqlite3.Error) as error:
            cause = error.orig if isinstance(error, DBAPIError) else error
            code = getattr(cause, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT) & 0xFF
            raise StoreError(f"{self.file} {_REMEDIES.get(code, _DAMAGED)}") from error
        except StoreError as error:
            raise StoreError(f"{self.file} {error}") from error


def _begin(connection: Connection) -> None:
    # A writer takes its lock at the start, as a reader that turns writer half-way may not wait for another.
    writes = connection.get_execution_options().get("writes", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
