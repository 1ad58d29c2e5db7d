"""The flow of a query: candidates from the index, rescored by the head from their stored descriptors."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from indexes.base import Ids, VectorIndex
from indexes.catalogue import Catalogue
from indexes.errors import StoreError
from indexes.faiss_index import FaissIndex
from retrieval.explain import Explanation, Verdict, verdict_of
from retrieval.head import Array, Head


@dataclass(frozen=True)
class Hit:
    """A result. Both ranks begin at 1; `index_distance` is 1 - cosine of the raw descriptors.

    `explanation` is None where none was asked for, or, with a `note`, where the file could not be read again.
    """

    rank: int
    path: Path
    label: str | None
    similarity: float
    distance: float
    verdict: Verdict
    index_rank: int
    index_distance: float
    width: int
    height: int
    explanation: Explanation | None = None
    note: str | None = None


def open_index(catalogue: Catalogue, fingerprint: str, must_save: bool = False) -> VectorIndex:
    """The catalogue's vector index: from its file, or built anew where that is of another generation or damaged.

    What is built is written for the next time where the store can be written; a failure of that is an error only
    with `must_save`. Raises StoreError.
    """
    generation = catalogue.generation
    origin = f"{fingerprint[:16]}-{generation}"
    index = FaissIndex.load(catalogue.folder, origin)
    if index is not None:
        return index
    built: FaissIndex | None = None
    for ids, vectors in catalogue.vectors(fingerprint):
        built = built or FaissIndex.empty(vectors.shape[1])
        built.add(ids, vectors)
    if built is None:
        return FaissIndex.empty(1)
    if catalogue.writable and catalogue.generation == generation:
        with contextlib.nullcontext() if must_save else contextlib.suppress(StoreError):
            built.save(catalogue.folder, origin)
    return built


def rescored(
    catalogue: Catalogue,
    head: Head,
    fingerprint: str,
    descriptor: Array,
    ids: Ids,
    index_distances: NDArray[np.float32],
) -> list[Hit]:
    """The pool of a query's descriptor (C,), nearest by the head first; `ids` (N,) as the index ranked them."""
    candidates, vectors = catalogue.candidates(ids, fingerprint)
    if not candidates:
        return []
    index_ranks = {int(id_): rank for rank, id_ in enumerate(ids, 1)}
    separations = head.separation(head.embed(descriptor[None]), head.embed(vectors))
    distances = head.distance(separations)
    order = np.argsort(separations, kind="stable")  # not by d, which saturates
    return [
        Hit(
            rank=rank,
            path=Path(os.fsdecode(candidates[place].path)),
            label=candidates[place].label,
            similarity=float(1 - distances[place]),
            distance=float(distances[place]),
            verdict=verdict_of(float(distances[place])),
            index_rank=index_ranks[candidates[place].id],
            index_distance=float(index_distances[index_ranks[candidates[place].id] - 1]),
            width=candidates[place].width,
            height=candidates[place].height,
        )
        for rank, place in enumerate(order, 1)
    ]
