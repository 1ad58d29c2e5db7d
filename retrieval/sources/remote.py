"""Walk a gallery on an object store or a web server, in the order of its paths' bytes."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future
from functools import partial
from itertools import islice
from urllib.parse import unquote

from retrieval.common.errors import GalleryError, PictureError
from retrieval.common.parallel import parallel_map, thread_pool
from retrieval.sources.entries import Unreadable, WalkEvent, unreadable_entry
from retrieval.sources.local import is_gallery_picture
from retrieval.sources.location import folder_name, is_tar, storable_text
from retrieval.sources.object_store import RemoteEntry, abort_if_unreachable, is_web, list_remote, stat_remote
from retrieval.sources.tar import SkipTar, SourceFile, expand_tars, path_sort_key, remote_file

_PARALLEL_LISTINGS = 8  # folders at once
_LOOKAHEAD = 1000  # entries, for folders to list ahead
_MAX_DEPTH = 64  # folders in each other
_MAX_REPEATS = 2  # folders that this one may lie in and show the same
_REPEATED = "shows what two folders that it lies in show, as where folders lead back to those, and was not entered"
_TOO_DEEP = f"lies more than {_MAX_DEPTH} folders deep, as where folders lead back to those that they lie in"


def walk_remote(folder: str, passed_over: Counter[str], skip_tar: SkipTar) -> Iterator[WalkEvent]:
    """Pictures below a folder; names with a dot at the front are left out, and tars are entered as folders are.

    `is_read` tells which tars need not be read. Raises GalleryError where the server does not answer, or
    there is no such folder.
    """
    met = parallel_map(partial(_stat_if_needed, folder), _walk_tree(folder, passed_over))
    return expand_tars(met, passed_over, skip_tar)


def count_remote(folder: str) -> int | None:
    """How many pictures lie below a folder; None where there are tars, of which that is not known before."""
    count = 0
    for entry in _walk_tree(folder, Counter()):
        if isinstance(entry, RemoteEntry) and is_tar(entry.address):
            return None
        count += 1
    return count


def _stat_if_needed(gallery: str, entry: RemoteEntry | Unreadable) -> SourceFile | Unreadable:
    """An entry with what its server tells of it: a listing of a web server has names alone."""
    if isinstance(entry, Unreadable):
        return entry
    path = os.fsencode(entry.address)
    try:
        with abort_if_unreachable():
            told = stat_remote(entry.address) if entry.size is None else entry
    except PictureError as error:
        return unreadable_entry(path, error)
    if is_web(entry.address):  # whose folder's name may have percent signs in the place of letters
        label = folder_name(entry.address) if entry.address.rpartition("/")[0] != gallery else ""
        return remote_file(path, told, storable_text(label))
    return remote_file(path, told)


def _walk_tree(folder: str, passed_over: Counter[str]) -> Iterator[RemoteEntry | Unreadable]:
    """Every picture and tar below a folder; some folders are listed before they are come to."""
    todo: list[RemoteEntry] = [RemoteEntry(folder, True, None, 0, None)]
    listings: dict[str, Future[list[RemoteEntry]]] = {}
    trail: list[tuple[str, int]] = []  # the folders that one lies in, and what is in them
    with thread_pool("lister", _PARALLEL_LISTINGS) as pool:
        while todo:
            nearest = todo.pop()
            if not nearest.is_folder:
                yield nearest
                continue
            if nearest.address.count("/") - folder.count("/") > _MAX_DEPTH:
                yield Unreadable(os.fsencode(nearest.address), _TOO_DEEP, is_folder=True)
                continue
            next_ones = (entry.address for entry in islice(reversed(todo), _LOOKAHEAD) if entry.is_folder)
            for address in (nearest.address, *islice(next_ones, _PARALLEL_LISTINGS)):
                if address not in listings:
                    listings[address] = pool.submit(list_remote, address)
            try:
                with abort_if_unreachable():
                    entries = listings.pop(nearest.address).result()
            except PictureError as error:
                if nearest.address == folder:
                    raise GalleryError(f"{folder} {error.reason}, so nothing was marked missing: check it") from error
                yield unreadable_entry(os.fsencode(nearest.address), error, is_folder=True)
                continue
            while trail and not nearest.address.startswith(f"{trail[-1][0]}/"):
                trail.pop()
            if is_web(folder) and _is_link_cycle(entries, [shown for _, shown in trail]):
                yield Unreadable(os.fsencode(nearest.address), _REPEATED, is_folder=True)
                continue
            trail.append((nearest.address, _listing_hash(entries)))
            todo += sorted(
                (each for each in entries if _is_of_gallery(each, passed_over)), key=_entry_sort_key, reverse=True
            )


def _is_link_cycle(entries: list[RemoteEntry], ancestors: list[int]) -> bool:
    """Whether a folder seems to be one that it lies in, of which that is `shown`: a web server has links to any."""
    return any(entry.is_folder for entry in entries) and ancestors.count(_listing_hash(entries)) >= _MAX_REPEATS


def _listing_hash(entries: list[RemoteEntry]) -> int:
    """A number for what is in a folder."""
    return hash(frozenset((_name(entry.address), entry.is_folder) for entry in entries))


def _is_of_gallery(entry: RemoteEntry, passed_over: Counter[str]) -> bool:
    name = os.fsencode(_name(entry.address))
    if name.startswith(b"."):
        return False
    return entry.is_folder or is_tar(entry.address) or is_gallery_picture(name, passed_over)


def _name(address: str) -> str:
    """The last part of an address; a web server's has percent signs in the place of letters."""
    last = address.rpartition("/")[2]
    return unquote(last) if is_web(address) else last


def _entry_sort_key(entry: RemoteEntry) -> bytes:
    return path_sort_key(os.fsencode(entry.address), entry.is_folder or is_tar(entry.address))
