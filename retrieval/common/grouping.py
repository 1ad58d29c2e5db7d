"""Star clustering: every member is similar to the group's representative, so chains do not merge unlike pictures."""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

Indices = NDArray[np.int64]
SimilarityOf = Callable[[Indices, Indices], NDArray[np.float32]]
"""Return how similar each of the first items is to each of the second, (P,), from 0 to 1."""

COLLAPSE_COSINE = 0.96
"""The cosine of descriptors from which two hits are shown as one.

Of 77 such pairs among 12,500 photographs of five sets 75 agree in their details too; two are a wide crop and one with
writing over it.
"""


def star_clusters(
    pairs: Indices, order: Indices, threshold: float, similarity_of: SimilarityOf
) -> list[dict[int, float]]:
    """Group items that pairs (P, 2) connect; each group gives the similarity of its members to its first, itself 1.

    The first of each connected component by `order` (N,) represents those whose similarity to it is at least
    `threshold`; the same is repeated with the rest of the component. Groups of one are left out.
    """
    components = [sorted(component, key=lambda item: int(order[item])) for component in connected_components(pairs)]
    groups: list[dict[int, float]] = []
    while components:
        firsts = np.array([component[0] for component in components for _ in component[1:]], np.int64)
        others = np.array([item for component in components for item in component[1:]], np.int64)
        similarities = iter(similarity_of(firsts, others).tolist())
        remaining: list[list[int]] = []
        for first, *rest in components:
            group = {first: 1.0}
            group |= {item: value for item in rest if (value := next(similarities)) >= threshold}
            if len(group) > 1:
                groups.append(group)
            remaining.append([item for item in rest if item not in group])
        components = [rest for rest in remaining if len(rest) > 1]
    return sorted(groups, key=lambda group: int(order[next(iter(group))]))


def leader_groups(count: int, near: Callable[[int, NDArray[np.bool_]], Indices]) -> Indices:
    """Group `count` items in order; returns the row of the first item of each one's group, (N,).

    The same as `star_clusters` if it is cheap to find the items near one: `near` returns those that are still free.
    """
    groups, is_free = np.arange(count), np.ones(count, np.bool_)
    for item in range(count):
        if is_free[item]:
            is_free[item] = False
            members = near(item, is_free)
            groups[members], is_free[members] = item, False
    return groups


def connected_components(pairs: Indices) -> list[list[int]]:
    """Return the items that pairs (P, 2) connect, directly or through others (union-find)."""
    parent: dict[int, int] = {}

    def root(item: int) -> int:
        while parent.setdefault(item, item) != item:
            parent[item] = parent[parent[item]]
            item = parent[item]
        return item

    for a, b in pairs.tolist():
        parent[root(b)] = root(a)
    components: dict[int, list[int]] = {}
    for item in list(parent):
        components.setdefault(root(item), []).append(item)
    return list(components.values())


def collapse_groups(
    hashes: Sequence[bytes], vectors: NDArray[np.float32], threshold: float = COLLAPSE_COSINE
) -> list[int]:
    """Return the number of each hit's group, counted from 0 in the hits' order, by contents and descriptors (N, C).

    A hit is in the group of the first hit that has its content, or a descriptor with at least this cosine to its own.
    No file is read, so only copies with small changes are collapsed.
    """
    u = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    contents = np.array(hashes)
    is_similar = (u @ u.T >= threshold) | (contents[:, None] == contents)
    firsts = leader_groups(len(u), lambda hit, is_free: np.flatnonzero(is_similar[hit] & is_free))
    numbers: list[int] = np.unique(firsts, return_inverse=True)[1].tolist()
    return numbers
