"""Which pictures of a store may be duplicates: equal contents, and pairs that are near in the vector index."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from indexes.arrays import Ids, Vectors, unit
from indexes.catalogue.catalogue import Catalogue
from indexes.catalogue.records import EVERYTHING, Selection
from indexes.vectors.base import NO_ID, VectorIndex
from retrieval.model.head import Array

ContentPairs = NDArray[np.int64]
"""Pairs of contents by their numbers, (P, 2), the smaller one first, each pair once."""

MIN_COSINE = 0.65
"""The cosine of descriptors from which two contents are candidates.

Pictures of 200 pixels a side have .7 and more with their halves in 298 of 300 cases; larger ones have more.
"""

_NEIGHBOURS = 8  # other contents that each is paired with at most: of its copies, one that finds it is enough
_FIRST_K, _K_GROWTH, _MAX_K = 16, 8, 1024  # hits of a search; times as many where they are copies of each other
_BATCH = 1024  # descriptors fetched at once to be judged


@dataclass(frozen=True)
class Contents:
    """The pictures of a store by content: ids (N,), rising, and the number of each one's content (N,).

    `firsts` (M,) are the places of the first picture of each content, by its number.
    """

    ids: Ids
    numbers: Ids
    firsts: Ids

    @classmethod
    def of(cls, catalogue: Catalogue, selection: Selection = EVERYTHING) -> Contents:
        """Those of all pictures that are not missing, or of those of a selection; numbered as they come by id."""
        ids, hashes = catalogue.pictures.content_hashes()
        if not selection.is_all:
            wanted = np.isin(ids, catalogue.pictures.select_ids(selection))
            ids, hashes = ids[wanted], hashes[wanted]
        _, firsts, numbers = np.unique(hashes, return_index=True, return_inverse=True)
        order = np.argsort(firsts)
        rank = np.empty_like(order)
        rank[order] = np.arange(len(order))
        return cls(ids, rank[numbers.reshape(-1)], firsts[order])

    def __len__(self) -> int:
        """How many contents there are."""
        return len(self.firsts)

    def number_of(self, ids: Ids) -> Ids:
        """The contents' numbers of pictures, in any shape; NONE for those that are not among them."""
        places = np.minimum(np.searchsorted(self.ids, ids), len(self.ids) - 1)
        return np.where(self.ids[places] == ids, self.numbers[places], NO_ID)

    def picture_ids(self, numbers: Ids) -> list[Ids]:
        """The ids of the pictures of each of these contents."""
        order, starts = self._by_number
        return [self.ids[order[starts[number] : starts[number + 1]]] for number in numbers.tolist()]

    @cached_property
    def _by_number(self) -> tuple[Ids, Ids]:
        order = np.argsort(self.numbers, kind="stable")
        return order, np.searchsorted(self.numbers[order], np.arange(len(self) + 1))


def near_pairs(
    index: VectorIndex, contents: Contents, numbers: Ids, vectors: Vectors, among: Ids | None = None
) -> tuple[ContentPairs, Array]:
    """The contents near to these (Q,) with their descriptors (Q, C): pairs (P, 2), and their cosines by the index.

    At most 8 to each. `among` restricts the search to these ids.
    """
    if not len(numbers):
        return np.empty((0, 2), np.int64), np.empty(0, np.float32)
    parts: list[tuple[ContentPairs, Array]] = []
    asked = _FIRST_K
    while len(numbers):
        distances, ids = index.search(vectors, asked, among)
        others = contents.number_of(ids)
        cosines = 1 - distances
        new = _is_first_in_row(others) & (others != numbers[:, None]) & (others != NO_ID)
        full = cosines[:, -1] >= MIN_COSINE if ids.shape[1] == asked else np.zeros(len(ids), bool)
        wanting = full & (new.sum(axis=1) < _NEIGHBOURS) if asked < _MAX_K else np.zeros(len(ids), bool)
        kept = new & (new.cumsum(axis=1) <= _NEIGHBOURS) & (cosines >= MIN_COSINE) & ~wanting[:, None]
        rows, columns = np.nonzero(kept)
        found = np.stack([numbers[rows], others[rows, columns]], axis=1)
        parts.append((np.sort(found, axis=1), cosines[rows, columns]))
        numbers, vectors, asked = numbers[wanting], vectors[wanting], asked * _K_GROWTH
    pairs, cosines = (np.concatenate(each) for each in zip(*parts, strict=True))
    return pairs, cosines


def unique_pairs(pairs: ContentPairs, cosines: Array) -> tuple[ContentPairs, Array]:
    """Pairs that were found from either side, each once."""
    if not len(pairs):
        return pairs, cosines
    kept, places = np.unique(pairs, axis=0, return_index=True)
    return kept, cosines[places]


def exact_cosines(catalogue: Catalogue, fingerprint: str, ids: Ids, others: Ids) -> Array:
    """The cosines (P,) of the stored descriptors of pairs of pictures; 0 where one has gone from the catalogue."""
    found = np.zeros(len(ids), np.float32)
    for start in range(0, len(ids), _BATCH):
        span = slice(start, start + _BATCH)
        wanted = np.unique(np.concatenate([ids[span], others[span]]))
        parts = list(catalogue.descriptors.of(wanted, fingerprint))
        if parts:
            known, vectors = (np.concatenate(each) for each in zip(*parts, strict=True))
            a, b = (np.minimum(np.searchsorted(known, each[span]), len(known) - 1) for each in (ids, others))
            there = (known[a] == ids[span]) & (known[b] == others[span])
            u = unit(vectors)
            found[span] = np.where(there, np.einsum("ij,ij->i", u[a], u[b]), 0)
    return found


def _is_first_in_row(rows: Ids) -> NDArray[np.bool_]:
    """Where a number stands for the first time in its row, (Q, K)."""
    order = np.argsort(rows, axis=1, kind="stable")
    rising = np.take_along_axis(rows, order, axis=1)
    first = np.ones(rows.shape, bool)
    first[:, 1:] = rising[:, 1:] != rising[:, :-1]
    placed = np.empty_like(first)
    np.put_along_axis(placed, order, first, axis=1)
    return placed
