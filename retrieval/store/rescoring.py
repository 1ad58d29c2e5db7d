"""Rescoring: the head's ranking of the candidates that the index found, by their stored descriptors."""

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
from retrieval.sources.location import PictureAddress, parse_location

FILE_ABSENT = "the file is absent now: is its disk mounted?"

_PAGE_SIZE = 16  # hits read at once from the catalogue: few more than most queries need


@dataclass(frozen=True)
class Ranking:
    """A query's candidates, nearest by the head first.

    All arrays are (N,): the ids, the head's distances d, and the ranks and distances by the descriptors alone.
    """

    ids: Ids
    distances: NDArray[np.float64]
    index_ranks: Ids
    index_distances: Array

    def __len__(self) -> int:
        return len(self.ids)

    def hits(self, catalogue: Catalogue) -> Iterator[Hit]:
        """Yield the hits, read from the catalogue as they are taken; ids that it no longer has are skipped."""
        rank = 1
        for start in range(0, len(self), _PAGE_SIZE):
            ids = self.ids[start : start + _PAGE_SIZE]
            pictures = {candidate.id: candidate for candidate in catalogue.pictures.candidates(ids)}
            for row, id_ in enumerate(ids.tolist(), start):
                if id_ in pictures:
                    yield self._hit(rank, row, pictures[id_])
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
    """Rank the candidates `ids` (N,) of a query's descriptor (C,) by the head.

    The index's ranks and distances are computed from the stored descriptors, which its codes only approximate.
    """
    embedded, direction = head.embed(descriptor[None]), unit(descriptor[None])[0]
    parts = [
        (stored, 1 - unit(vectors) @ direction, head.separation(embedded, head.embed(vectors)))
        for stored, vectors in catalogue.descriptors.of(ids, fingerprint)
    ]
    if not parts:
        none = np.empty(0)
        return Ranking(none.astype(np.int64), none, none.astype(np.int64), none.astype(np.float32))
    stored_ids, index_distances, separations = (np.concatenate(part) for part in zip(*parts, strict=True))
    index_ranks = np.argsort(np.lexsort((stored_ids, index_distances))) + 1  # ties by id, whatever index found them
    order = np.lexsort((stored_ids, separations))  # not by d, which saturates
    return Ranking(stored_ids[order], head.distance(separations[order]), index_ranks[order], index_distances[order])


def existing_files(ranked: Iterable[Hit]) -> Iterator[Hit]:
    """Yield the hits whose files exist, ranked anew, without files that were deleted since they were indexed.

    A file in a closed folder or on an unmounted disk is not deleted, only absent. Servers are not queried: a remote
    file that is absent is reported when it is to be explained.
    """
    rank = 1
    for hit in ranked:
        note = None
        if not isinstance(hit.path, PictureAddress):
            try:
                hit.path.lstat()
            except OSError as error:
                if isinstance(error, FileNotFoundError) and os.path.isdir(hit.path.parent):
                    continue
                note = FILE_ABSENT
        yield replace(hit, rank=rank, note=note)
        rank += 1
