"""What a walk through a gallery yields: files, and what happens on the way."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from retrieval.common.errors import PictureError, TransientPictureError


class PictureFile(NamedTuple):
    """A picture's file, by its path in the catalogue; size in bytes, mtime in nanoseconds.

    What is no local file has a `version` (empty where its server tells none), may have a `label`, which is empty where
    it has none, and `content`, which gives its bytes where they are at hand.
    """

    path: bytes
    size: int
    mtime: int
    version: str | None = None
    label: str | None = None
    content: Callable[[], bytes] | None = None


@dataclass(frozen=True)
class Unreadable:
    """A folder, or an entry named like a picture, that cannot be used, and why.

    Where that `passes`, nothing is said of the picture that was there: what is known of it stands.
    """

    path: bytes
    reason: str
    is_folder: bool = False
    is_transient: bool = False


def unreadable_entry(path: bytes, error: PictureError, is_folder: bool = False) -> Unreadable:
    """What an error says of the entry with this path."""
    return Unreadable(path, error.reason, is_folder, isinstance(error, TransientPictureError))


@dataclass(frozen=True)
class UnchangedTar:
    """A tar that is as it was when it was read to its end: what is known below its path stands."""

    path: bytes


@dataclass(frozen=True)
class TarStart:
    """A tar of this version whose members follow, until it is `Closed`."""

    path: bytes
    version: str


@dataclass(frozen=True)
class TarEnd:
    """The end of a tar: all its members have been given, unless it is damaged (not `is_whole`)."""

    path: bytes
    is_complete: bool = True


WalkEvent = PictureFile | Unreadable | UnchangedTar | TarStart | TarEnd
"""What a pass over a gallery meets, in the order of its paths."""
