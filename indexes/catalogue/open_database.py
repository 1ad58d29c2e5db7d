"""A store's catalogue opened where it lies: in the store's folder, or at the address that the folder keeps."""

from __future__ import annotations

from pathlib import Path

from indexes.catalogue.database import sqlite
from indexes.catalogue.database.dialects import Transactions
from indexes.catalogue.database.sqlite import Database, has_file, make_folder
from indexes.catalogue.database_url import agreed, keep_place, kept_place
from indexes.errors import StoreError


def is_store(folder: Path) -> bool:
    """Whether this folder is a store. Raises StoreError where that cannot be seen."""
    return has_file(folder) or kept_place(folder) is not None


def open_database(folder: Path, create: bool = False, address: str | None = None) -> Transactions:
    """The database of a store's catalogue. With `create`, a store is made that keeps `address`. Raises StoreError."""
    place = kept_place(folder)
    if address is not None:
        if place is None and has_file(folder):
            raise StoreError(
                f"{folder} has its catalogue in {sqlite.FILE_NAME}: leave out --catalogue, or choose another store"
                " with --store"
            )
        place, kept = agreed(folder, place, address), place
        from indexes.catalogue.database.postgres import Postgres

        opened = Postgres(place)
        if create and kept is None:
            make_folder(folder)
            keep_place(folder, place)
        return opened
    if place is None:
        return Database(folder, create)
    from indexes.catalogue.database.postgres import Postgres

    return Postgres(place)
