"""Pictures and galleries removed from a store."""

from __future__ import annotations

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
from retrieval.sources.gallery import gallery_from_address
from retrieval.sources.location import (
    LIST_PREFIX,
    TAR_PREFIX,
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
    possible = chain(_possible_paths(path), _paths_in_lists(catalogue, path), tar_members_named(catalogue, path))
    return next(filter(None, map(catalogue.remove, possible)), RemovedCounts())


def _possible_paths(path: str) -> Iterator[bytes]:
    """The paths by which the catalogue may know what this leads to."""
    if is_address(path):
        yield gallery_from_address(path)
        yield os.fsencode(path)
        return
    absolute = Path(os.path.abspath(path))
    for up in (*reversed(absolute.parents), absolute):
        real = os.fsencode(Path(os.path.realpath(up)) / absolute.relative_to(up))
        yield from (real, *(os.fsencode(kind) + real for kind in (TAR_PREFIX, LIST_PREFIX)))


def _paths_in_lists(catalogue: Catalogue, path: str) -> Iterator[bytes]:
    """The paths by which lists may have brought this into the catalogue."""
    known = list(_possible_paths(path))
    yield from (inside + each for inside in _list_prefixes(catalogue) for each in known)


def _list_prefixes(catalogue: Catalogue) -> list[bytes]:
    """What the paths of all that a list names begin with, for each list."""
    return [root + b"/" for root in catalogue.scans.roots() if root.startswith(os.fsencode(LIST_PREFIX))]


def tar_members_named(catalogue: Catalogue, name: str) -> Iterator[bytes]:
    """The members of tars that are shown as this, whose paths in the catalogue say where their bytes are as well."""
    name = name.removeprefix(TAR_PREFIX)
    kind = "" if is_address(name) else TAR_PREFIX
    name = os.path.abspath(name) if kind else name
    for tar in enclosing_tars(name):
        for inside in (b"", *_list_prefixes(catalogue)):
            for known in list(catalogue.scans.known_files(inside + os.fsencode(kind + tar))):
                if str(display_location(parse_location(known.path))) == name:
                    yield known.path


def _update_index(catalogue: Catalogue) -> None:
    """Bring the index's file up to date with what was removed; nothing is left of that."""
    try:
        open_index(catalogue, catalogue.settings.get("fingerprint") or "", must_save=True).close()
    except StoreError as error:
        if index_address(catalogue) != FAISS:
            raise StoreError(f"it is out of the store, but not yet out of its index: {error}") from error
        delete_files(catalogue.folder)
