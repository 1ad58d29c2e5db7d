"""A list of pictures as a gallery: a text file with an address or a path in each line."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import urljoin

from retrieval.addresses import LIST, TAR, canonical, folder_name, is_address, is_tar
from retrieval.ahead import ahead
from retrieval.errors import GalleryError, PictureError
from retrieval.pictures import open_file
from retrieval.remote import answering, examined
from retrieval.tars import IsRead, Seen, opened_tars, seen_at
from retrieval.walk import Met, Unreadable, unreadable

_NAMED = ("http://", "https://", "s3://", "gs://")  # by lists that are not of this machine
_STRANGER = "is a path of this machine, which a list from elsewhere may not name"


@dataclass(frozen=True)
class _Line:
    """What a line names, its path in the catalogue, and its label."""

    path: bytes
    place: str
    label: str


def walk_list(root: bytes, passed_over: Counter[str], is_read: IsRead) -> Iterator[Met]:
    """The pictures and tars that a list names, in the order of their paths, which lie below the list's own.

    A line is an address, or a path as seen from the list, and after a tab perhaps a label. A list from elsewhere names
    no file of this machine. Raises GalleryError where the list cannot be read.
    """
    return opened_tars(ahead(_examined, _lines(root)), passed_over, is_read)


def count_list(root: bytes) -> int | None:
    """How many pictures a list names; None where it names tars, of which that is not known before."""
    lines = _lines(root)
    return None if any(isinstance(line, _Line) and is_tar(line.place) for line in lines) else len(lines)


def _lines(root: bytes) -> list[_Line | Unreadable]:
    """What a list names, each once, by the catalogue's paths."""
    name = os.fsdecode(root).removeprefix(LIST)
    try:
        with answering(), open_file(name) as file:
            written = file.read().splitlines()
    except PictureError as error:
        raise GalleryError(f"{name} {error.reason}, so nothing was marked missing: check it") from error
    lines: dict[bytes, _Line | Unreadable] = {}
    for each in written:
        if each.strip() and not each.startswith(b"#"):
            place, _, label = os.fsdecode(each).partition("\t")
            line = _line(root, name, place.strip(), label.strip())
            lines[line.path] = line
    return [line for _, line in sorted(lines.items())]


def _line(root: bytes, name: str, written: str, label: str) -> _Line | Unreadable:
    try:
        place = _place(name, written)
    except GalleryError as error:
        return Unreadable(root + b"/" + os.fsencode(written), str(error))
    return _Line(root + b"/" + os.fsencode(place), place, label or folder_name(place))


def _place(name: str, written: str) -> str:
    """Where a line of a list leads. Raises GalleryError."""
    if not is_address(name):
        if is_address(written):
            return canonical(written)
        path = os.path.normpath(os.path.join(os.path.dirname(name), written))
        return TAR + path if is_tar(path) else path
    if not is_address(written):
        written = urljoin(name, written) if name.startswith("http") else f"{name.rpartition('/')[0]}/{written}"
    place = canonical(written)
    if not place.startswith((*_NAMED, name.partition("//")[0] + "//")):
        raise GalleryError(_STRANGER)
    return place


def _examined(line: _Line | Unreadable) -> Seen | Unreadable:
    if isinstance(line, Unreadable):
        return line
    try:
        if not is_address(line.place) or line.place.startswith(TAR):
            return _of_file(line)
        with answering():
            return seen_at(line.path, examined(line.place), line.label)
    except PictureError as error:
        return unreadable(line.path, error)


def _of_file(line: _Line) -> Seen | Unreadable:
    file = line.place.removeprefix(TAR)
    with open_file(file) as opened:
        told = os.fstat(opened.fileno())
    return Seen(line.path, file, told.st_size, told.st_mtime_ns, None, line.label)
