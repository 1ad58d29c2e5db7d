"""Shards: the parts of a gallery's files that several runs share."""

import re
from dataclasses import dataclass
from hashlib import blake2b


@dataclass(frozen=True)
class Shard:
    """Shard `number` (from 1) of `count`: a file is in the one that the hash of its path selects."""

    number: int = 1
    count: int = 1

    @property
    def is_all(self) -> bool:
        """Whether this is the only shard."""
        return self.count == 1

    def holds(self, path: bytes) -> bool:
        """Return whether the file with this path is in this shard."""
        digest = blake2b(path, digest_size=8).digest()  # the same on every machine and in every run
        return self.is_all or int.from_bytes(digest, "big") % self.count == self.number - 1

    def __str__(self) -> str:
        return f"shard {self.number} of {self.count}"


WHOLE = Shard()


def parse_shard(text: str) -> Shard:
    """Return the shard written as `i/n`. Raises ValueError."""
    match = re.fullmatch(r"([0-9]{1,9})/([0-9]{1,9})", text)
    number, count = map(int, match.groups()) if match else (0, 0)
    if not 1 <= number <= count:
        raise ValueError(f"{text} is not a shard: give i/n with i from 1 to n, such as 1/4")
    return Shard(number, count)
