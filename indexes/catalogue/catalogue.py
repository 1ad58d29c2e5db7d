"""The catalogue, the truth of a store: which pictures are indexed, with their descriptors, and which files failed."""

from contextlib import AbstractContextManager
from pathlib import Path
from typing import Self

from sqlalchemy import delete

from indexes.catalogue.database.schema import ARCHIVES, FAILURES, PICTURES, ROOTS
from indexes.catalogue.descriptors import Descriptors
from indexes.catalogue.journal import Journal, update_generation
from indexes.catalogue.open_database import open_database
from indexes.catalogue.paths import is_below, parents
from indexes.catalogue.pictures import Pictures
from indexes.catalogue.records import RemovedCounts
from indexes.catalogue.scans import ScanRecords
from indexes.catalogue.settings import Settings
from indexes.catalogue.upkeep import seal
from indexes.errors import StoreError


class Catalogue:
    """One store's catalogue, by its parts. Everything here and in them raises StoreError.

    It lies in the store's folder, or at the PostgreSQL address that the folder names. If `create`, a missing store is
    made, which keeps `address`.
    """

    def __init__(self, folder: Path, create: bool = False, address: str | None = None, may_write: bool = True) -> None:
        self.folder = folder
        self._database = open_database(folder, create, address, may_write=may_write)
        self.writable = self._database.writable
        self.address = self._database.address
        self.settings = Settings(self._database)
        self.pictures = Pictures(self._database)
        self.descriptors = Descriptors(self._database)
        self.scans = ScanRecords(self._database)
        self.journal = Journal(self._database)

    def close(self) -> None:
        """Close the database; the catalogue cannot be used afterwards."""
        self._database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()

    @property
    def generation(self) -> str:
        """A token that is new with every change that an index must follow; empty before the first."""
        return self.settings.get("generation") or ""

    def damaged(self, what: str) -> StoreError:
        """Return the error of what is not as it was written."""
        return self._database.damaged(what)

    def seal(self) -> None:
        """Give checksums to rows that have none: those of before, and those that were moved or renamed."""
        seal(self._database)

    def index_lock(self, blocking: bool) -> AbstractContextManager[bool]:
        """Hold the store-wide index lock. Yields whether it was acquired; waits for it if `blocking`.

        For what is made from the catalogue and changed in place. Raises StoreError if the lock cannot be used.
        """
        return self._database.index_lock(blocking)

    def remove(self, *paths: bytes) -> RemovedCounts:
        """Remove pictures and failed files, or folders and everything below them, in one transaction."""
        tables = (PICTURES, FAILURES, ROOTS, ARCHIVES)
        counts = [0] * len(tables)
        with self._database.write() as connection:
            for path in paths:
                for number, table in enumerate(tables):
                    condition = (table.c.path == path) | is_below(table.c.path, path)
                    counts[number] += connection.execute(delete(table).where(condition)).rowcount
                # A tar above is read again by the next scan.
                connection.execute(delete(ARCHIVES).where(ARCHIVES.c.path.in_(parents(path))))
            removed = RemovedCounts(*counts[:3])
            if removed:
                update_generation(connection)
        return removed
