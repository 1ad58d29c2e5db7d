"""Groups from pairs: each member is related to the group's first, so that no chain joins what is not alike."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from retrieval.model.head import Array

Indices = NDArray[np.int64]
SimilarityOf = Callable[[Indices, Indices], Array]
"""How similar each of the first is to each of the second, (P,), 0 to 1."""

COLLAPSE_COSINE = 0.96
"""The cosine of descriptors from which two hits are shown as one.

Of 77 such pairs among 12,500 photographs of five sets 75 agree in their details too; two are a wide crop and one with
writing over it.
"""


def star_clusters(
    pairs: Indices, order: Indices, threshold: float, similarity_of: SimilarityOf
) -> list[dict[int, float]]:
    """Groups of what the pairs (P, 2) join: by member its similarity to the first, which comes first, with 1.

    `order` (N,) is the place of each in the order in which they become first. `related` is asked for the similarities
    that a group needs; from `least` on two are related. What a chain joins but the first is not related to makes groups
    of its own.
    """
    open_ = [sorted(component, key=lambda place: int(order[place])) for component in components(pairs)]
    groups: list[dict[int, float]] = []
    while open_:
        firsts = np.array([component[0] for component in open_ for _ in component[1:]], np.int64)
        others = np.array([place for component in open_ for place in component[1:]], np.int64)
        similarities = iter(similarity_of(firsts, others).tolist())
        left: list[list[int]] = []
        for first, *rest in open_:
            told = {place: next(similarities) for place in rest}
            group = {first: 1.0} | {place: value for place, value in told.items() if value >= threshold}
            if len(group) > 1:
                groups.append(group)
            left.append([place for place in rest if place not in group])
        open_ = [rest for rest in left if len(rest) > 1]
    return sorted(groups, key=lambda group: int(order[next(iter(group))]))


def components(pairs: Indices) -> list[list[int]]:
    """What pairs (P, 2) join, directly or by others (union-find)."""
    parent: dict[int, int] = {}

    def root(place: int) -> int:
        while parent.setdefault(place, place) != place:
            parent[place] = parent[parent[place]]
            place = parent[place]
        return place

    for a, b in pairs.tolist():
        parent[root(b)] = root(a)
    found: dict[int, list[int]] = {}
    for place in list(parent):
        found.setdefault(root(place), []).append(place)
    return list(found.values())


def collapse_groups(hashes: Sequence[bytes], vectors: Array, threshold: float = COLLAPSE_COSINE) -> list[int]:
    """The number of each hit's group, counted from 0 in the hits' order, by contents and descriptors (N, C).

    A hit is of the group of the first before it that has its content, or whose descriptor has at least this cosine with
    its own and that is first in its group. No file is looked at, so only copies that change little are collapsed.
    """
    lengths = np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    u = vectors / lengths
    firsts: list[int] = []
    numbers: list[int] = []
    for place, content in enumerate(hashes):
        same = (
            number
            for number, first in enumerate(firsts)
            if hashes[first] == content or float(u[first] @ u[place]) >= threshold
        )
        number = next(same, len(firsts))
        if number == len(firsts):
            firsts.append(place)
        numbers.append(number)
    return numbers
