"""Removal of pictures and galleries from a store."""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from indexes.catalogue.catalogue import Catalogue
from indexes.catalogue.records import RemovedCounts
from indexes.errors import StoreError
from indexes.vectors.faiss_file import delete_files
from indexes.vectors.index_address import FAISS
from indexes.vectors.storage import index_address
from retrieval.sources.location import (
    TAR_PREFIX,
    display_location,
    enclosing_tars,
    is_address,
    parse_location,
)
from retrieval.store.maintenance.index_sync import open_index
from retrieval.store.names import list_prefixes, other_names, possible_paths


def remove_paths(catalogue: Catalogue, paths: Iterable[str | os.PathLike[str]]) -> dict[str, RemovedCounts]:
    """Remove pictures, and folders with everything below them, from the store, by any path that leads to them.

    Return the counts by path. The index is updated once, in the end, also if a path raises StoreError.
    """
    removed: dict[str, RemovedCounts] = {}
    try:
        for path in paths:
            name = os.fspath(path)
            if name not in removed:
                removed[name] = _remove(catalogue, name)
    finally:
        if any(removed.values()):
            _update_index(catalogue)
    return removed


def _remove(catalogue: Catalogue, path: str) -> RemovedCounts:
    """Remove what the path leads to from the catalogue.

    Names that the catalogue has come first, then those of the same file or folder that are spelled otherwise.
    """
    possible = list(possible_paths(path))
    in_lists = (prefix + entry for prefix in list_prefixes(catalogue) for entry in possible)
    for paths in (possible, in_lists, tar_members_named(catalogue, path)):
        if found := next(filter(None, map(catalogue.remove, paths)), None):
            return found
    return catalogue.remove(*other_names(catalogue, path))


def tar_members_named(catalogue: Catalogue, name: str) -> Iterator[bytes]:
    """Yield the members of tars that are displayed under this name; their own paths also have offset and size."""
    name = name.removeprefix(TAR_PREFIX)
    kind = "" if is_address(name) else TAR_PREFIX
    name = Path(os.path.abspath(name)).as_posix() if kind else name
    for tar in enclosing_tars(name):
        for prefix in (b"", *list_prefixes(catalogue)):
            for known in list(catalogue.scans.known_files(prefix + os.fsencode(kind + tar))):
                if str(display_location(parse_location(known.path))) == name:
                    yield known.path


def _update_index(catalogue: Catalogue) -> None:
    """Remove it from the index too; an index file that cannot be updated is deleted, so that nothing is left in it."""
    try:
        open_index(catalogue, catalogue.settings.get("fingerprint") or "", must_save=True).close()
    except StoreError as error:
        if index_address(catalogue) != FAISS:
            raise StoreError(f"it is removed from the store, but not yet from its index: {error}") from error
        delete_files(catalogue.folder)
