"""What goes into the catalogue and comes out of it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class KnownFile(NamedTuple):
    """What a scan compares: size in bytes, mtime in nanoseconds; the version and the label of what is not a file."""

    id: int
    path: bytes
    size: int
    mtime: int
    version: str | None
    missing: bool
    label: str | None = None


@dataclass(frozen=True)
class NewPicture:
    """A picture to record, with its descriptor `vector` (C,).

    Where `label` is None it has that of its folder, where it lies in one of the gallery's; an empty one is none.
    """

    path: bytes
    size: int
    mtime: int
    hash: bytes
    vector: NDArray[np.float32]
    width: int
    height: int
    taken_at: str | None = None
    latitude: float | None = None
    longitude: float | None = None
    version: str | None = None
    label: str | None = None


class FailedFile(NamedTuple):
    """A file that could not be indexed, and why. Where that `passes`, what is known of its picture stands."""

    path: bytes
    reason: str
    is_transient: bool = False


class Candidate(NamedTuple):
    """A picture as results show it, with the path of the gallery's folder that it was found in."""

    id: int
    path: bytes
    root: bytes
    label: str | None
    width: int
    height: int


class PictureDetails(NamedTuple):
    """A picture as a gallery is looked through: `taken_at` is EXIF's local time in ISO 8601, `size` in bytes."""

    id: int
    path: bytes
    label: str | None
    width: int
    height: int
    taken_at: str | None
    size: int
    hash: bytes


@dataclass(frozen=True)
class Selection:
    """Which pictures count: of a label, below a folder, taken from `since` until before `until` (ISO 8601).

    What is None does not restrict. A picture without a time is in no span of time.
    """

    label: str | None = None
    folder: bytes | None = None
    since: str | None = None
    until: str | None = None

    @property
    def is_all(self) -> bool:
        """Whether every picture counts."""
        return self == EVERYTHING

    @property
    def only_label(self) -> str | None:
        """The label as the catalogue has it, where nothing else restricts; else None."""
        if self.label is None or self != Selection(self.label):
            return None
        return os.fsencode(self.label).decode("utf-8", "replace")  # as it is taken from a folder's name


EVERYTHING = Selection()


class StoredFile(NamedTuple):
    """An indexed picture as a file: size in bytes and mtime in nanoseconds as they were when it was read."""

    id: int
    path: bytes
    label: str | None
    width: int
    height: int
    size: int
    mtime: int


@dataclass(frozen=True)
class KnownContent:
    """What is known of an indexed picture of the same content; `vector` (C,) is its descriptor."""

    vector: NDArray[np.float32]
    width: int
    height: int
    taken_at: str | None
    latitude: float | None
    longitude: float | None


@dataclass(frozen=True)
class RootCounts:
    """How many pictures a gallery's folder has in the catalogue, present and missing."""

    root: bytes
    pictures: int
    missing: int


@dataclass(frozen=True)
class Changes:
    """What an index of an earlier generation must follow to be of `generation`: the ids (N,) of pictures touched."""

    generation: str
    touched: NDArray[np.int64]


@dataclass(frozen=True)
class RemovedCounts:
    """How much was taken out of the catalogue."""

    pictures: int = 0
    failures: int = 0
    roots: int = 0

    def __bool__(self) -> bool:
        return self.pictures + self.failures + self.roots > 0
