"""Groups of duplicate pictures of a store, in each the one to keep first."""

from dataclasses import dataclass
from enum import StrEnum

from retrieval.common.text import count_noun, format_bytes
from retrieval.sources.location import PictureLocation


class DuplicateKind(StrEnum):
    """The relation of two pictures."""

    identical = "identical"
    near = "near-identical"
    alike = "alike"


@dataclass(frozen=True)
class GroupMember:
    """A picture of a group, and its relation to the group's first: `kind` is None for the first itself.

    `similarity` to the first is from 0 to 1: 1 for equal files, else the agreement or, if alike, the cosine.
    """

    id: int
    path: PictureLocation
    label: str | None
    width: int
    height: int
    size_bytes: int
    kind: DuplicateKind | None
    similarity: float


@dataclass(frozen=True)
class Group:
    """Two or more pictures; the first is the one to keep: most true detail, else most pixels, largest file, oldest."""

    kind: DuplicateKind
    members: tuple[GroupMember, ...]

    @property
    def spare_bytes(self) -> int:
        """The bytes on the disk of all but the first; 0 for pictures that are only alike."""
        return sum(member.size_bytes for member in self.members[1:]) if self.kind is not DuplicateKind.alike else 0

    @property
    def spare(self) -> int:
        """The number of pictures more than needed."""
        return len(self.members) - 1 if self.kind is not DuplicateKind.alike else 0


@dataclass(frozen=True)
class Duplicates:
    """The groups of a store: identical and near-identical ones by the bytes to spare, then those alike.

    `pictures` were searched. `unread` are files that could not be read, with the reason; they are in no group.
    `linked` has the names of each file that has several, by links: that is one picture, and nothing to spare.
    """

    groups: tuple[Group, ...]
    pictures: int
    unread: tuple[tuple[PictureLocation, str], ...]
    seconds: float
    linked: tuple[tuple[PictureLocation, ...], ...] = ()

    @property
    def spare(self) -> int:
        """The number of pictures more than needed."""
        return sum(group.spare for group in self.groups)

    @property
    def spare_bytes(self) -> int:
        """Their bytes on the disk."""
        return sum(group.spare_bytes for group in self.groups)


def summary_line(duplicates: Duplicates) -> str:
    """Return the sums in one line."""
    alike = sum(group.kind is DuplicateKind.alike for group in duplicates.groups)
    groups, spare = len(duplicates.groups) - alike, duplicates.spare
    parts = [f"{count_noun(groups, 'group')} among {duplicates.pictures:,} pictures"]
    if spare:
        parts.append(f"{count_noun(spare, 'picture')} more than needed")
        parts.append(format_bytes(duplicates.spare_bytes))
    if alike:
        parts.append(f"beside them {count_noun(alike, 'group')} of pictures that are alike")
    return ", ".join(parts)
