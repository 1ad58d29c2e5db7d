"""The catalogue on a PostgreSQL server."""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection

from indexes.catalogue.database.base import CatalogueDatabase, retry_lost
from indexes.catalogue.database.database_url import URL_VARIABLE, DatabaseUrl
from indexes.catalogue.database.dialects import POSTGRES
from indexes.catalogue.database.migrations import migrate
from indexes.errors import ConnectionLostError, StoreError

if TYPE_CHECKING:
    import psycopg

# Seconds, unless the address says otherwise: so that a server that does not answer is noticed.
_CONNECT_ARGS: dict[str, Any] = {
    "connect_timeout": 10,
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": 60_000,  # milliseconds
    "application_name": "retrieve",
}
# Every query of a catalogue is fastest by an index, row by row and in its order. A plan that is made while a table is
# small reads it whole instead, and is reused later: those of foreign keys too, while a gallery is indexed, so that each
# picture would take longer than the last. A disabled method is still used if there is no other.
_DISABLED = (
    *("enable_seqscan", "enable_bitmapscan", "enable_sort", "enable_hashjoin", "enable_mergejoin"),
    "jit",  # which the high cost of disabled methods would trigger
)
_TIMEOUTS = {  # by which the server notices a client that is gone: a writer holds up all others
    "idle_in_transaction_session_timeout": "60s",
    "tcp_keepalives_idle": "30s",
    "tcp_keepalives_interval": "10s",
    "tcp_keepalives_count": "3",
}
_SESSION_SETUP = "SELECT set_config('search_path', %s, false)" + "".join(
    f", set_config('{name}', '{value}', false)" for name, value in (dict.fromkeys(_DISABLED, "off") | _TIMEOUTS).items()
)
_CLOSED = "is closed to this user: have its tables granted to it, or give another address"
_WRONG_TABLES = "has other tables, or lacks some of its own: give another schema (?schema=name), or restore it"
_REMEDIES = {  # by SQLSTATE, or its class
    **dict.fromkeys(("23", "40"), "was changed by another process: run the command again"),
    "25006": "cannot be written: it is a read-only replica; give the address of its primary server",
    **dict.fromkeys(("3F000", "42P01", "42P07", "42703"), _WRONG_TABLES),
    "42501": _CLOSED,
    "53100": "cannot be written: the server's disk is full; make room and run the command again",
    "53300": "has no connection free: try again when others have finished, or raise the server's max_connections",
    "54000": "cannot keep a path of more than 2,600 bytes: give its folders shorter names",
    "55P03": "is being written by another process: try again when that has finished",
}
_LOST = ("08", "57P01", "57P02", "57P03")
_STARTING_UP = ("starting up", "not yet accepting", "in recovery")  # in the server's language
_PASSWORD_HINT = f"give the password in PGPASSWORD, ~/.pgpass, or the address in {URL_VARIABLE}"
_REFUSALS = {  # of a connection, for which the driver has no SQLSTATE, by the server's words; others are retried
    "password": f"refuses the user or password: {_PASSWORD_HINT}",
    "pg_hba.conf": "refuses this user from here: allow it in the server's pg_hba.conf, or give another address",
    "role": "refuses the user: give another address, as postgresql://user@host/database",
    'database "': "has no such database: make it with createdb, or give another address",
}


class PostgresDatabase(CatalogueDatabase):
    """Transactions on a catalogue's schema of a PostgreSQL database."""

    dialect = POSTGRES
    read_only_message = "cannot be written by this user: have its tables granted to it, or give another address"
    outdated_message = "is of an older version and cannot be written: open it once as a user that may write it"

    def __init__(self, url: DatabaseUrl) -> None:
        try:
            import psycopg
        except ImportError as error:
            raise StoreError(f"{url} needs PostgreSQL's driver: install it with `pip install '.[postgres]'`") from error
        self.address = str(url)
        self._url = url
        self._search_path = '"' + url.schema.replace('"', '""') + '"'
        self._lost_since: float | None = -math.inf  # so that a server that was never reached is not waited for
        super().__init__(self.address, url.url.set(drivername="postgresql+psycopg"), psycopg.Error)
        self.writable = self._prepare_schema()

    @contextmanager
    def index_lock(self, blocking: bool) -> Iterator[bool]:
        """Lock on the server, by a connection of its own; the lock ends with it."""
        connection, granted = self._acquire_lock(blocking)
        with closing(connection):
            yield granted

    @retry_lost
    def _acquire_lock(self, blocking: bool) -> tuple[psycopg.Connection[Any], bool]:
        lock = "pg_advisory_lock" if blocking else "pg_try_advisory_lock"
        with self._translate_errors(), ExitStack() as opened:
            connection = opened.enter_context(closing(self._connect()))
            answer = connection.execute(f"SELECT {lock}({_lock_key(f'{self._url.schema} index')})".encode()).fetchone()
            opened.pop_all()
        return connection, answer is not None and answer[0] is not False

    def _connect(self) -> psycopg.Connection[Any]:
        import psycopg

        _, known = self._engine.dialect.create_connect_args(self._url.url)
        # Transactions begin where `_begin` says.
        connection = psycopg.connect(**{**_CONNECT_ARGS, **known}, autocommit=True)
        connection.execute(_SESSION_SETUP.encode(), [self._search_path])
        return connection

    def _begin(self, connection: Connection) -> None:
        options = connection.get_execution_options()
        if not options.get("writes", False):
            connection.exec_driver_sql("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
            return
        connection.exec_driver_sql("BEGIN")
        if options.get("exclusive", True):
            # As on SQLite, one writer at a time, from the start of its transaction to the end. An index follows the
            # journal by rising positions, and a generation includes all positions up to its own: if two transactions
            # took positions at once, the one that commits first would name a generation that lacks the other's. A
            # batch holds the lock for three milliseconds, and its embedding takes twenty times as long; and no
            # transaction ever fails and is repeated, as serialisable ones are. Readers do not wait.
            connection.exec_driver_sql(
                f"SET LOCAL lock_timeout = '120s'; SELECT pg_advisory_xact_lock({_lock_key(self._url.schema)})"
            )

    @retry_lost
    def _prepare_schema(self) -> bool:
        """Migrate the tables if this user may write them; return whether that is so."""
        with self._translate_errors():
            with self._engine.connect() as connection:
                access = connection.exec_driver_sql(_ACCESS, (self._url.schema,)).one()
            if access.encoding != "UTF8":
                raise StoreError(f"is a database of encoding {access.encoding}: give one of UTF8 (createdb --encoding)")
            if access.has_tables and not access.may_read:
                raise StoreError(_CLOSED)
            if access.has_tables and not (access.is_primary and access.may_write):
                self._check_current()
                return False
            if not access.has_tables and not (access.is_primary and access.may_make):
                raise StoreError("has no catalogue, and this user may not make one there: give another address")
            if not access.has_schema:
                with self._engine.connect().execution_options(writes=True) as connection, connection.begin():
                    connection.exec_driver_sql(f"CREATE SCHEMA IF NOT EXISTS {self._search_path}")
            migrate(self._engine)
        return True

    @contextmanager
    def _translate_errors(self) -> Iterator[None]:
        with super()._translate_errors():
            yield
            self._lost_since = None

    def _cursor(self, driver: Any) -> Any:
        return driver.cursor(binary=True)

    def _to_store_error(self, cause: BaseException | None) -> StoreError:
        message, is_lost = _remedy(cause)
        if not is_lost:
            return StoreError(f"{self.address} {message}")
        self._engine.dispose()  # the other connections are lost too
        if self._lost_since is None or any(words in message for words in _STARTING_UP):
            self._lost_since = time.monotonic()
        return ConnectionLostError(f"{self.address} {message}", self._lost_since)


_ACCESS = (
    "SELECT NOT pg_is_in_recovery() AND NOT current_setting('default_transaction_read_only')::boolean AS is_primary,"
    " current_setting('server_encoding') AS encoding,"
    " n.oid IS NOT NULL AS has_schema, c.oid IS NOT NULL AS has_tables,"
    " coalesce(has_schema_privilege(n.oid, 'CREATE'), has_database_privilege(d.oid, 'CREATE')) AS may_make,"
    " has_schema_privilege(n.oid, 'USAGE') AND has_table_privilege(c.oid, 'SELECT') AS may_read,"
    " has_schema_privilege(n.oid, 'USAGE') AND has_table_privilege(c.oid, 'INSERT') AS may_write"
    " FROM pg_database d LEFT JOIN pg_namespace n ON n.nspname = %s"
    " LEFT JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = 'migrations' WHERE d.datname = current_database()"
)


def _remedy(cause: BaseException | None) -> tuple[str, bool]:
    """Return what is wrong and what to do about it, and whether the server was lost."""
    import psycopg

    state = getattr(cause, "sqlstate", None)
    message = (str(cause).splitlines() or [type(cause).__name__])[0].strip()
    if state is None and isinstance(cause, psycopg.OperationalError):
        message = message.rpartition(": ")[2].strip()  # without what was tried
        for words, remedy in _REFUSALS.items():
            if words in message:
                return f"{remedy} ({message})", False
        return f"cannot be reached ({message}): start the server, or check the address", True
    if state is not None and state.startswith(_LOST):
        return f"was interrupted ({message}): what was committed is kept; run the command again", True
    for key in (state or "", (state or "")[:2]):
        if key in _REMEDIES:
            return _REMEDIES[key], False
    return f"cannot be used, as PostgreSQL says: {message}", False


def _lock_key(schema: str) -> int:
    """Return the 64-bit number of the lock that writers of a schema's tables take."""
    return int.from_bytes(hashlib.sha256(b"retrieve " + schema.encode()).digest()[:8], "big", signed=True)
