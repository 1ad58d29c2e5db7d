"""The flow of a query after the index: candidates rescored by the head from their stored descriptors."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from indexes.arrays import Ids, unit
from indexes.catalogue.catalogue import Catalogue
from indexes.catalogue.records import Candidate
from retrieval.explain.explanation import verdict_of
from retrieval.explain.hit import Hit
from retrieval.model.head import Array, Head
from retrieval.sources.location import PictureAddress, PictureLocation, parse_location

FILE_ABSENT = "the file is not there now: is its disk mounted?"

_PAGE_SIZE = 16  # hits read at once from the catalogue: few more than are mostly asked for


@dataclass(frozen=True)
class Ranking:
    """A query's pool, nearest by the head first.

    Of each picture its id (N,), the head's distance d (N,), and its rank (N,) and distance (N,) by the descriptors.
    """

    ids: Ids
    distances: NDArray[np.float64]
    index_ranks: Ids
    index_distances: Array

    def __len__(self) -> int:
        return len(self.ids)

    def hits(self, catalogue: Catalogue) -> Iterator[Hit]:
        """Each as a result, read from the catalogue as it is asked for; what is gone from there is none."""
        rank = 1
        for start in range(0, len(self), _PAGE_SIZE):
            ids = self.ids[start : start + _PAGE_SIZE]
            found = {candidate.id: candidate for candidate in catalogue.pictures.candidates(ids)}
            for place, id_ in enumerate(ids.tolist(), start):
                if id_ in found:
                    yield self._hit(rank, place, found[id_])
                    rank += 1

    def _hit(self, rank: int, row: int, picture: Candidate) -> Hit:
        distance = float(self.distances[row])
        return Hit(
            rank=rank,
            id=picture.id,
            path=parse_location(picture.path),
            label=picture.label,
            similarity=1 - distance,
            distance=distance,
            verdict=verdict_of(distance),
            index_rank=int(self.index_ranks[row]),
            index_distance=float(self.index_distances[row]),
            width=picture.width,
            height=picture.height,
        )


def rescore(catalogue: Catalogue, head: Head, fingerprint: str, descriptor: Array, ids: Ids) -> Ranking:
    """The pool of a query's descriptor (C,), in the head's order; `ids` (N,) as the index ranked them.

    The index's ranks and distances are told as they are by the stored descriptors, to which codes only come near.
    """
    asked, wanted = head.embed(descriptor[None]), unit(descriptor[None])[0]
    parts = [
        (known, 1 - unit(vectors) @ wanted, head.separation(asked, head.embed(vectors)))
        for known, vectors in catalogue.descriptors.of(ids, fingerprint)
    ]
    if not parts:
        none = np.empty(0)
        return Ranking(none.astype(np.int64), none, none.astype(np.int64), none.astype(np.float32))
    found, index_distances, separations = (np.concatenate(part) for part in zip(*parts, strict=True))
    index_ranks = _ranks(np.lexsort((found, index_distances)))  # equal ones by their ids, whatever index found them
    order = np.lexsort((found, separations))  # not by d, which saturates
    return Ranking(found[order], head.distance(separations[order]), index_ranks[order], index_distances[order])


def _ranks(order: Ids) -> Ids:
    """Each place's rank in the order, from 1 on."""
    ranks = np.empty_like(order)
    ranks[order] = np.arange(1, len(order) + 1)
    return ranks


def existing_files(ranked: Iterable[Hit]) -> Iterator[Hit]:
    """Those whose files are there, ranked anew; a file deleted since it was indexed is no result."""
    rank = 1
    for hit in ranked:
        if not _is_deleted(hit.path):
            absent = not isinstance(hit.path, PictureAddress) and not os.path.lexists(hit.path)
            yield replace(hit, rank=rank, note=FILE_ABSENT if absent else None)
            rank += 1


def _is_deleted(path: PictureLocation) -> bool:
    """Whether the file is gone from its folder; one in a closed folder or on an unmounted disk is not.

    A server is not asked: what it lacks is told where it is to be explained.
    """
    if isinstance(path, PictureAddress):
        return False
    try:
        path.lstat()
    except FileNotFoundError:
        return os.path.isdir(path.parent)
    except OSError:
        return False
    return False
