"""The catalogue's SQLite file: opened safely, each transaction explained where it fails."""

import logging
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sqlalchemy import Connection

from indexes.catalogue.database.base import CatalogueDatabase
from indexes.catalogue.database.consent import require_agreement
from indexes.catalogue.database.dialects import SQLITE
from indexes.catalogue.database.migrations import migrate
from indexes.catalogue.database.sqlite_checks import find_damage, is_foreign, lost_transactions
from indexes.errors import StoreError
from indexes.retry import NEVER, retry

_LOGGER = logging.getLogger(__name__)
CATALOGUE_FILE = "catalogue.sqlite"
_LOCK = "index.lock"
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
_DAMAGED = (
    "is damaged: run `retrieve index --repair`; if that does not help, restore it from a copy, or delete the store's"
    " folder and index again"
)
_FOREIGN = "is another program's database, and stays as it is: choose another folder with --store"
# SQLite has one code for these and much else.
_OTHER_CONTENTS = ("no such table", "no such column", "already exists", "Could not decode to UTF-8")


class SqliteDatabase(CatalogueDatabase):
    """Transactions on `catalogue.sqlite` in a store's folder."""

    dialect = SQLITE
    read_only_message = _REMEDIES[sqlite3.SQLITE_READONLY]
    outdated_message = "is of an older version and cannot be written: allow writing there once"

    def __init__(self, folder: Path, create: bool = False, is_checked: bool = True, may_write: bool = True) -> None:
        self._file = folder / CATALOGUE_FILE
        if create:
            make_folder(folder)
        elif not has_catalogue(folder):
            raise StoreError(f"{folder} is not a store: make one with `retrieve index GALLERY`")
        is_new = not os.path.exists(self._file)
        self._check_owner(folder)
        if is_checked:
            self._check_log()
        self._is_open_to_write = self.writable = os.access(folder, os.W_OK) and (
            is_new or os.access(self._file, os.W_OK)
        )
        super().__init__(str(self._file), "sqlite://", sqlite3.Error)
        with self._translate_errors():
            if self.writable:
                migrate(self._engine)
            elif is_new:
                raise StoreError(self.read_only_message)
            else:
                self._check_current()
            if is_checked and not is_new:
                self._check_whole()
        self.writable &= may_write

    def _check_owner(self, folder: Path) -> None:
        """Raise StoreError if the file is another program's, or SQLite would write outside the folder."""
        if is_foreign(self._file):
            raise StoreError(f"{self._file} {_FOREIGN}")
        for ending in ("-wal", "-shm", "-journal"):
            if os.path.islink(f"{self._file}{ending}"):
                raise StoreError(f"{self._file}{ending} is a link, which no store has by itself: delete it")
        target = os.path.realpath(self._file)
        if os.path.islink(self._file) and not Path(target).is_relative_to(os.path.realpath(folder)):
            require_agreement(folder, target, "has its catalogue by a link at")

    def rebuild(self) -> list[str]:
        """Make what finds rows anew if it does not fit the rows; return what was done. Raises StoreError."""
        with self._translate_errors(), closing(self._connect()) as connection:
            found = find_damage(connection, 0)
            if found is None:
                return []
            connection.execute("REINDEX")
            if find_damage(connection, 0) is not None:
                raise StoreError("is beyond repair: restore it from a copy, or delete its folder and index again")
            return [f"{self._file} did not hold, and what finds its rows is made anew"]

    def _check_whole(self) -> None:
        with closing(self._connect()) as connection:
            if find_damage(connection, os.path.getsize(self._file)) is not None:
                raise StoreError(_DAMAGED)

    def _check_log(self) -> None:
        """Look whether the write-ahead log has changes that a damage before them would hide."""
        log = Path(f"{self._file}-wal")
        lost = lost_transactions(log)
        if lost > 1:
            raise StoreError(
                f"{log} is damaged, and {lost:,} changes in it are lost: `retrieve index --repair` goes on without them"
            )
        if lost:  # perhaps by a power cut, as it was not finished
            _LOGGER.warning("the last change in %s is lost: run `retrieve index` to make it again", log)

    @contextmanager
    def index_lock(self, blocking: bool) -> Iterator[bool]:
        """Lock a file in the store's folder; the lock ends with the process."""
        from filelock import FileLock, Timeout

        file = self._file.parent / _LOCK
        lock = FileLock(file, blocking=blocking)
        try:
            with suppress(Timeout):
                lock.acquire()
        except OSError as error:
            raise StoreError(
                f"{file} cannot be written ({error.strerror}): allow writing there, as the index must be brought up"
                " to date"
            ) from error
        try:
            yield lock.is_locked
        finally:
            lock.release()

    def _connect(self) -> sqlite3.Connection:
        mode = "mode=rwc" if self._is_open_to_write else "mode=ro"
        if not self._is_open_to_write and not self._has_wal():
            mode += "&immutable=1"  # a closed folder has no room for the files that a log needs
        address = f"file:{quote(os.fsencode(self._file.absolute()))}?{mode}"
        connection = sqlite3.connect(address, uri=True, timeout=30, check_same_thread=False)
        connection.isolation_level = None  # transactions begin in `_begin`
        if self._is_open_to_write:
            _enable_wal(connection)
        connection.execute("PRAGMA synchronous = FULL")  # what was committed survives a power cut
        connection.execute("PRAGMA secure_delete = ON")  # what was removed is not left in the file's free pages
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("PRAGMA trusted_schema = OFF")  # another may have made the file
        connection.execute("PRAGMA cell_size_check = ON")  # a damaged page is seen when it is read
        return connection

    def _begin(self, connection: Connection) -> None:
        # A writer takes its lock at the start: a reader that turns writer half-way may not wait for another writer.
        writes = connection.get_execution_options().get("writes", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    def _cursor(self, driver: Any) -> Any:
        return driver.cursor()

    def _to_store_error(self, cause: BaseException | None) -> StoreError:
        code = getattr(cause, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
        holds_other_things = code == sqlite3.SQLITE_ERROR and any(words in str(cause) for words in _OTHER_CONTENTS)
        if holds_other_things or code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
            return StoreError(f"{self._file} {_DAMAGED}")
        return StoreError(f"{self._file} {_REMEDIES.get(code, f'cannot be used, as SQLite says: {cause}')}")

    def _has_wal(self) -> bool:
        """Whether a process that died left committed rows in the write-ahead log."""
        try:
            return os.stat(f"{self._file}-wal").st_size > 0
        except OSError:
            return False


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


def _enable_wal(connection: sqlite3.Connection) -> None:
    """Turn on the write-ahead log: the one change for which SQLite does not wait while another process writes."""

    def deadline(error: Exception, since: float) -> float:
        is_busy = isinstance(error, sqlite3.Error) and error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY
        return since + _WAL_SECONDS if is_busy else NEVER

    retry(lambda is_repeat: connection.execute("PRAGMA journal_mode = WAL"), deadline, 0.05, 0.05)
