"""Walk of a gallery on an object store or a web server, in the order of its paths' bytes."""

import os
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future
from functools import partial
from itertools import islice
from urllib.parse import unquote

from retrieval.common.errors import PictureError, unavailable_gallery
from retrieval.common.parallel import parallel_map, thread_pool
from retrieval.sources.entries import PictureFile, Unreadable
from retrieval.sources.local import is_gallery_picture, is_left_out
from retrieval.sources.location import folder_name, is_tar, storable_text
from retrieval.sources.object_store import RemoteEntry, abort_if_unreachable, is_web, list_remote, stat_remote
from retrieval.sources.tar import path_sort_key

_PARALLEL_LISTINGS = 8  # folders at once
_LOOKAHEAD = 1000  # entries, for folders to list ahead
_MAX_DEPTH = 64  # folders within folders
_MAX_REPEATS = 2  # parents with the same contents that a folder may have
_REPEATED = "has the same contents as two folders that it lies in, as a link back to them has, and was not entered"
_TOO_DEEP = f"lies more than {_MAX_DEPTH} folders deep, as happens if folders link back to their parents"


def walk_remote(folder: str, passed_over: Counter[str]) -> Iterator[PictureFile | Unreadable]:
    """Yield the pictures and tars below a folder; names that begin with a dot are left out.

    Raises GalleryError if the server does not answer or there is no such folder.
    """
    return parallel_map(partial(_stat_if_needed, folder), _walk_tree(folder, passed_over))


def _stat_if_needed(gallery: str, entry: RemoteEntry | Unreadable) -> PictureFile | Unreadable:
    """Return an entry's file, looked up if the listing, as a web server's, has only names."""
    if isinstance(entry, Unreadable):
        return entry
    path = os.fsencode(entry.address)
    try:
        with abort_if_unreachable():
            complete = stat_remote(entry.address) if entry.size is None else entry
    except PictureError as error:
        return Unreadable.from_error(path, error)
    if not is_web(entry.address):
        return complete.to_picture(path)
    label = folder_name(entry.address) if entry.address.rpartition("/")[0] != gallery else ""  # percent-decoded
    return complete.to_picture(path, storable_text(label))


def _walk_tree(folder: str, passed_over: Counter[str]) -> Iterator[RemoteEntry | Unreadable]:
    """Yield every picture and tar below a folder; folders are listed ahead of the walk."""
    todo: list[RemoteEntry] = [RemoteEntry(folder, True)]
    listings: dict[str, Future[list[RemoteEntry]]] = {}
    trail: list[tuple[str, int]] = []  # the folders that the current one lies in, and the hashes of their listings
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
                    raise unavailable_gallery(folder, error.reason) from error
                yield Unreadable.from_error(os.fsencode(nearest.address), error, is_folder=True)
                continue
            while trail and not nearest.address.startswith(f"{trail[-1][0]}/"):
                trail.pop()
            contents = hash(frozenset((_name(entry.address), entry.is_folder) for entry in entries))
            has_folders = any(entry.is_folder for entry in entries)
            repeats = sum(seen == contents for _, seen in trail)
            if is_web(folder) and has_folders and repeats >= _MAX_REPEATS:  # a page may link to any folder
                yield Unreadable(os.fsencode(nearest.address), _REPEATED, is_folder=True)
                continue
            trail.append((nearest.address, contents))
            listed = (entry for entry in entries if _is_of_gallery(entry, passed_over))
            todo += sorted(listed, key=_entry_sort_key, reverse=True)


def _is_of_gallery(entry: RemoteEntry, passed_over: Counter[str]) -> bool:
    name = os.fsencode(_name(entry.address))
    if is_left_out(name, entry.is_folder, passed_over):
        return False
    return entry.is_folder or is_tar(entry.address) or is_gallery_picture(name, passed_over)


def _name(address: str) -> str:
    """Return the last part of an address, percent-decoded if it is a web server's."""
    last = address.rpartition("/")[2]
    return unquote(last) if is_web(address) else last


def _entry_sort_key(entry: RemoteEntry) -> bytes:
    return path_sort_key(os.fsencode(entry.address), entry.is_folder or is_tar(entry.address))
