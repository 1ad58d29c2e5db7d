"""Removal of pictures and galleries from a store."""

import os
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path

from indexes.catalogue.catalogue import Catalogue
from indexes.catalogue.records import RemovedCounts
from indexes.errors import StoreError
from indexes.vectors.faiss_file import delete_files
from indexes.vectors.index_address import FAISS
from indexes.vectors.storage import index_address
from retrieval.sources.location import (
    LIST_PREFIX,
    TAR_PREFIX,
    catalogue_path,
    display_location,
    enclosing_tars,
    is_address,
    parse_location,
)
from retrieval.store.maintenance.index_sync import open_index


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

    A gallery is stored by its real path, and its pictures by the names below that, links among them. So links are
    followed until the path is one that is stored, and no further.
    """
    possible = list(_possible_paths(path))
    in_lists = (prefix + entry for prefix in _list_prefixes(catalogue) for entry in possible)
    paths = chain(possible, in_lists, tar_members_named(catalogue, path))
    return next(filter(None, map(catalogue.remove, paths)), RemovedCounts())


def _possible_paths(path: str) -> Iterator[bytes]:
    """Yield the paths under which the catalogue may have what a path leads to."""
    if is_address(path):
        from retrieval.sources.gallery import gallery_from_address  # a query needs none of it

        yield gallery_from_address(path)
        yield os.fsencode(path)
        return
    absolute = Path(os.path.abspath(path))
    for up in (*reversed(absolute.parents), absolute):
        real = catalogue_path(Path(os.path.realpath(up)) / absolute.relative_to(up))
        yield from (real, *(os.fsencode(kind) + real for kind in (TAR_PREFIX, LIST_PREFIX)))


def _list_prefixes(catalogue: Catalogue) -> list[bytes]:
    """Return, for each list, how the paths of its entries begin."""
    return [root + b"/" for root in catalogue.scans.roots() if root.startswith(os.fsencode(LIST_PREFIX))]


def tar_members_named(catalogue: Catalogue, name: str) -> Iterator[bytes]:
    """Yield the members of tars that are displayed under this name; their own paths also have offset and size."""
    name = name.removeprefix(TAR_PREFIX)
    kind = "" if is_address(name) else TAR_PREFIX
    name = Path(os.path.abspath(name)).as_posix() if kind else name
    for tar in enclosing_tars(name):
        for prefix in (b"", *_list_prefixes(catalogue)):
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
