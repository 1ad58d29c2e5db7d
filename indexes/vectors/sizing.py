"""The size of an approximate index: from how many vectors on it is one, and how many lists it has."""

from __future__ import annotations

import math

MOST_EXACT = 30_000
"""An exact search reads 5 kB a picture: about 10 ms for so many; from there on codes are used."""

_LISTS_A_ROOT = 2  # lists for each unit of the root of the count: more cost more to learn than they spare
_SAMPLES_A_LIST = 40  # FAISS warns below 39
GROWTH = 4  # an index is made anew once it holds so many times what its lists were made for
FIRST_PROBES = 32  # lists looked into before anything was measured


def list_count(count: int) -> int:
    """How many inverted lists suit so many descriptors."""
    return max(1, round(_LISTS_A_ROOT * math.sqrt(count)))


def sample_size(count: int) -> int:
    """How many descriptors an index for so many learns from."""
    return min(count, _SAMPLES_A_LIST * list_count(count))


def still_suits(count: int, lists: int) -> bool:
    """Whether an index with so many inverted lists (0: an exact one) still suits so many descriptors."""
    if not lists:
        return count <= MOST_EXACT
    return count > MOST_EXACT // 2 and list_count(count) <= math.sqrt(GROWTH) * lists
