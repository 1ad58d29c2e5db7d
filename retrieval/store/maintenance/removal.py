"""Pictures and galleries removed from a store."""

from __future__ import annotations

import os
from collections.abc import Iterator
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


def remove_path(catalogue: Catalogue, path: str | os.PathLike[str]) -> RemovedCounts:
    """Take a picture, or a folder and all below it, out of the store, by any path that leads to it.

    A gallery is known by its real path, and its pictures by the names below that, links among them. So links are
    followed as far as it takes to come to something known, and no further. Raises StoreError.
    """
    for known in chain(
        _possible_paths(path), _paths_in_lists(catalogue, path), tar_members_named(catalogue, os.fspath(path))
    ):
        removed = catalogue.remove(known)
        if removed:
            _update_index(catalogue)
            return removed
    return RemovedCounts()


def _possible_paths(path: str | os.PathLike[str]) -> Iterator[bytes]:
    """The paths by which the catalogue may know what this leads to."""
    text = os.fspath(path)
    if is_address(text):
        yield gallery_from_address(text)
        yield os.fsencode(text)
        return
    absolute = Path(os.path.abspath(text))
    for up in (*reversed(absolute.parents), absolute):
        real = os.fsencode(Path(os.path.realpath(up)) / absolute.relative_to(up))
        yield from (real, *(os.fsencode(kind) + real for kind in (TAR_PREFIX, LIST_PREFIX)))


def _paths_in_lists(catalogue: Catalogue, path: str | os.PathLike[str]) -> Iterator[bytes]:
    """The paths by which lists may have brought this into the catalogue."""
    known = list(_possible_paths(path))
    yield from (inside + each for inside in _list_prefixes(catalogue) for each in known)


def _list_prefixes(catalogue: Catalogue) -> list[bytes]:
    """What the paths of all that a list names begin with, for each list."""
    return [root + b"/" for root in catalogue.roots() if root.startswith(os.fsencode(LIST_PREFIX))]


def tar_members_named(catalogue: Catalogue, name: str) -> Iterator[bytes]:
    """The members of tars that are shown as this, whose paths in the catalogue say where their bytes are as well."""
    name = name.removeprefix(TAR_PREFIX)
    kind = "" if is_address(name) else TAR_PREFIX
    name = os.path.abspath(name) if kind else name
    for tar in enclosing_tars(name):
        for inside in (b"", *_list_prefixes(catalogue)):
            for known in list(catalogue.known_files(inside + os.fsencode(kind + tar))):
                if str(display_location(parse_location(known.path))) == name:
                    yield known.path


def _update_index(catalogue: Catalogue) -> None:
    """Bring the index's file up to date with what was removed; nothing is left of that."""
    try:
        open_index(catalogue, catalogue.setting("fingerprint") or "", must_save=True).close()
    except StoreError as error:
        if index_address(catalogue) != FAISS:
            raise StoreError(f"it is out of the store, but not yet out of its index: {error}") from error
        delete_files(catalogue.folder)
