"""A store's catalogue opened where it lies: in the store's folder, or at the address that the folder keeps."""

from __future__ import annotations

from pathlib import Path

from indexes.catalogue.database import sqlite
from indexes.catalogue.database.base import CatalogueDatabase
from indexes.catalogue.database.database_url import read_url, reconcile_url, write_url
from indexes.catalogue.database.sqlite import SqliteDatabase, has_catalogue, make_folder
from indexes.errors import StoreError


def is_store(folder: Path) -> bool:
    """Whether this folder is a store. Raises StoreError where that cannot be seen."""
    return has_catalogue(folder) or read_url(folder) is not None


def open_database(folder: Path, create: bool = False, address: str | None = None) -> CatalogueDatabase:
    """The database of a store's catalogue. With `create`, a store is made that keeps `address`. Raises StoreError."""
    place = read_url(folder)
    if address is not None:
        if place is None and has_catalogue(folder):
            raise StoreError(
                f"{folder} has its catalogue in {sqlite.CATALOGUE_FILE}: leave out --catalogue, or choose another store"
                " with --store"
            )
        place, kept = reconcile_url(folder, place, address), place
        from indexes.catalogue.database.postgres import PostgresDatabase

        opened = PostgresDatabase(place)
        if create and kept is None:
            make_folder(folder)
            write_url(folder, place)
        return opened
    if place is None:
        return SqliteDatabase(folder, create)
    from indexes.catalogue.database.postgres import PostgresDatabase

    return PostgresDatabase(place)
