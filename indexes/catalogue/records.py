"""The records that are written to the catalogue and read from it."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from indexes.catalogue.labels import label_spellings


class KnownFile(NamedTuple):
    """A recorded file as a scan compares it: size in bytes, mtime in nanoseconds.

    `version` is None for local files, `ctime` for others and where it is not known. `label` matters where something
    other than a folder gives it.
    """

    id: int
    path: bytes
    size: int
    mtime: int
    version: str | None
    missing: bool
    label: str | None = None
    ctime: int | None = None


@dataclass(frozen=True)
class NewPicture:
    """A picture to record, with its descriptor `vector` (C,).

    If `label` is None, it is taken from the folder, unless that is the gallery itself; an empty one means no label.
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
    ctime: int | None = None


class FailedFile(NamedTuple):
    """A file that could not be indexed, and why. If the error is transient, the picture's existing record is kept."""

    path: bytes
    reason: str
    is_transient: bool = False


class Candidate(NamedTuple):
    """A picture as results show it; `root` is its gallery's folder."""

    id: int
    path: bytes
    root: bytes
    label: str | None
    width: int
    height: int


class PictureDetails(NamedTuple):
    """A picture as a gallery's pages show it: `taken_at` is EXIF's local time in ISO 8601, `size` is in bytes."""

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
    """The pictures of a label, below a folder, taken at or after `since` and before `until` (ISO 8601).

    A folder that has several paths in the catalogue is a tuple of them. None does not restrict.
    A picture without a time is in no span of time.
    """

    label: str | None = None
    folder: bytes | tuple[bytes, ...] | None = None
    since: str | None = None
    until: str | None = None

    @property
    def is_all(self) -> bool:
        """Whether every picture is selected."""
        return self == EVERYTHING

    @property
    def only_label(self) -> str | None:
        """The label as the catalogue has it, if it has one spelling and nothing else restricts; else None."""
        if self.label is None or self != Selection(self.label):
            return None
        spellings = label_spellings(self.label)
        return spellings.pop() if len(spellings) == 1 else None


EVERYTHING = Selection()


class StoredFile(NamedTuple):
    """An indexed picture's file: size in bytes and mtime in nanoseconds as they were when it was read."""

    id: int
    path: bytes
    label: str | None
    width: int
    height: int
    size: int
    mtime: int


@dataclass(frozen=True)
class KnownContent:
    """The properties of an indexed picture of the same content; `vector` (C,) is its descriptor."""

    vector: NDArray[np.float32]
    width: int
    height: int
    taken_at: str | None
    latitude: float | None
    longitude: float | None


@dataclass(frozen=True)
class RootCounts:
    """The numbers of a gallery's pictures in the catalogue, present and missing."""

    root: bytes
    pictures: int
    missing: int


@dataclass(frozen=True)
class RemovedCounts:
    """The numbers of what was removed from the catalogue."""

    pictures: int = 0
    failures: int = 0
    roots: int = 0

    def __bool__(self) -> bool:
        return self.pictures + self.failures + self.roots > 0
