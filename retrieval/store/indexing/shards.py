"""One run of several over the same gallery: which of its files are this run's."""

from __future__ import annotations

import re
from dataclasses import dataclass
from hashlib import blake2b


@dataclass(frozen=True)
class Shard:
    """Shard `number` (from 1) of `count`: a file is in the one that its path's hash falls to."""

    number: int = 1
    count: int = 1

    @property
    def is_all(self) -> bool:
        """Whether there is no other shard."""
        return self.count == 1

    def holds(self, path: bytes) -> bool:
        """Whether the file with this path is in this shard."""
        return self.is_all or _hash(path) % self.count == self.number - 1

    def __str__(self) -> str:
        return f"shard {self.number} of {self.count}"


WHOLE = Shard()


def _hash(path: bytes) -> int:
    """The same on every machine and in every run."""
    return int.from_bytes(blake2b(path, digest_size=8).digest(), "big")


def parse_shard(text: str) -> Shard:
    """The shard that `i/n` names. Raises ValueError."""
    given = re.fullmatch(r"([0-9]{1,9})/([0-9]{1,9})", text)
    number, count = map(int, given.groups()) if given else (0, 0)
    if not 1 <= number <= count:
        raise ValueError(f"{text} is no shard: give i/n with i from 1 to n, such as 1/4")
    return Shard(number, count)
