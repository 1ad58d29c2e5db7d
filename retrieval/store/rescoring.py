"""Rescoring: the head's ranking of the candidates that the index found, by their stored descriptors."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from indexes.arrays import Ids, cosines, unit
from indexes.catalogue.catalogue import Catalogue
from indexes.catalogue.records import Candidate
from retrieval.explain.explanation import verdict_of
from retrieval.explain.hit import Hit
from retrieval.model.head import Array
from retrieval.sources.location import PictureAddress, parse_location
from retrieval.store.similarity import StoreSimilarity

FILE_ABSENT = "the file is absent now: is its disk mounted?"

BEST = 10
"""The best hits of a query that tuning measures; a gradual rescoring takes so many of each step."""

_Scores = tuple[Ids, Array, NDArray[np.float64], NDArray[np.float64]]
"""Candidates' ids, distances by the descriptors, and separations by the head and the model's own head, (N,) each."""

_PAGE_SIZE = 16  # hits read at once from the catalogue: few more than most queries need


@dataclass(frozen=True)
class Ranking:
    """A query's rescored candidates, nearest by the head first.

    All arrays are (N,): the ids, the separations D by the head and by the model's own, and the ranks (among these
    candidates) and distances by the descriptors alone.
    """

    similarity: StoreSimilarity
    ids: Ids
    separations: NDArray[np.float64]
    plain_separations: NDArray[np.float64]
    index_ranks: Ids
    index_distances: Array

    def __len__(self) -> int:
        return len(self.ids)

    def part(self, rows: slice | NDArray[np.bool_] | Ids) -> Ranking:
        """Return some rows as a ranking, or all in another order."""
        return replace(
            self,
            ids=self.ids[rows],
            separations=self.separations[rows],
            plain_separations=self.plain_separations[rows],
            index_ranks=self.index_ranks[rows],
            index_distances=self.index_distances[rows],
        )

    def hits(self, catalogue: Catalogue, generation: str | None = None) -> Iterator[Hit]:
        """Yield the hits, read from the catalogue as they are taken; ids that it no longer has are skipped.

        Raises StoreError if it is still of the index's `generation`, and so should have them.
        """
        rank = 1
        for start in range(0, len(self), _PAGE_SIZE):
            ids = self.ids[start : start + _PAGE_SIZE]
            pictures = {candidate.id: candidate for candidate in catalogue.pictures.candidates(ids)}
            _require_all(catalogue, generation, len(pictures), len(ids))
            for row, id_ in enumerate(ids.tolist(), start):
                if id_ in pictures:
                    yield self._hit(rank, row, pictures[id_])
                    rank += 1

    def _hit(self, rank: int, row: int, picture: Candidate) -> Hit:
        separation, plain_separation = self.separations[row], self.plain_separations[row]
        distance, plain_distance = (
            float(head.distance(each))
            for head, each in ((self.similarity.head, separation), (self.similarity.plain, plain_separation))
        )
        return Hit(
            rank=rank,
            id=picture.id,
            path=parse_location(picture.path),
            label=picture.label,
            similarity=1 - distance,
            distance=distance,
            verdict=verdict_of(distance),
            probability=self.similarity.hit_probability(separation),
            familiarity=self.similarity.familiarity(plain_separation),
            plain_similarity=1 - plain_distance,
            plain_distance=plain_distance,
            index_rank=int(self.index_ranks[row]),
            index_distance=float(self.index_distances[row]),
            width=picture.width,
            height=picture.height,
        )


def rescore(
    catalogue: Catalogue, similarity: StoreSimilarity, fingerprint: str, descriptor: Array, ids: Ids
) -> Ranking:
    """Rank the candidates `ids` (N,) of a query's descriptor (C,) by the head.

    The index's ranks and distances are computed from the stored descriptors, which its codes only approximate.
    """
    return _rank(similarity, _scorer(catalogue, similarity, fingerprint, descriptor)(ids))


def rescored_hits(
    catalogue: Catalogue,
    similarity: StoreSimilarity,
    fingerprint: str,
    descriptor: Array,
    ids: Ids,
    step: int | None,
    generation: str | None = None,
) -> Iterator[Hit]:
    """Yield a query's hits, best first; its candidates `ids` (N,), nearest by the index first, are rescored gradually.

    The first ten hits are the best of `step` candidates, the next ten the best that are left of twice as many, and so
    on; without a step all are rescored at once. So the first hits never depend on how many are taken; one that lies
    deeper among the candidates than its step comes late. Raises StoreError if the catalogue lacks one of them and is
    still of the index's `generation`.
    """
    score, step = _scorer(catalogue, similarity, fingerprint, descriptor), step or max(1, len(ids))
    scores: list[_Scores] = []
    taken: Ids = ids[:0]
    for start in range(0, len(ids), step):
        scored = score(ids[start : start + step])
        _require_all(catalogue, generation, sum(len(each[0]) for each in scored), len(ids[start : start + step]))
        scores += scored
        ranking = _rank(similarity, scores)
        left = ranking.part(~np.isin(ranking.ids, taken))
        if start + step < len(ids):
            left = left.part(slice(BEST))
        yield from left.hits(catalogue, generation)
        taken = np.append(taken, left.ids)


def _require_all(catalogue: Catalogue, generation: str | None, found: int, expected: int) -> None:
    if found < expected and generation is not None and catalogue.generation == generation:
        raise catalogue.damaged("the records of pictures that its index has")


def _scorer(
    catalogue: Catalogue, similarity: StoreSimilarity, fingerprint: str, descriptor: Array
) -> Callable[[Ids], list[_Scores]]:
    direction, measure = unit(descriptor[None])[0], similarity.measure_from(descriptor)

    def score(ids: Ids) -> list[_Scores]:
        return [
            (stored, 1 - cosines(vectors, direction), *measure(vectors))
            for stored, vectors in catalogue.descriptors.of(ids, fingerprint)
        ]

    return score


def _rank(similarity: StoreSimilarity, scores: list[_Scores]) -> Ranking:
    if not scores:
        none = np.empty(0)
        return Ranking(similarity, none.astype(np.int64), none, none, none.astype(np.int64), none.astype(np.float32))
    ids, index_distances, separations, plain = (np.concatenate(part) for part in zip(*scores, strict=True))
    index_ranks = np.argsort(np.lexsort((ids, index_distances))) + 1  # ties by id, whatever index found them
    unranked = Ranking(similarity, ids, separations, plain, index_ranks, index_distances)
    return unranked.part(np.lexsort((ids, separations)))  # not by d, which saturates


def existing_files(ranked: Iterable[Hit], catalogue: Catalogue | None = None) -> Iterator[Hit]:
    """Yield the hits whose files exist, ranked anew, without files that were deleted since they were indexed.

    A file that links lead to comes once. One in a closed folder or on an unmounted disk is not deleted, only absent; it
    yields to an equal one that the catalogue has elsewhere, as after a gallery was moved. Servers are not queried: a
    remote file that is absent is reported when it is to be explained.
    """
    rank, seen = 1, set[str]()
    for hit in ranked:
        note = None
        if not isinstance(hit.path, PictureAddress):
            try:
                hit.path.lstat()
            except OSError as error:
                if isinstance(error, FileNotFoundError) and os.path.isdir(hit.path.parent):
                    continue
                if catalogue is not None and _is_elsewhere(catalogue, hit.id):
                    continue
                note = FILE_ABSENT
            real = os.path.realpath(hit.path)
            if real in seen:
                continue
            seen.add(real)
        yield replace(hit, rank=rank, note=note)
        rank += 1


def _is_elsewhere(catalogue: Catalogue, picture: int) -> bool:
    """Return whether a file of a picture's content exists, at another path of this machine."""
    details = catalogue.pictures.get(picture)
    paths = map(parse_location, catalogue.pictures.paths_of(details.hash) if details else ())
    return any(not isinstance(path, PictureAddress) and path.is_file() for path in paths)
