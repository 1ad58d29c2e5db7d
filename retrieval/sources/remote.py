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
from retrieval.common.parallel import ahead, threads_for
from retrieval.sources.entries import Met, Unreadable, unreadable
from retrieval.sources.local import is_wanted
from retrieval.sources.location import folder_name, is_tar, told_text
from retrieval.sources.object_store import Entry, answering, examined, is_web, listed
from retrieval.sources.tar import IsRead, Seen, opened_tars, order, seen_at

_LISTED = 8  # folders at once
_LOOKED_THROUGH = 1000  # entries, for folders to list ahead
_DEEPEST = 64  # folders in each other
_ALIKE = 2  # folders that this one may lie in and show the same
_BACK = "shows what two folders that it lies in show, as where folders lead back to those, and was not entered"
_LOOP = f"lies more than {_DEEPEST} folders deep, as where folders lead back to those that they lie in"


def walk_remote(folder: str, passed_over: Counter[str], is_read: IsRead) -> Iterator[Met]:
    """Pictures below a folder; names with a dot at the front are left out, and tars are entered as folders are.

    `is_read` tells which tars need not be read. Raises GalleryError where the server does not answer, or
    there is no such folder.
    """
    met = ahead(partial(_examined, folder), _below(folder, passed_over))
    return opened_tars(met, passed_over, is_read)


def count_remote(folder: str) -> int | None:
    """How many pictures lie below a folder; None where there are tars, of which that is not known before."""
    count = 0
    for entry in _below(folder, Counter()):
        if isinstance(entry, Entry) and is_tar(entry.address):
            return None
        count += 1
    return count


def _examined(gallery: str, entry: Entry | Unreadable) -> Seen | Unreadable:
    """An entry with what its server tells of it: a listing of a web server has names alone."""
    if isinstance(entry, Unreadable):
        return entry
    path = os.fsencode(entry.address)
    try:
        with answering():
            told = examined(entry.address) if entry.size is None else entry
    except PictureError as error:
        return unreadable(path, error)
    if is_web(entry.address):  # whose folder's name may have percent signs in the place of letters
        label = folder_name(entry.address) if entry.address.rpartition("/")[0] != gallery else ""
        return seen_at(path, told, told_text(label))
    return seen_at(path, told)


def _below(folder: str, passed_over: Counter[str]) -> Iterator[Entry | Unreadable]:
    """Every picture and tar below a folder; some folders are listed before they are come to."""
    todo: list[Entry] = [Entry(folder, True, None, 0, None)]
    listings: dict[str, Future[list[Entry]]] = {}
    trail: list[tuple[str, int]] = []  # the folders that one lies in, and what is in them
    with threads_for("lister", _LISTED) as pool:
        while todo:
            nearest = todo.pop()
            if not nearest.is_folder:
                yield nearest
                continue
            if nearest.address.count("/") - folder.count("/") > _DEEPEST:
                yield Unreadable(os.fsencode(nearest.address), _LOOP, is_folder=True)
                continue
            next_ones = (entry.address for entry in islice(reversed(todo), _LOOKED_THROUGH) if entry.is_folder)
            for address in (nearest.address, *islice(next_ones, _LISTED)):
                if address not in listings:
                    listings[address] = pool.submit(listed, address)
            try:
                with answering():
                    entries = listings.pop(nearest.address).result()
            except PictureError as error:
                if nearest.address == folder:
                    raise GalleryError(f"{folder} {error.reason}, so nothing was marked missing: check it") from error
                yield unreadable(os.fsencode(nearest.address), error, is_folder=True)
                continue
            while trail and not nearest.address.startswith(f"{trail[-1][0]}/"):
                trail.pop()
            if is_web(folder) and _leads_back(entries, [shown for _, shown in trail]):
                yield Unreadable(os.fsencode(nearest.address), _BACK, is_folder=True)
                continue
            trail.append((nearest.address, _shown(entries)))
            todo += sorted((each for each in entries if _is_of_gallery(each, passed_over)), key=_key, reverse=True)


def _leads_back(entries: list[Entry], shown: list[int]) -> bool:
    """Whether a folder seems to be one that it lies in, of which that is `shown`: a web server has links to any."""
    return any(entry.is_folder for entry in entries) and shown.count(_shown(entries)) >= _ALIKE


def _shown(entries: list[Entry]) -> int:
    """A number for what is in a folder."""
    return hash(frozenset((_name(entry.address), entry.is_folder) for entry in entries))


def _is_of_gallery(entry: Entry, passed_over: Counter[str]) -> bool:
    name = os.fsencode(_name(entry.address))
    if name.startswith(b"."):
        return False
    return entry.is_folder or is_tar(entry.address) or is_wanted(name, passed_over)


def _name(address: str) -> str:
    """The last part of an address; a web server's has percent signs in the place of letters."""
    last = address.rpartition("/")[2]
    return unquote(last) if is_web(address) else last


def _key(entry: Entry) -> bytes:
    return order(os.fsencode(entry.address), entry.is_folder or is_tar(entry.address))
