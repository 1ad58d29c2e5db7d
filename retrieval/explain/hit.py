"""The results of queries."""

from dataclasses import dataclass

from retrieval.common.text import percent
from retrieval.explain.explanation import Explanation, Verdict
from retrieval.explain.illustrated import Illustrated
from retrieval.sources.location import PictureLocation


@dataclass(frozen=True, repr=False)
class Hit(Illustrated):
    """A result of a query. Both ranks begin at 1; `index_distance` is 1 - cosine of the raw descriptors.

    `probability` is that of a hit to show the same kind as the query, and `familiarity` the share of the gallery's
    pictures whose nearest is as far as this hit, or farther. Both are None if the store has no statistics of its
    gallery, but for the probability in one that is calibrated. `plain_similarity` and `plain_distance` are those of the
    model's own head.

    `copies` are the other files that are this hit too: of the same content, or near-duplicates if those were collapsed.
    `explanation` is None if none was requested, or, with a `note`, if the file could not be read again.
    """

    rank: int
    id: int
    path: PictureLocation
    label: str | None
    similarity: float
    distance: float
    verdict: Verdict
    index_rank: int
    index_distance: float
    width: int
    height: int
    plain_similarity: float
    plain_distance: float
    probability: float | None = None
    familiarity: float | None = None
    explanation: Explanation | None = None
    note: str | None = None
    copies: tuple[PictureLocation, ...] = ()

    def __repr__(self) -> str:
        return f"<Hit {self.rank}: {str(self.path)!r}, {percent(self.similarity)}, {self.verdict}>"
