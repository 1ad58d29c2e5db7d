"""The interface of vector indexes and of their storage, whatever the engine."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from indexes.arrays import Ids, Vectors

NO_ID = -1
"""Fills up a row of ids if fewer were found than requested."""

Neighbours = tuple[NDArray[np.float32], Ids]
"""Distances and ids, each (Q, K)."""


class VectorIndex(Protocol):
    """An index of pictures' ids by the cosine distance of descriptors: 1 - cos, from 0 (same direction) to 2."""

    def __len__(self) -> int: ...

    def add(self, ids: Ids, vectors: Vectors) -> None:
        """Add descriptors (N, C) with new ids (N,). The descriptors' lengths do not matter."""

    def remove(self, ids: Ids) -> None:
        """Remove these ids; unknown ones are ignored."""

    def search(self, queries: Vectors, k: int, among: Ids | None = None) -> Neighbours:
        """Return the k nearest of each query (Q, C), nearest first: distances and ids, each (Q, min(k, found)).

        `among` restricts the search to these ids. An engine that is not exact may find fewer for one query than for
        another: that row is filled up with NO_ID at distance 2.
        """


class TunedIndex(VectorIndex, Protocol):
    """A vector index as a store keeps it, with its kind and the extent of its searches."""

    @property
    def is_exact(self) -> bool:
        """Whether a search compares every picture."""

    @property
    def kind(self) -> str:
        """The kind of index, with everything that measurements of it depend on."""

    @property
    def lists(self) -> int:
        """The number of lists of pictures; 0 for an exact index."""

    @property
    def probes(self) -> int:
        """The number of lists that a search looks into; 0 for an exact index."""

    @probes.setter
    def probes(self, lists: int) -> None: ...

    def close(self) -> None:
        """Release resources; the index cannot be used afterwards."""


@runtime_checkable
class LabelledIndex(Protocol):
    """An index with the pictures' labels, so that a search for one label needs no list of ids."""

    def search_label(self, queries: Vectors, k: int, label: str) -> Neighbours:
        """Search as `VectorIndex.search` does, among the pictures of a label."""


class IndexStorage(Protocol):
    """The storage of a store's index for one model. Every method raises StoreError.

    A stored index is of one generation of the catalogue or, if its update was interrupted, between two.
    """

    updates_in_place: bool
    """Whether an index is changed in its storage; otherwise in memory, and `save` writes it anew."""

    def load(self, generation: str) -> TunedIndex | None:
        """Return the index of this generation; None if there is none."""

    def load_any(self) -> TunedIndex | None:
        """Return an index of any generation, for a reader that may not change it; None if there is none."""

    def list_generations(self) -> list[tuple[str, str]]:
        """Return, for each index, its generation and the one that an interrupted update may have reached in part."""

    def open_for_update(self, generation: str, target: str) -> TunedIndex | None:
        """Return the index of one generation, to be updated to `target`; None if that is impossible."""

    def create(self, channels: int, count: int, sample: Callable[[int], Vectors]) -> TunedIndex:
        """Return an empty index for `count` descriptors; `sample` draws some number of them to learn from."""

    def save(self, index: Any, generation: str) -> None:
        """Store an index that came from here as that of a generation, and delete all others."""

    def clear(self) -> None:
        """Delete everything of the store's."""

    def index_lock(self, blocking: bool) -> AbstractContextManager[bool]:
        """Keep other processes from changing the index. Yields whether the lock was acquired.

        Waits for it if `blocking`, or if there is no index to search meanwhile.
        """

    def close(self) -> None:
        """Release resources; indexes that came from here stay open."""


def no_neighbours(queries: int) -> Neighbours:
    """Return the result of a search that finds nothing."""
    return np.empty((queries, 0), np.float32), np.empty((queries, 0), np.int64)
