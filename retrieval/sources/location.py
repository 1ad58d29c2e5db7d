"""The catalogue's paths: local files, addresses such as `s3://bucket/key`, members of tars, entries of lists."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePath
from urllib.parse import unquote

from retrieval.sources.url_safety import host_of, require_no_secrets

_ADDRESS = re.compile(r"([a-zA-Z][a-zA-Z0-9+.-]+)://(?=.)")
_ALIASES = {"s3a": "s3", "gcs": "gs"}
_MEMBER = re.compile(r"(.+?\.tar)/(.+)#(\d+)\+(\d+)(?:\+(\d+))?", re.IGNORECASE | re.DOTALL)
_ROOT = "(?:[a-zA-Z]:)?/"  # how an absolute path begins, with the drive that Windows has
_LOCAL_TAR = re.compile(f"tar:{_ROOT}")
_LIST_ENTRY = re.compile(rf".+?\.txt/(?=(?:tar:)?{_ROOT}|[a-zA-Z][a-zA-Z0-9+.-]+://)", re.DOTALL)
TAR_PREFIX, LIST_PREFIX = "tar:", "list:"
"""Precede the path of a local tar, and of a list, that is a gallery of its own: no folder's gallery contains it."""


class PictureAddress(str):
    """The address of a picture that is no local file: a string, so that nothing is lost, with name and parent."""

    __slots__ = ()

    @property
    def display(self) -> str:
        """The address as people see it: that of a tar's member without the range of its bytes."""
        member = CatalogueLocation.parse(self)
        return f"{member.container}/{member.name}" if member.container else self

    @property
    def name(self) -> str:
        """What follows the last slash; for a member of a tar, of its name in the tar."""
        return self.display.rpartition("/")[2]

    @property
    def stem(self) -> str:
        """The name without its suffix."""
        return self.name.rpartition(".")[0] or self.name

    @property
    def parent(self) -> PictureAddress:
        """What precedes the last slash."""
        return PictureAddress(self.display.rpartition("/")[0])


PictureLocation = Path | PictureAddress
"""What opens a picture: a path, or an address."""


@dataclass(frozen=True, slots=True)
class CatalogueLocation:
    """A path of the catalogue in its parts, of which `list:/x.txt/tar:/z.tar/a.jpg#512+1000` has all.

    `list_prefix` is the list that names the file, with the slash after it; empty if none does. `source` is the rest:
    a local path or an address. Of a member of a tar, `container` is the tar's own path or address, `name` the
    member's name in the tar, and `offset` and `size` say where its bytes are; else the container is empty.
    """

    list_prefix: str
    source: str
    container: str = ""
    name: str = ""
    offset: int = 0
    size: int = 0

    @classmethod
    def parse(cls, path: bytes | str) -> CatalogueLocation:
        """Parse a path of the catalogue, or an address."""
        text = os.fsdecode(path)
        start = 0
        if text.startswith(LIST_PREFIX):
            entry = _LIST_ENTRY.match(text, len(LIST_PREFIX))
            start = entry.end() if entry else len(LIST_PREFIX)
        listed, source = text[:start], text[start:]
        member = _MEMBER.fullmatch(source.removeprefix(TAR_PREFIX)) if is_address(source) else None
        if member is None:
            return cls(listed, source)
        container, name, offset, size, length = member.groups()
        if length is not None:
            whole = f"{container}/{name}"
            container, name = whole[: -int(length) - 1], whole[-int(length) :]
        return cls(listed, source, container, name, int(offset), int(size))

    @property
    def tar_path(self) -> bytes | None:
        """The path in the catalogue of the tar that this is a member of; None if it is no member."""
        if not self.container:
            return None
        prefix = TAR_PREFIX if self.source.startswith(TAR_PREFIX) else ""
        return os.fsencode(f"{self.list_prefix}{prefix}{self.container}")


def catalogue_path(path: PurePath) -> bytes:
    """Return an absolute path as the catalogue keeps it: on Windows too with slashes, which Windows reads as well."""
    return os.fsencode(path.as_posix())


def parse_location(path: bytes) -> PictureLocation:
    """Return the local file or the address that a path of the catalogue leads to."""
    source = CatalogueLocation.parse(path).source
    return PictureAddress(source) if is_address(source) else Path(source)


def member_path(tar: bytes, name: bytes, offset: int, size: int) -> bytes:
    """Return the catalogue's path of a tar's member, which says where its bytes are.

    It also says how many characters the member's name has if the name is not all that follows the first `.tar`: a tar
    may lie in a folder with a name like a tar's.
    """
    path = b"%s/%s#%d+%d" % (tar, name, offset, size)
    return path if CatalogueLocation.parse(path).tar_path == tar else path + b"+%d" % len(os.fsdecode(name))


def display_location(location: PictureLocation) -> PictureLocation:
    """Return a location as people see it: that of a tar's member without the range of its bytes."""
    return PictureAddress(location.display) if isinstance(location, PictureAddress) else location


def gallery_name(root: bytes) -> str:
    """Return the name of a gallery as given to `retrieve index`."""
    return os.fsdecode(root).removeprefix(LIST_PREFIX).removeprefix(TAR_PREFIX)


def enclosing_tars(name: str) -> Iterator[str]:
    """Yield each part at the front of a name, up to a slash, that is named like a tar; the shortest first."""
    parts = name.split("/")
    return ("/".join(parts[: end + 1]) for end, part in enumerate(parts[:-1]) if is_tar(part))


def is_address(text: str) -> bool:
    """Return whether this names something that is no local file."""
    return _ADDRESS.match(text) is not None or _LOCAL_TAR.match(text) is not None


def is_remote(text: str) -> bool:
    """Return whether a server has what this names: it is neither a local file, nor a local tar or in one."""
    return is_address(text) and not text.startswith(TAR_PREFIX)


def canonical(address: str) -> str:
    """Return an address as the catalogue keeps it: one name per scheme, no slash at the end. Raises GalleryError."""
    match = _ADDRESS.match(address)
    if match is None:  # a local tar
        return address
    require_no_secrets(address)
    scheme = match[1].lower()
    prefix, rest = f"{_ALIASES.get(scheme, scheme)}://", address[match.end() :]
    host_of(prefix + rest)
    return prefix + rest.rstrip("/")


def storable_text(text: str) -> str:
    """Return a server's, a list's or a tar's text as a catalogue can keep it: UTF-8 without zero bytes."""
    return os.fsencode(text).decode("utf-8", "replace").replace("\0", " ")


def folder_name(text: str) -> str:
    """Return the name of the folder that a path or an address lies in; empty if it lies in none."""
    rest = text.partition("://")[2].partition("/")[2] if _ADDRESS.match(text) else text
    name = rest.rpartition("/")[0].rpartition("/")[2]
    return unquote(name) if text.startswith("http") else name


def is_tar(name: str) -> bool:
    """Return whether a name ends like a tar's."""
    return name.lower().endswith(".tar")


def is_list(name: str) -> bool:
    """Return whether a name ends like that of a list of pictures."""
    return name.lower().endswith(".txt")
