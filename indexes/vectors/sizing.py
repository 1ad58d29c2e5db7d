"""The size of an index: from how many pictures on it is approximate, and how many lists it has then."""

import math

MOST_EXACT = 30_000
"""An exact search reads 5 kB a picture, about 10 ms for so many; above, an index is approximate."""

_LISTS_A_ROOT = 2  # lists for each unit of the root of the count: more cost more to learn than they save
_SAMPLES_A_LIST = 40  # FAISS warns below 39
GROWTH = 4  # an index is rebuilt once it has so many times the pictures that its lists were made for
FIRST_PROBES = 32  # lists looked into before anything was measured


def list_count(count: int) -> int:
    """Return how many inverted lists suit so many descriptors."""
    return max(1, round(_LISTS_A_ROOT * math.sqrt(count)))


def sample_size(count: int) -> int:
    """Return how many descriptors an index for so many learns from."""
    return min(count, _SAMPLES_A_LIST * list_count(count))


def still_suits(count: int, lists: int) -> bool:
    """Return whether an index with so many inverted lists (0: exact) still suits so many descriptors."""
    if not lists:
        return count <= MOST_EXACT
    return count > MOST_EXACT // 2 and list_count(count) <= math.sqrt(GROWTH) * lists
