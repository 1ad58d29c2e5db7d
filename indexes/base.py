"""One interface for vector indexes, whatever the engine behind it."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[np.float32]
Ids = NDArray[np.int64]

NONE = -1
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
