"""A list of pictures as a gallery: a text file with an address or a path in each line."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from posixpath import normpath
from urllib.parse import urljoin, urlsplit

from retrieval.common.errors import GalleryError, PictureError
from retrieval.common.parallel import ahead
from retrieval.sources.entries import Met, Unreadable, unreadable
from retrieval.sources.files import open_file
from retrieval.sources.location import LIST, TAR, canonical, folder_name, is_address, is_tar, told_text
from retrieval.sources.object_store import Unreachable, answering, examined
from retrieval.sources.tar import IsRead, Seen, opened_tars, order, seen_at
from retrieval.sources.url_safety import is_private, without_secrets

_LONGEST_LABEL = 200  # characters
_BOM = b"\xef\xbb\xbf"
_NO_FILE = "is a path of this machine, which a list from elsewhere may not name"
_NO_STORE = "is of an object store, which only a list of that store may name"
_NO_NEIGHBOUR = "is an address of this machine or its network, which a list from elsewhere may not name"


@dataclass(frozen=True)
class _Line:
    """What a line names, its path in the catalogue, and its label."""

    path: bytes
    place: str
    label: str


def walk_list(root: bytes, passed_over: Counter[str], is_read: IsRead) -> Iterator[Met]:
    """The pictures and tars that a list names, in the order of their paths, which lie below the list's own.

    A line is an address, or a path as seen from the list, and after a tab perhaps a label. A list from elsewhere names
    no file of this machine. A server that does not answer has the lines fail that lead to it, and what is known of
    them stands. Raises GalleryError where the list cannot be read, or no server that it names answers.
    """
    return opened_tars(_answered(ahead(_examined, _lines(root))), passed_over, is_read)


def count_list(root: bytes) -> int | None:
    """How many pictures a list names; None where it names tars, of which that is not known before."""
    lines = _lines(root)
    return None if any(isinstance(line, _Line) and is_tar(line.place) for line in lines) else len(lines)


def _lines(root: bytes) -> list[_Line | Unreadable]:
    """What a list names, each once, by the catalogue's paths."""
    name = os.fsdecode(root).removeprefix(LIST)
    try:
        with answering(), open_file(name) as file:
            written = file.read().removeprefix(_BOM).splitlines()
    except PictureError as error:
        raise GalleryError(f"{name} {error.reason}, so nothing was marked missing: check it") from error
    lines: dict[bytes, _Line | Unreadable] = {}
    for each in written:
        if each.strip() and not each.startswith(b"#"):
            place, _, label = os.fsdecode(each).partition("\t")
            line = _line(root, name, place.strip(), label.strip())
            lines[order(line.path, isinstance(line, _Line) and is_tar(line.place))] = line
    return [line for _, line in sorted(lines.items())]


def _line(root: bytes, name: str, written: str, label: str) -> _Line | Unreadable:
    try:
        place = _place(name, written)
    except GalleryError as error:
        shown = without_secrets(written)
        return Unreadable(root + b"/" + os.fsencode(shown), told_text(str(error)).removeprefix(f"{shown} "))
    return _Line(root + b"/" + os.fsencode(place), place, told_text(label or folder_name(place))[:_LONGEST_LABEL])


def _place(name: str, written: str) -> str:
    """Where a line of a list leads. Raises GalleryError."""
    if not is_address(name):
        if is_address(written):
            return canonical(written)
        path = os.path.normpath(os.path.join(os.path.dirname(name), written))
        return TAR + path if is_tar(path) else path
    place = canonical(written if is_address(written) else _beside(name, written))
    _check(name, place)
    return place


def _beside(name: str, written: str) -> str:
    """A path as seen from a list that lies elsewhere."""
    if name.startswith("http"):
        try:
            return urljoin(name, written)
        except ValueError as error:
            raise GalleryError(f"is no address: {error}") from error
    if written.startswith("/"):
        raise GalleryError(_NO_FILE)
    scheme, _, key = name.partition("://")
    server, _, rest = key.partition("/")
    inside = normpath(f"/{os.path.dirname(rest)}/{written}").lstrip("/")
    return f"{scheme}://{server}/{inside}"


def _check(name: str, place: str) -> None:
    """Whether a list that lies elsewhere may name this: a stranger's list must not lead into one's own network."""
    own, scheme = name.partition("://")[0], place.partition("://")[0]
    if scheme not in ("http", "https", own):
        raise GalleryError(_NO_FILE if scheme in ("file", "local") or place.startswith(TAR) else _NO_STORE)
    if scheme.startswith("http"):
        is_own = own.startswith("http") and urlsplit(place).hostname == urlsplit(name).hostname
        if is_private(place) and not is_own:
            raise GalleryError(_NO_NEIGHBOUR)


@dataclass(frozen=True)
class _Answer:
    """What came of a line, and of whom it was asked: nobody, where the line is at fault; one who is `silent`."""

    met: Seen | Unreadable
    was_asked: bool = True
    silent: Unreachable | None = None


def _examined(line: _Line | Unreadable) -> _Answer:
    if isinstance(line, Unreadable):
        return _Answer(line, was_asked=False)
    try:
        if not is_address(line.place) or line.place.startswith(TAR):
            return _Answer(_of_file(line))
        return _Answer(seen_at(line.path, examined(line.place), line.label))
    except Unreachable as error:
        return _Answer(unreadable(line.path, error), silent=error)
    except PictureError as error:
        return _Answer(unreadable(line.path, error))
    except GalleryError as error:
        return _Answer(Unreadable(line.path, str(error)), was_asked=False)


def _answered(answers: Iterator[_Answer]) -> Iterator[Seen | Unreadable]:
    """One silent server does not hold up the others; raises GalleryError at the end where all are silent."""
    silent: Unreachable | None = None
    is_answered = False
    for answer in answers:
        silent = answer.silent or silent
        is_answered |= answer.was_asked and answer.silent is None
        yield answer.met
    if silent is not None and not is_answered:
        with answering():
            raise silent


def _of_file(line: _Line) -> Seen | Unreadable:
    file = line.place.removeprefix(TAR)
    with open_file(file) as opened:
        told = os.fstat(opened.fileno())
    return Seen(line.path, file, told.st_size, told.st_mtime_ns, None, line.label)
