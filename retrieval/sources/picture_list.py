"""Lists of pictures as galleries: text files with an address or a path on each line."""

import os
from collections.abc import Iterator
from pathlib import Path
from posixpath import normpath
from urllib.parse import urljoin, urlsplit

from retrieval.common.errors import GalleryError, PictureError, unavailable_gallery
from retrieval.common.parallel import parallel_map
from retrieval.sources.entries import PictureFile, Unreadable, storable_time
from retrieval.sources.files import open_file
from retrieval.sources.location import (
    TAR_PREFIX,
    CatalogueLocation,
    canonical,
    folder_name,
    gallery_name,
    is_address,
    is_remote,
    is_tar,
    storable_text,
)
from retrieval.sources.object_store import UnreachableError, abort_if_unreachable, stat_remote
from retrieval.sources.tar import path_sort_key
from retrieval.sources.url_safety import is_private, redact

_MAX_LABEL = 200  # characters
_NO_TAR = "is no .tar: give the path of a picture, or of a .tar of pictures"
_BOM = b"\xef\xbb\xbf"
_LOCAL_FORBIDDEN = "is a path of this machine, which a list from elsewhere may not name"
_STORE_FORBIDDEN = "is on an object store, which only a list on that store may name"
_PRIVATE_FORBIDDEN = "is an address of this machine or its network, which a list from elsewhere may not name"


def walk_list(root: bytes) -> Iterator[PictureFile | Unreadable]:
    """Yield the pictures and tars that a list names, in the order of their paths, which lie below the list's own.

    A line is an address, or a path relative to the list, and optionally a tab and a label. A remote list may not name
    local files. Lines whose server does not answer fail, and the records of their pictures are kept. Raises
    GalleryError if the list cannot be read, or if none of its servers answers.
    """
    is_answered = False
    unreachable: UnreachableError | None = None

    def examine(line: PictureFile | Unreadable) -> PictureFile | Unreadable:
        nonlocal is_answered, unreachable
        if isinstance(line, Unreadable):
            return line
        file: PictureFile | Unreadable
        try:
            file = _stat_line(line)
        except UnreachableError as error:
            unreachable = error
            return Unreadable.from_error(line.path, error)
        except PictureError as error:
            file = Unreadable.from_error(line.path, error)
        except GalleryError as error:
            return Unreadable(line.path, str(error))
        is_answered = True
        return file

    yield from parallel_map(examine, _parse_list(root))
    if unreachable is not None and not is_answered:
        with abort_if_unreachable():
            raise unreachable


def _parse_list(root: bytes) -> list[PictureFile | Unreadable]:
    """Return what the lines of a list name, each path once and in order; sizes and times are not looked up."""
    name = gallery_name(root)
    try:
        with abort_if_unreachable(), open_file(name) as file:
            content = file.read().removeprefix(_BOM)
    except PictureError as error:
        raise unavailable_gallery(name, error.reason) from error
    lines: dict[bytes, PictureFile | Unreadable] = {}
    for text in content.splitlines():
        if text.strip() and not text.startswith(b"#"):
            location, _, label = os.fsdecode(text).partition("\t")
            line = _parse_line(root, name, location.strip(), label.strip())
            lines[path_sort_key(line.path, isinstance(line, PictureFile) and is_tar(os.fsdecode(line.path)))] = line
    return [line for _, line in sorted(lines.items())]


def _parse_line(root: bytes, name: str, text: str, label: str) -> PictureFile | Unreadable:
    try:
        location = _resolve_line(name, text)
    except GalleryError as error:
        shown = redact(text)
        return Unreadable(root + b"/" + os.fsencode(shown), storable_text(str(error)).removeprefix(f"{shown} "))
    label = storable_text(label or folder_name(location))[:_MAX_LABEL]
    return PictureFile(root + b"/" + os.fsencode(location), 0, 0, label=label)


def _resolve_line(name: str, text: str) -> str:
    """Return the path or address that a line of a list names. Raises GalleryError."""
    if not is_address(name):
        if is_address(text):
            return canonical(text)
        path = Path(os.path.normpath(os.path.join(os.path.dirname(name), text))).as_posix()
        return TAR_PREFIX + path if is_tar(path) else path
    location = canonical(text if is_address(text) else _resolve_relative(name, text))
    _check_allowed(name, location)
    return location


def _resolve_relative(name: str, text: str) -> str:
    """Resolve a path relative to a remote list. Raises GalleryError."""
    if name.startswith("http"):
        try:
            return urljoin(name, text)
        except ValueError as error:
            raise GalleryError(f"is no address: {error}") from error
    if text.startswith("/"):
        raise GalleryError(_LOCAL_FORBIDDEN)
    scheme, _, key = name.partition("://")
    server, _, rest = key.partition("/")
    resolved = normpath(f"/{os.path.dirname(rest)}/{text}").lstrip("/")
    return f"{scheme}://{server}/{resolved}"


def _check_allowed(name: str, location: str) -> None:
    """Raise GalleryError if a remote list may not name this: a stranger's list must not lead into one's own network."""
    list_scheme, scheme = name.partition("://")[0], location.partition("://")[0]
    if scheme not in ("http", "https", list_scheme):
        is_local = scheme in ("file", "local") or location.startswith(TAR_PREFIX)
        raise GalleryError(_LOCAL_FORBIDDEN if is_local else _STORE_FORBIDDEN)
    if scheme.startswith("http"):
        is_own = list_scheme.startswith("http") and urlsplit(location).hostname == urlsplit(name).hostname
        if is_private(location) and not is_own:
            raise GalleryError(_PRIVATE_FORBIDDEN)


def _stat_line(line: PictureFile) -> PictureFile:
    """Look up what a line names. Raises PictureError, UnreachableError among them, and GalleryError."""
    source = CatalogueLocation.parse(line.path).source
    if source.startswith(TAR_PREFIX) and not is_tar(source):
        raise PictureError(_NO_TAR)
    if is_remote(source):
        return stat_remote(source).to_picture(line.path, line.label)
    with open_file(source.removeprefix(TAR_PREFIX)) as file:
        status = os.fstat(file.fileno())
    mtime, ctime = storable_time(status.st_mtime_ns), storable_time(status.st_ctime_ns)
    return line._replace(size=status.st_size, mtime=mtime, ctime=ctime)
