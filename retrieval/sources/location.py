"""Where galleries and pictures lie that are no paths: `s3://bucket/key`, members of tars, what a list names."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote

from retrieval.common.errors import GalleryError
from retrieval.sources.url_safety import CREDENTIALS, host_of, is_signed, redact

_ADDRESS = re.compile(r"([a-zA-Z][a-zA-Z0-9+.-]+)://(?=.)")
_ALIASES = {"s3a": "s3", "gcs": "gs"}
_MEMBER = re.compile(r"((?:.|\n)+?\.tar)/((?:.|\n)+)#(\d+)\+(\d+)(?:\+(\d+))?", re.IGNORECASE)
_LIST_ENTRY = re.compile(r"(?:.|\n)+?\.txt/(?=/|tar:/|[a-zA-Z][a-zA-Z0-9+.-]+://)")
TAR_PREFIX, LIST_PREFIX = "tar:", "list:"
"""Before a local tar, and before a list, that is a gallery of its own: no folder's gallery holds it."""


class PictureAddress(str):
    """Where something lies that is no local file; text, so that nothing of it is lost, with a name and a parent."""

    __slots__ = ()

    @property
    def name(self) -> str:
        """What follows the last slash; a member of a tar is named as in the tar."""
        return _without_offsets(self).rpartition("/")[2]

    @property
    def stem(self) -> str:
        """The name without its ending."""
        return self.name.rpartition(".")[0] or self.name

    @property
    def parent(self) -> PictureAddress:
        """What is before the last slash."""
        return PictureAddress(_without_offsets(self).rpartition("/")[0])


PictureLocation = Path | PictureAddress
"""Where a picture lies."""


class TarMember(NamedTuple):
    """A file within a tar: where the tar lies, its name there, where its bytes begin, and how many they are."""

    tar: str
    name: str
    offset: int
    size: int


def is_address(text: str) -> bool:
    """Whether this names something that is no local file."""
    return _ADDRESS.match(text) is not None or text.startswith(f"{TAR_PREFIX}/")


def canonical(address: str) -> str:
    """An address as the catalogue keeps it: one name for a scheme, no slash at the end. Raises GalleryError."""
    found = _ADDRESS.match(address)
    if found is None:  # a local tar
        return address
    scheme = found[1].lower()
    if CREDENTIALS.search(address):
        raise GalleryError(f"{redact(address)} has a password, which a store does not keep: give it by the environment")
    if is_signed(address):
        raise GalleryError(
            f"{redact(address)} is signed, for a while, and a store would keep the signature: give the address"
            " without it, and credentials by the environment"
        )
    kept = _ALIASES.get(scheme, scheme)
    host_of(f"{kept}://{address[found.end() :]}")
    return f"{kept}://{address[found.end() :].rstrip('/')}"


def storable_text(text: str) -> str:
    """What a server, a list or a tar tells, as a catalogue can keep it: UTF-8 without zero bytes."""
    return os.fsencode(text).decode("utf-8", "replace").replace("\0", " ")


def parse_location(path: bytes) -> PictureLocation:
    """Where a path of the catalogue leads: a local file, or an address that can be opened."""
    text = os.fsdecode(path)
    if text.startswith(LIST_PREFIX):
        text = text.removeprefix(LIST_PREFIX)
        entry = _LIST_ENTRY.match(text)
        text = text[entry.end() :] if entry else text
    return PictureAddress(text) if is_address(text) else Path(text)


def display_location(location: PictureLocation) -> PictureLocation:
    """A place as people are told of it: of a tar's member, without where its bytes are."""
    return PictureAddress(_without_offsets(location)) if isinstance(location, PictureAddress) else location


def gallery_name(root: bytes) -> str:
    """A gallery as it is given to `retrieve index`."""
    return os.fsdecode(root).removeprefix(LIST_PREFIX).removeprefix(TAR_PREFIX)


def parse_member(text: str) -> TarMember | None:
    """What part of a tar an address names; None where it names a whole file."""
    found = _MEMBER.fullmatch(text.removeprefix(TAR_PREFIX)) if is_address(text) else None
    if found is None:
        return None
    tar, name, start, size, length = found.groups()
    if length is not None:
        tar, name = _split_member(f"{tar}/{name}", int(length))
    return TarMember(tar, name, int(start), int(size))


def _split_member(text: str, length: int) -> tuple[str, str]:
    """A tar, and the name of so many characters in it."""
    return text[: max(0, len(text) - length - 1)], text[len(text) - length :]


def _without_offsets(address: str) -> str:
    member = parse_member(address)
    return f"{member.tar}/{member.name}" if member else address


def tar_of(path: bytes) -> bytes | None:
    """The path of the tar that a path of the catalogue lies in; None where it lies in none."""
    member = parse_member(str(parse_location(path))) if b".tar/" in path.lower() else None
    return path[: path.rindex(os.fsencode(f"/{member.name}#"))] if member else None


def member_path(tar: bytes, name: bytes, start: int, size: int) -> bytes:
    """The path of a tar's member in the catalogue, which says where its bytes are.

    And how many characters its name in the tar has, where that is not what follows the first `.tar`: a tar may lie
    in a folder that is named like one.
    """
    path = b"%s/%s#%d+%d" % (tar, name, start, size)
    return path if tar_of(path) == tar else path + b"+%d" % len(os.fsdecode(name))


def folder_name(text: str) -> str:
    """The name of the folder that an address or a path lies in; empty where it lies in none."""
    rest = text.partition("://")[2].partition("/")[2] if _ADDRESS.match(text) else text
    name = rest.rpartition("/")[0].rpartition("/")[2]
    return unquote(name) if text.startswith("http") else name


def is_tar(name: str) -> bool:
    """Whether a name ends as a tar's does."""
    return name.lower().endswith(".tar")


def is_list(name: str) -> bool:
    """Whether a name ends as that of a list of pictures does."""
    return name.lower().endswith(".txt")
