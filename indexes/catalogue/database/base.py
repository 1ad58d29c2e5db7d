"""The base of both databases of a catalogue: pooled connections, transactions, errors in words, and retries."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import wraps
from typing import Any, ClassVar, ParamSpec, TypeVar

from sqlalchemy import URL, ColumnElement, Connection, Executable, RootTransaction, Select, create_engine, event
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.pool import QueuePool

from indexes.catalogue.database.checksums import holds, row_checksum
from indexes.catalogue.database.dialects import Dialect, chunked
from indexes.catalogue.database.migrations import pending_migrations
from indexes.errors import ConnectionLostError, StoreError
from indexes.retry import NEVER, retry

P = ParamSpec("P")
T = TypeVar("T")

LOST_RETRY_SECONDS = 10.0
"""Seconds after the loss of a server in which work is retried: one that crashed is back in about two."""

_PAUSES = 0.1, 1.0  # seconds: the first, the longest
_MAX_OVERFLOW = 40  # connections beside the five that are kept: as many as a server has threads


def retry_lost(function: Callable[P, T]) -> Callable[P, T]:
    """Retry a function that the loss of a database's server interrupts.

    For reads, and for writes that may be done twice: a transaction whose end was not confirmed may be committed or not.
    """

    @wraps(function)
    def retrying(*args: P.args, **kwargs: P.kwargs) -> T:
        return retry(lambda is_repeat: function(*args, **kwargs), _deadline, *_PAUSES)

    return retrying


def _deadline(error: Exception, since: float) -> float:
    return error.lost_at + LOST_RETRY_SECONDS if isinstance(error, ConnectionLostError) else NEVER


class CatalogueDatabase(ABC):
    """A catalogue's database. Every method raises StoreError."""

    dialect: ClassVar[Dialect]
    read_only_message: ClassVar[str]
    outdated_message: ClassVar[str]

    address: str | None = None
    """Where the database is, without a password; None in the store's own folder."""

    writable: bool

    def __init__(self, name: str, url: str | URL, driver_error: type[Exception]) -> None:
        self._name = name
        self._driver_error = driver_error
        self._engine = create_engine(
            url, creator=self._connect, poolclass=QueuePool, max_overflow=_MAX_OVERFLOW, pool_reset_on_return=None
        )
        event.listen(self._engine, "begin", self._begin)

    def close(self) -> None:
        """Close the connections."""
        self._engine.dispose()

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """Open a transaction that sees one state of the database, whatever others write meanwhile."""
        with self._translate_errors(), self._engine.connect() as connection, connection.begin():
            yield connection  # ended by COMMIT: at a ROLLBACK psycopg forgets the statements that it has prepared

    @contextmanager
    def write(self, exclusive: bool = True) -> Iterator[Connection]:
        """Open a transaction that is committed whole or, if the block raises, not at all.

        If `exclusive`, no other such transaction overlaps; on SQLite none ever does.
        """
        if not self.writable:
            raise StoreError(f"{self._name} {self.read_only_message}")
        transaction = self._open_transaction(exclusive)
        with self._translate_errors(), transaction.connection as connection, transaction:
            yield connection

    @retry_lost
    def fetch(self, statement: str, values: Sequence[Any]) -> list[Any]:
        """Return all rows of one statement, straight from the driver.

        SQLAlchemy's own way costs 40 microseconds more, for each file of a scan.
        """
        with self._translate_errors():
            pooled = self._engine.raw_connection()
            try:
                rows: list[Any] = self._cursor(pooled.driver_connection).execute(statement, values).fetchall()
                return rows
            finally:
                pooled.close()

    @retry_lost
    def rows(self, statement: Executable) -> list[Any]:
        """Return all rows of a query."""
        with self.read() as connection:
            return list(connection.execute(statement))

    @retry_lost
    def rows_among(self, query: Select[Any], column: ColumnElement[T], values: Sequence[T]) -> list[Any]:
        """Return the rows of a query in which a column has one of any number of values."""
        with self.read() as connection:
            return [row for part in chunked(values) for row in connection.execute(query.where(column.in_(part)))]

    def check(self, rows: Sequence[Any], width: int) -> list[Any]:
        """Return the first `width` columns of pictures' rows, which have their checksums and CHECKED behind them.

        Raises StoreError if a row is not as it was written.
        """
        for row in rows:
            if not holds(row[width], row_checksum(row[width + 1 :])):
                raise self.damaged("the record of a picture")
        return [row[:width] for row in rows]

    def damaged(self, what: str) -> StoreError:
        """Return the error of what is not as it was written."""
        return StoreError(f"{self._name} is damaged in {what}: `retrieve index --repair` makes anew what does not hold")

    def scalars(self, statement: Executable) -> list[Any]:
        """Return the first column of a query."""
        return [row[0] for row in self.rows(statement)]

    @abstractmethod
    def index_lock(self, blocking: bool) -> AbstractContextManager[bool]:
        """Hold the store-wide index lock. Yields whether it was acquired; waits for it if `blocking`."""

    @abstractmethod
    def _connect(self) -> Any:
        """Open a connection of the driver that begins no transactions by itself."""

    @abstractmethod
    def _begin(self, connection: Connection) -> None:
        """Begin a transaction: of the options `writes` and `exclusive`."""

    @abstractmethod
    def _cursor(self, driver: Any) -> Any:
        """Return a cursor for `fetch`."""

    @abstractmethod
    def _to_store_error(self, cause: BaseException | None) -> StoreError:
        """Return a driver's error as a sentence with the database's name and a remedy."""

    @retry_lost
    def _open_transaction(self, exclusive: bool) -> RootTransaction:
        """Begin a transaction in which nothing is done yet, so that this may be repeated if a server was lost."""
        with self._translate_errors():
            connection = self._engine.connect().execution_options(writes=True, exclusive=exclusive)
            try:
                return connection.begin()
            except BaseException:
                connection.close()
                raise

    def _check_current(self) -> None:
        with self._engine.connect() as connection:
            if pending_migrations(connection):
                raise StoreError(self.outdated_message)

    @contextmanager
    def _translate_errors(self) -> Iterator[None]:
        try:
            yield
        except (DBAPIError, self._driver_error) as error:
            raise self._to_store_error(error.orig if isinstance(error, DBAPIError) else error) from error
        except PoolTimeoutError as error:
            raise StoreError(f"{self._name} has too many requests at once: try again") from error
        except StoreError as error:
            raise StoreError(f"{self._name} {error}") from error
