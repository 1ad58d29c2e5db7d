"""Selections of pictures by label, folder and time, from the values that a user gives."""

import os
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from indexes.catalogue.catalogue import Catalogue
from indexes.catalogue.records import Selection as Selection
from retrieval.common.errors import GalleryError
from retrieval.sources.location import canonical, catalogue_path, is_address
from retrieval.store.names import stored_folders

_TIME = re.compile(r"\d{4}(-(0[1-9]|1[0-2])(-(0[1-9]|[12]\d|3[01])(T\d\d(:\d\d(:\d\d)?)?)?)?)?")
_AFTER_ALL = "~"  # sorts after all that may follow a shortened time


def make_selection(
    label: str | None = None,
    folder: str | os.PathLike[str] | None = None,
    since: str | None = None,
    until: str | None = None,
    catalogue: Catalogue | None = None,
) -> Selection:
    """Return the selection of a label, below a folder, taken from `since` to `until`, both included.

    With a catalogue, the folder may have any name that leads to one with pictures there.
    A time is ISO 8601 and may be shortened: `until="2024-05"` includes the whole of May. Raises GalleryError.
    """
    return Selection(
        label=label,
        folder=None if folder is None else _folder_path(folder, catalogue),
        since=None if since is None else _check_time(since),
        until=None if until is None else _check_time(until) + _AFTER_ALL,
    )


def either_folder(selections: Sequence[Selection]) -> Selection:
    """Return the selection of the pictures below any folder of selections that are otherwise equal."""
    folders = [(each.folder,) if isinstance(each.folder, bytes) else each.folder for each in selections]
    if any(folder is None for folder in folders):
        return replace(selections[0], folder=None)
    return replace(selections[0], folder=tuple(path for folder in folders for path in folder or ()))


def _folder_path(folder: str | os.PathLike[str], catalogue: Catalogue | None) -> bytes | tuple[bytes, ...]:
    text = os.fspath(folder)
    if catalogue is not None:
        return stored_folders(catalogue, text)
    return os.fsencode(canonical(text)) if is_address(text) else catalogue_path(Path(text).absolute())


def _check_time(text: str) -> str:
    if not _TIME.fullmatch(text):
        raise GalleryError(f"{text!r} is not a date: give one such as 2024, 2024-05 or 2024-05-17")
    return text
