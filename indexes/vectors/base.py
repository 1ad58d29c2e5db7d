"""One interface for vector indexes, whatever the engine behind it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from indexes.arrays import Ids, Vectors

NO_ID = -1
"""What fills up a row of ids where fewer were found than asked for."""


class VectorIndex(Protocol):
    """Pictures' ids by the cosine distance of their descriptors: 1 - cos, from 0 (same direction) to 2."""

    def __len__(self) -> int: ...

    def add(self, ids: Ids, vectors: Vectors) -> None:
        """Add descriptors (N, C) under new ids (N,). Their length does not matter."""
        ...

    def remove(self, ids: Ids) -> None:
        """Take these ids out; those that are not there are passed over."""
        ...

    def search(self, queries: Vectors, k: int, among: Ids | None = None) -> tuple[NDArray[np.float32], Ids]:
        """The k nearest of each query (Q, C), nearest first: distances and ids, each (Q, min(k, found)).

        `among` restricts the search to these ids. An engine that is not exact may find fewer for a query than for
        another: its row ends with the id NONE, at distance 2.
        """
        ...


class TunedIndex(VectorIndex, Protocol):
    """A vector index as a store keeps it: it says what it is, and how far its searches look."""

    @property
    def is_exact(self) -> bool:
        """Whether a search compares every picture."""
        ...

    @property
    def kind(self) -> str:
        """What it is, with all that what was measured of it depends on."""
        ...

    @property
    def lists(self) -> int:
        """How many lists its pictures are in; 0 for an exact index."""
        ...

    @property
    def probes(self) -> int:
        """How many of them a search looks into; 0 for an exact index."""
        ...

    @probes.setter
    def probes(self, lists: int) -> None: ...

    def suits(self, count: int) -> bool:
        """Whether so many descriptors still want an index of this kind and size."""
        ...

    def close(self) -> None:
        """Give back what it holds; it is then of no more use."""
        ...


@runtime_checkable
class LabelledIndex(Protocol):
    """An index that keeps the pictures' labels, so that a search within one need not name its pictures."""

    def search_label(self, queries: Vectors, k: int, label: str) -> tuple[NDArray[np.float32], Ids]:
        """As `VectorIndex.search` among the pictures of a label."""
        ...


class IndexStorage(Protocol):
    """The place where a store's index for one model is kept. Every method raises StoreError.

    An index there is of a generation of the catalogue, or, where its change was cut short, on the way from one to
    another.
    """

    updates_in_place: bool
    """Whether an index is changed where it lies; otherwise in memory, and `keep` writes it anew."""

    def load(self, generation: str) -> TunedIndex | None:
        """The index of this generation; None where there is none."""
        ...

    def load_any(self) -> TunedIndex | None:
        """An index of whatever generation, for a reader that may not change it; None where there is none."""
        ...

    def list_generations(self) -> list[tuple[str, str]]:
        """Of each index, the generation that it was of, and the one that it may have come to in part."""
        ...

    def open_for_update(self, generation: str, target: str) -> TunedIndex | None:
        """The index that was of one generation, to be brought to another; None where that cannot be."""
        ...

    def create(self, channels: int, count: int, sample: Callable[[int], Vectors]) -> TunedIndex:
        """An empty index for `count` descriptors, which may learn from a sample of any number of them."""
        ...

    def save(self, index: Any, generation: str) -> None:
        """Keep an index of this place as that of a generation, and no other."""
        ...

    def clear(self) -> None:
        """Leave nothing there of what the store held."""
        ...

    def index_lock(self, blocking: bool) -> AbstractContextManager[bool]:
        """While it is held no other process changes the index.

        False where another does, and `must_wait` is not asked for, and there is an index to search meanwhile.
        """
        ...

    def close(self) -> None:
        """Give back what it holds; indexes that came from it stay."""
        ...
