"""Candidates for duplicates: equal contents, and pairs of contents that are near in the vector index."""

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
"""Pairs of contents by their numbers, (P, 2), the smaller number first."""

MIN_COSINE = 0.65
"""The cosine of descriptors from which two contents are candidates.

Pictures of 200 pixels a side have at least .7 with their halves in 298 of 300 cases; larger ones have more.
"""

NEIGHBOURS = 8  # other contents that each is paired with at most: of its copies, one that finds it is enough
_FIRST_K, _K_GROWTH, _MAX_K = 16, 8, 1024  # hits of a search; more, by that factor, if they are copies of each other
_BATCH = 1024  # pairs whose descriptors are fetched at once


@dataclass(frozen=True)
class Contents:
    """The pictures of a store by content: ids (N,), ascending, and the number of each one's content (N,).

    `firsts` (M,) are the rows of the first picture of each content, by its number.
    """

    ids: Ids
    numbers: Ids
    firsts: Ids

    @classmethod
    def of(cls, catalogue: Catalogue, selection: Selection = EVERYTHING) -> Contents:
        """Return the contents of a selection's pictures that are not missing, numbered in the order of their ids."""
        ids, hashes = catalogue.pictures.content_hashes()
        if not selection.is_all:
            is_selected = np.isin(ids, catalogue.pictures.select_ids(selection))
            ids, hashes = ids[is_selected], hashes[is_selected]
        _, firsts, numbers = np.unique(hashes, return_index=True, return_inverse=True)
        order = np.argsort(firsts)
        rank = np.argsort(order)
        return cls(ids, rank[numbers.reshape(-1)], firsts[order])

    def __len__(self) -> int:
        """Return the number of contents."""
        return len(self.firsts)

    def number_of(self, ids: Ids) -> Ids:
        """Return the content's number of each picture, in any shape; NO_ID for pictures that are not included."""
        rows = np.minimum(np.searchsorted(self.ids, ids), len(self.ids) - 1)
        return np.where(self.ids[rows] == ids, self.numbers[rows], NO_ID)

    def picture_ids(self, numbers: Ids) -> list[Ids]:
        """Return the ids of the pictures of each of these contents."""
        order, starts = self._by_number
        return [self.ids[order[starts[number] : starts[number + 1]]] for number in numbers.tolist()]

    @cached_property
    def _by_number(self) -> tuple[Ids, Ids]:
        order = np.argsort(self.numbers, kind="stable")
        return order, np.searchsorted(self.numbers[order], np.arange(len(self) + 1))


def near_pairs(
    index: VectorIndex,
    contents: Contents,
    numbers: Ids,
    vectors: Vectors,
    among: Ids | None = None,
    most: int = NEIGHBOURS,
) -> tuple[ContentPairs, Array]:
    """Find the contents near to each of these (Q,), `most` at most, by their descriptors (Q, C).

    Returns pairs (P, 2) and their cosines by the index. `among` restricts the search to these ids.
    """
    parts: list[tuple[ContentPairs, Array]] = [(np.empty((0, 2), np.int64), np.empty(0, np.float32))]
    k = _FIRST_K
    while len(numbers):
        distances, ids = index.search(vectors, k, among)
        others = contents.number_of(ids)
        cosines = 1 - distances
        is_new = _is_first_in_row(others) & (others != numbers[:, None]) & (others != NO_ID)
        again = np.zeros(len(ids), bool)  # too few contents, and perhaps more further on
        if ids.shape[1] == k < _MAX_K:
            again = (cosines[:, -1] >= MIN_COSINE) & (is_new.sum(axis=1) < most)
        is_pair = is_new & (is_new.cumsum(axis=1) <= most) & (cosines >= MIN_COSINE) & ~again[:, None]
        rows, columns = np.nonzero(is_pair)
        pairs = np.stack([numbers[rows], others[rows, columns]], axis=1)
        parts.append((np.sort(pairs, axis=1), cosines[rows, columns]))
        numbers, vectors, k = numbers[again], vectors[again], k * _K_GROWTH
    pairs, cosines = (np.concatenate(part) for part in zip(*parts, strict=True))
    return pairs, cosines


def exact_cosines(catalogue: Catalogue, fingerprint: str, ids: Ids, others: Ids) -> Array:
    """Return the cosines (P,) of the stored descriptors of pairs of pictures; 0 if the catalogue lacks one."""
    cosines = np.zeros(len(ids), np.float32)
    for start in range(0, len(ids), _BATCH):
        span = slice(start, start + _BATCH)
        parts = list(catalogue.descriptors.of(np.unique(np.concatenate([ids[span], others[span]])), fingerprint))
        if parts:
            present, vectors = (np.concatenate(part) for part in zip(*parts, strict=True))
            a, b = (np.minimum(np.searchsorted(present, side[span]), len(present) - 1) for side in (ids, others))
            is_present = (present[a] == ids[span]) & (present[b] == others[span])
            u = unit(vectors)
            cosines[span] = np.where(is_present, np.einsum("ij,ij->i", u[a], u[b]), 0)
    return cosines


def _is_first_in_row(rows: Ids) -> NDArray[np.bool_]:
    """Mark the first occurrence of each number in its row, (Q, K)."""
    order = np.argsort(rows, axis=1, kind="stable")
    rising = np.take_along_axis(rows, order, axis=1)
    first = np.ones(rows.shape, bool)
    first[:, 1:] = rising[:, 1:] != rising[:, :-1]
    placed = np.empty_like(first)
    np.put_along_axis(placed, order, first, axis=1)
    return placed
