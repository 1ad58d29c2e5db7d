"""A list of pictures as a gallery: a text file with an address or a path in each line."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from posixpath import normpath
from urllib.parse import urljoin, urlsplit

from retrieval.common.errors import GalleryError, PictureError
from retrieval.common.parallel import parallel_map
from retrieval.sources.entries import Unreadable, WalkEvent, unreadable_entry
from retrieval.sources.files import open_file
from retrieval.sources.location import (
    LIST_PREFIX,
    TAR_PREFIX,
    canonical,
    folder_name,
    is_address,
    is_tar,
    storable_text,
)
from retrieval.sources.object_store import UnreachableError, abort_if_unreachable, stat_remote
from retrieval.sources.tar import SkipTar, SourceFile, expand_tars, path_sort_key, remote_file
from retrieval.sources.url_safety import is_private, redact

_LONGEST_LABEL = 200  # characters
_BOM = b"\xef\xbb\xbf"
_LOCAL_FORBIDDEN = "is a path of this machine, which a list from elsewhere may not name"
_STORE_FORBIDDEN = "is of an object store, which only a list of that store may name"
_PRIVATE_FORBIDDEN = "is an address of this machine or its network, which a list from elsewhere may not name"


@dataclass(frozen=True)
class _Line:
    """What a line names, its path in the catalogue, and its label."""

    path: bytes
    location: str
    label: str


def walk_list(root: bytes, passed_over: Counter[str], skip_tar: SkipTar) -> Iterator[WalkEvent]:
    """The pictures and tars that a list names, in the order of their paths, which lie below the list's own.

    A line is an address, or a path as seen from the list, and after a tab perhaps a label. A list from elsewhere names
    no file of this machine. A server that does not answer has the lines fail that lead to it, and what is known of
    them stands. Raises GalleryError where the list cannot be read, or no server that it names answers.
    """
    return expand_tars(_require_any_server(parallel_map(_examine_line, _parse_list(root))), passed_over, skip_tar)


def count_list(root: bytes) -> int | None:
    """How many pictures a list names; None where it names tars, of which that is not known before."""
    lines = _parse_list(root)
    return None if any(isinstance(line, _Line) and is_tar(line.location) for line in lines) else len(lines)


def _parse_list(root: bytes) -> list[_Line | Unreadable]:
    """What a list names, each once, by the catalogue's paths."""
    name = os.fsdecode(root).removeprefix(LIST_PREFIX)
    try:
        with abort_if_unreachable(), open_file(name) as file:
            written = file.read().removeprefix(_BOM).splitlines()
    except PictureError as error:
        raise GalleryError(f"{name} {error.reason}, so nothing was marked missing: check it") from error
    lines: dict[bytes, _Line | Unreadable] = {}
    for each in written:
        if each.strip() and not each.startswith(b"#"):
            place, _, label = os.fsdecode(each).partition("\t")
            line = _parse_line(root, name, place.strip(), label.strip())
            lines[path_sort_key(line.path, isinstance(line, _Line) and is_tar(line.location))] = line
    return [line for _, line in sorted(lines.items())]


def _parse_line(root: bytes, name: str, text: str, label: str) -> _Line | Unreadable:
    try:
        place = _resolve_line(name, text)
    except GalleryError as error:
        shown = redact(text)
        return Unreadable(root + b"/" + os.fsencode(shown), storable_text(str(error)).removeprefix(f"{shown} "))
    return _Line(root + b"/" + os.fsencode(place), place, storable_text(label or folder_name(place))[:_LONGEST_LABEL])


def _resolve_line(name: str, text: str) -> str:
    """Where a line of a list leads. Raises GalleryError."""
    if not is_address(name):
        if is_address(text):
            return canonical(text)
        path = os.path.normpath(os.path.join(os.path.dirname(name), text))
        return TAR_PREFIX + path if is_tar(path) else path
    place = canonical(text if is_address(text) else _resolve_relative(name, text))
    _check(name, place)
    return place


def _resolve_relative(name: str, text: str) -> str:
    """A path as seen from a list that lies elsewhere."""
    if name.startswith("http"):
        try:
            return urljoin(name, text)
        except ValueError as error:
            raise GalleryError(f"is no address: {error}") from error
    if text.startswith("/"):
        raise GalleryError(_LOCAL_FORBIDDEN)
    scheme, _, key = name.partition("://")
    server, _, rest = key.partition("/")
    inside = normpath(f"/{os.path.dirname(rest)}/{text}").lstrip("/")
    return f"{scheme}://{server}/{inside}"


def _check(name: str, location: str) -> None:
    """Whether a list that lies elsewhere may name this: a stranger's list must not lead into one's own network."""
    own, scheme = name.partition("://")[0], location.partition("://")[0]
    if scheme not in ("http", "https", own):
        raise GalleryError(
            _LOCAL_FORBIDDEN if scheme in ("file", "local") or location.startswith(TAR_PREFIX) else _STORE_FORBIDDEN
        )
    if scheme.startswith("http"):
        is_own = own.startswith("http") and urlsplit(location).hostname == urlsplit(name).hostname
        if is_private(location) and not is_own:
            raise GalleryError(_PRIVATE_FORBIDDEN)


@dataclass(frozen=True)
class _LineResult:
    """What came of a line, and of whom it was asked: nobody, where the line is at fault; one who is `silent`."""

    entry: SourceFile | Unreadable
    was_contacted: bool = True
    unreachable: UnreachableError | None = None


def _examine_line(line: _Line | Unreadable) -> _LineResult:
    if isinstance(line, Unreadable):
        return _LineResult(line, was_contacted=False)
    try:
        if not is_address(line.location) or line.location.startswith(TAR_PREFIX):
            return _LineResult(_stat_local(line))
        return _LineResult(remote_file(line.path, stat_remote(line.location), line.label))
    except UnreachableError as error:
        return _LineResult(unreadable_entry(line.path, error), unreachable=error)
    except PictureError as error:
        return _LineResult(unreadable_entry(line.path, error))
    except GalleryError as error:
        return _LineResult(Unreadable(line.path, str(error)), was_contacted=False)


def _require_any_server(results: Iterator[_LineResult]) -> Iterator[SourceFile | Unreadable]:
    """One silent server does not hold up the others; raises GalleryError at the end where all are silent."""
    silent: UnreachableError | None = None
    is_answered = False
    for answer in results:
        silent = answer.unreachable or silent
        is_answered |= answer.was_contacted and answer.unreachable is None
        yield answer.entry
    if silent is not None and not is_answered:
        with abort_if_unreachable():
            raise silent


def _stat_local(line: _Line) -> SourceFile | Unreadable:
    file = line.location.removeprefix(TAR_PREFIX)
    with open_file(file) as opened:
        told = os.fstat(opened.fileno())
    return SourceFile(line.path, file, told.st_size, told.st_mtime_ns, None, line.label)
