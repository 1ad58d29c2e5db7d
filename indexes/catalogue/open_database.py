"""The database of a store's catalogue: a file in the store's folder, or at the address that the folder names."""

import os
from pathlib import Path

from indexes.catalogue.database.base import CatalogueDatabase
from indexes.catalogue.database.consent import agree, require_agreement
from indexes.catalogue.database.database_url import URL_VARIABLE, read_url, reconcile_url, write_url
from indexes.catalogue.database.sqlite import CATALOGUE_FILE, SqliteDatabase, has_catalogue, make_folder
from indexes.errors import StoreError


def is_store(folder: Path) -> bool:
    """Return whether this folder is a store. Raises StoreError if that cannot be seen."""
    return has_catalogue(folder) or read_url(folder) is not None


def open_database(
    folder: Path, create: bool = False, address: str | None = None, is_checked: bool = True, may_write: bool = True
) -> CatalogueDatabase:
    """Open the database of a store's catalogue; if `create`, make a store that keeps `address`. Raises StoreError.

    A file is first looked at, if it `is_checked`. It is written only if one `may_write`, or to bring one of an older
    version up to date.
    """
    stored = read_url(folder)
    if address is not None and stored is None and has_catalogue(folder):
        raise StoreError(
            f"{folder} has its catalogue in {CATALOGUE_FILE}: leave out --catalogue, or choose another store with"
            " --store"
        )
    url = stored if address is None else reconcile_url(folder, stored, address)
    if url is None:
        return SqliteDatabase(folder, create, is_checked, may_write)
    from indexes.catalogue.database.postgres import PostgresDatabase

    if address is not None or os.environ.get(URL_VARIABLE):  # somebody has given it now
        agree(folder, str(url))
    else:
        require_agreement(folder, str(url), "has its catalogue at")
    database = PostgresDatabase(url)
    if create and stored is None:
        make_folder(folder)
        write_url(folder, url)
    return database
