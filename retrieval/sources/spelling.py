"""Spellings of names: which of several paths lead to one thing, and how the disk spells what a person types."""

import os
import unicodedata
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import urlsplit

from retrieval.sources.location import is_address

Identity = tuple[int, int]
"""A file's or folder's device and inode."""


def name_key(name: str | bytes) -> str:
    """Return what all spellings of a name share: systems compose letters with their accents, or take them apart."""
    return unicodedata.normalize("NFC", os.fsdecode(name))


def real_path(path: str | os.PathLike[str]) -> str:
    """Return the absolute path that leads to a file or folder without links and `..`, spelled as its disk lists it.

    Where the disk takes a name by letters of another case, or with accents composed otherwise, it is the listed name.
    Names that are not there stay as they are.
    """
    start, *names = Path(os.path.realpath(path)).parts
    for name in names:
        start = os.path.join(start, _listed_name(start, name))
    return start


def typed_path(path: str) -> str:
    """Return the path that a person means: `~` is the home folder, and accents may be composed otherwise on the disk.

    A name that exists as it is typed stays; `file://` leads to a path. Raises ValueError if there is no home folder.
    """
    if path.startswith("file://"):
        from urllib.request import url2pathname  # few need it, and it takes 20 ms to import

        path = url2pathname(urlsplit(path).path)
    if path.startswith("~") and not os.path.lexists(path):
        path = os.path.expanduser(path)
        if path.startswith(("~/", "~\\")) or path == "~":
            raise ValueError(
                f"{path} cannot be found, as the home folder is not known: set HOME or give the whole path"
            )
    if path.isascii() or is_address(path) or os.path.lexists(path):
        return path
    start, *names = Path(os.path.abspath(path)).parts
    for name in names:
        start = os.path.join(start, _listed_name(start, name))
    return start if os.path.lexists(start) else path


def identity(path: str | bytes) -> Identity | None:
    """Return what is the same for all names of a file or folder; None if there is none."""
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return None
    return (status.st_dev, status.st_ino) if status.st_ino else None


def spelled_like(path: bytes, folders: Iterable[bytes]) -> bytes:
    """Return a path as it begins with one of these folders, if that is the same folder on the disk by another name."""
    known = {identity(each): each for each in folders if not is_address(os.fsdecode(each))}
    known.pop(None, None)
    upper, rest = path, b""
    while known and upper:
        if named := known.get(identity(upper)):
            return named + rest
        upper, slash, last = upper.rpartition(b"/")
        rest = slash + last + rest
    return path


def _listed_name(folder: str, name: str) -> str:
    """Return a name as its folder lists it; the listing is read only if the disk takes another spelling too."""
    whole = os.path.join(folder, name)
    others = {unicodedata.normalize(form, name) for form in ("NFC", "NFD")} | {name.swapcase()}
    own = _status(whole)
    is_certain = own is not None and not any(
        (other := _status(os.path.join(folder, each))) is not None and os.path.samestat(own, other)
        for each in others - {name}
    )
    if is_certain or (own is None and name.isascii()):
        return name
    try:
        listed = os.listdir(folder)
    except OSError:
        return name
    if name in listed:
        return name
    same = (each for each in listed if name_key(each).casefold() == name_key(name).casefold())
    if own is None:
        return next((each for each in same if name_key(each) == name_key(name)), name)
    return next(
        (each for each in same if (it := _status(os.path.join(folder, each))) and os.path.samestat(own, it)), name
    )


def _status(path: str) -> os.stat_result | None:
    try:
        return os.lstat(path)
    except (OSError, ValueError):
        return None
