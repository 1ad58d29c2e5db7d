"""The names under which a catalogue has what a person's path leads to: one place decides what is one thing."""

import os
from collections.abc import Iterator
from pathlib import Path

from indexes.catalogue.catalogue import Catalogue
from indexes.catalogue.paths import parents
from indexes.catalogue.records import Selection
from retrieval.sources.location import LIST_PREFIX, TAR_PREFIX, CatalogueLocation, catalogue_path, is_address
from retrieval.sources.spelling import identity, name_key, real_path, typed_path


def possible_paths(path: str) -> Iterator[bytes]:
    """Yield the paths under which a catalogue may have what a path leads to, whether that is there or not.

    A gallery is stored by its real path, and its pictures by the names below that, links among them. So links are
    followed up to each of the path's parts.
    """
    path = typed_path(path)
    if is_address(path):
        from retrieval.sources.gallery import gallery_from_address  # a query needs none of it

        yield gallery_from_address(path)
        yield os.fsencode(path)
        return
    absolute = _without_parents(Path(os.path.join(os.getcwd(), path)))
    for up in (*reversed(absolute.parents), absolute):
        real = catalogue_path(Path(real_path(up)) / absolute.relative_to(up))
        yield from (real, *(os.fsencode(kind) + real for kind in (TAR_PREFIX, LIST_PREFIX)))


def _without_parents(path: Path) -> Path:
    """Return a path without `..`, each of which is the folder above where the path leads to before it."""
    parts = path.parts
    if ".." not in parts:
        return path
    last = len(parts) - parts[::-1].index("..")
    return Path(os.path.realpath(Path(*parts[:last])), *parts[last:])


def list_prefixes(catalogue: Catalogue) -> list[bytes]:
    """Return, for each list, how the paths of its entries begin."""
    return [root + b"/" for root in catalogue.scans.roots() if root.startswith(os.fsencode(LIST_PREFIX))]


def stored_folders(catalogue: Catalogue, folder: str) -> tuple[bytes, ...]:
    """Return the paths by which the catalogue has pictures below a folder; none if it has no such folder."""
    possible = list(dict.fromkeys(possible_paths(folder)))
    direct = next((path for path in possible if _has_pictures(catalogue, path)), None)
    listed = (prefix + path for prefix in list_prefixes(catalogue) for path in possible)
    found = tuple(path for path in (direct, *listed) if path is not None and _has_pictures(catalogue, path))
    return found or tuple(_equal_folders(catalogue, possible, catalogue.pictures.folders()))


def other_names(catalogue: Catalogue, path: str) -> Iterator[bytes]:
    """Yield the paths of folders and files in the catalogue that are what a path leads to, but spelled otherwise."""
    possible = list(dict.fromkeys(possible_paths(path)))
    failed = [failed for failed, _ in catalogue.scans.failures()]
    folders = [*catalogue.pictures.folders(), *catalogue.scans.roots(), *(each.rpartition(b"/")[0] for each in failed)]
    yield from _equal_folders(catalogue, possible, folders)
    last, own = name_key(possible[0].rpartition(b"/")[2]), identity(path)
    for above in _equal_folders(catalogue, [each.rpartition(b"/")[0] for each in possible], folders):
        for each in (*(known.path for known in catalogue.scans.known_files(above)), *failed):
            folder, _, name = each.rpartition(b"/")
            is_alike = folder == above and name_key(name).casefold() == last.casefold()
            if is_alike and (name_key(name) == last or (own is not None and own == _local_identity(each))):
                yield each


def _has_pictures(catalogue: Catalogue, folder: bytes) -> bool:
    return bool(catalogue.pictures.page(Selection(folder=folder), b"", 1))


def _equal_folders(catalogue: Catalogue, possible: list[bytes], folders: list[bytes]) -> Iterator[bytes]:
    """Yield those of the folders, and of what they lie in, that are one of the paths: by their letters, or on disk."""
    keys = {name_key(path) for path in possible}
    identities = {found for path in possible if (found := _local_identity(path))}
    taken: set[bytes] = set()
    for path in sorted({above for folder in folders for above in (*parents(folder), folder)}):
        if taken.isdisjoint(parents(path)) and (name_key(path) in keys or _local_identity(path) in identities):
            taken.add(path)
            yield path


def _local_identity(path: bytes) -> tuple[int, int] | None:
    """Return what a path of the catalogue leads to on this disk; None for addresses and members of tars."""
    source = CatalogueLocation.parse(path).source
    return None if is_address(source) else identity(source)
