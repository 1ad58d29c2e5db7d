"""Events of a walk through a gallery: files, tars, and what cannot be read."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple, Self

from retrieval.common.errors import PictureError, TransientPictureError

HIDDEN = "hidden names"
OWN_NAMES = "names of what `retrieve` writes, such as contact-sheet.png (rename those that are your own)"
SAME_FOLDER = "folders that are there by another name, too"
LEFT_OUT = (HIDDEN, OWN_NAMES, SAME_FOLDER)
"""Why a walk leaves out what is named like a picture, or a folder; it counts them beside the endings of other names."""

_MOST_TIME = 2**63 - 1  # nanoseconds: in the year 2262


def passed_over_words(passed_over: Mapping[str, int]) -> list[str]:
    """Return what a walk has passed over: by the endings of names, and by the other reasons."""
    ends = ", ".join(f"{count} {end or 'without one'}" for end, count in passed_over.items() if end not in LEFT_OUT)
    reasons = "; ".join(f"{reason}: {passed_over[reason]}" for reason in LEFT_OUT if passed_over.get(reason))
    endings = [f"passed over, by the endings of their names: {ends}"] if ends else []
    return endings + ([f"left out: {reasons}"] if reasons else [])


def storable_time(nanoseconds: int) -> int:
    """Return a file's time as a catalogue can keep it: the nearest that it can, for one further off."""
    return max(-_MOST_TIME, min(nanoseconds, _MOST_TIME))


class PictureFile(NamedTuple):
    """A picture's file, or a tar of pictures, by its path in the catalogue; size in bytes, mtime in nanoseconds.

    A local file has no `version`; another one's is empty if its server gives none. `label` is empty if the file is
    known to have none, and None if nothing is known of it. `read_content` returns the file's bytes if they are at
    hand. `ctime` is when a local file was last changed, whatever its mtime was set to, in nanoseconds.
    """

    path: bytes
    size: int
    mtime: int
    version: str | None = None
    label: str | None = None
    read_content: Callable[[], bytes] | None = None
    ctime: int | None = None


@dataclass(frozen=True)
class Unreadable:
    """A folder, or an entry named like a picture, that cannot be used, and why.

    If the error is transient, the picture's existing record is kept.
    """

    path: bytes
    reason: str
    is_folder: bool = False
    is_transient: bool = False

    @classmethod
    def from_error(cls, path: bytes, error: PictureError, is_folder: bool = False) -> Self:
        """Return the entry at this path as unreadable because of the error."""
        return cls(path, error.reason, is_folder, isinstance(error, TransientPictureError))


@dataclass(frozen=True)
class UnchangedTar:
    """A tar that has not changed since it was read to its end: the records below its path are kept."""

    path: bytes


@dataclass(frozen=True)
class TarStart:
    """The start of a tar of this version; its members follow, then its `TarEnd`."""

    path: bytes
    version: str


@dataclass(frozen=True)
class TarEnd:
    """The end of a tar. It is complete if all its members were yielded, which a damaged one's were not."""

    path: bytes
    is_complete: bool = True


WalkEvent = PictureFile | Unreadable | UnchangedTar | TarStart | TarEnd
"""An event of a walk through a gallery; events come in the order of their paths."""
