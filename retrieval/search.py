"""The flow of a query after the index: candidates rescored by the head from their stored descriptors."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from indexes.base import Ids
from indexes.catalogue import Catalogue
from indexes.faiss_index import unit
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


def rescored(catalogue: Catalogue, head: Head, fingerprint: str, descriptor: Array, ids: Ids) -> list[Hit]:
    """The pool of a query's descriptor (C,), nearest by the head first; `ids` (N,) as the index ranked them.

    The index's ranks and distances are told as they are by the stored descriptors, to which codes only come near.
    """
    candidates, vectors = catalogue.candidates(ids, fingerprint)
    if not candidates:
        return []
    index_distances = 1 - unit(vectors) @ unit(descriptor[None])[0]
    index_ranks = _ranks(np.argsort(index_distances, kind="stable"))
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
            index_rank=int(index_ranks[place]),
            index_distance=float(index_distances[place]),
            width=candidates[place].width,
            height=candidates[place].height,
        )
        for rank, place in enumerate(order, 1)
    ]


def _ranks(order: Ids) -> Ids:
    """Each place's rank in the order, from 1 on."""
    ranks = np.empty_like(order)
    ranks[order] = np.arange(1, len(order) + 1)
    return ranks
