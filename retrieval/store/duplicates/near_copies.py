"""Contents that are the same photograph: pairs that agree in small and closely, joined into stars."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from retrieval.common.grouping import Indices, connected_components, star_clusters
from retrieval.model.head import Array
from retrieval.store.duplicates.candidates import NEIGHBOURS, ContentPairs, Contents
from retrieval.store.duplicates.closeups import CloseLooks
from retrieval.store.duplicates.thumbnails import ThumbnailSet

_MANY = 96  # neighbours of what resembles many others
_ROUNDS = 5  # of joining groups: each at least halves their number

NeighboursOf = Callable[[Indices, Contents, int], ContentPairs]
Stars = list[dict[int, float]]
"""Groups of contents, each with the similarity of its members to the first, which is kept."""


@dataclass(frozen=True)
class NearCopies:
    """A comparison of contents by thumbnails, and closely where these agree by at least `near`."""

    thumbnails: ThumbnailSet
    looks: CloseLooks
    near: float

    def similarities(self, firsts: Indices, others: Indices) -> Array:
        """Return how well contents agree with others, (P,); 0 if they differ in their details."""
        pairs = np.sort(np.stack([firsts, others], axis=1), axis=1)
        values, fits = self.thumbnails.agreements(pairs)
        rows = np.flatnonzero(values >= self.near)
        values[rows] *= self.looks.show_the_same(pairs[rows], fits[rows])
        return values

    def confirmed(self, pairs: ContentPairs) -> ContentPairs:
        """Return the pairs of the same photograph."""
        return pairs[self.similarities(pairs[:, 0], pairs[:, 1]) >= self.near]

    def among_many(self, contents: Contents, neighbours_of: NeighboursOf) -> ContentPairs:
        """Return confirmed pairs of contents that resemble so many others that their copies may not be the nearest.

        Pages of one form are: of their many neighbours, those that agree best in small are looked at closely.
        """
        crowded = self.looks.crowded(NEIGHBOURS // 2)
        pairs = neighbours_of(crowded, contents, _MANY)
        values, _ = self.thumbnails.agreements(pairs)
        taken: Counter[int] = Counter()
        best: list[int] = []
        for row in np.argsort(-values)[: int((values >= self.near).sum())].tolist():
            if min(taken[number] for number in pairs[row].tolist()) < NEIGHBOURS:
                taken.update(pairs[row].tolist())
                best.append(row)
        return self.confirmed(pairs[best])

    def joined(self, pairs: ContentPairs, contents: Contents, neighbours_of: NeighboursOf) -> ContentPairs:
        """Add pairs between groups of copies that are so large that their members find only each other.

        All sizes of a photograph that was saved often are one group then. `neighbours_of` returns pairs of the near
        contents of some.
        """
        for _ in range(_ROUNDS):
            roots = np.arange(len(contents))
            full = [each for each in connected_components(pairs) if len(each) > NEIGHBOURS]
            for component in full:
                roots[component] = min(component)
            members = np.array([number for component in full for number in component], np.int64)
            # Each group is one content now, so that its members do not find each other.
            new = self.confirmed(neighbours_of(members, replace(contents, numbers=roots[contents.numbers]), NEIGHBOURS))
            if not len(new):
                break
            pairs = np.concatenate([pairs, new])
        return pairs

    def stars(self, pairs: ContentPairs, order: Indices) -> Stars:
        """Group contents by confirmed pairs; in each group the one with the most true detail is first."""
        places = order.astype(np.float64)
        for star in star_clusters(pairs, order, self.near, self.similarities):
            first = best = next(iter(star))
            for other in list(star)[1:]:
                best = self._better(best, other)
            places[best] = min(places[best], places[first] - 0.5)
        return star_clusters(pairs, np.argsort(np.argsort(places)), self.near, self.similarities)

    def _better(self, number: int, other: int) -> int:
        """Return the one of two contents that is more worth keeping: the first unless the other shows more."""
        (value,), (fit,) = self.thumbnails.agreements(np.array([[other, number]]))
        return other if value >= self.near and self.looks.is_better(other, number, fit) else number
