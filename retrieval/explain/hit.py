"""The results of queries."""

from dataclasses import dataclass

from retrieval.common.text import percent
from retrieval.explain.explanation import Explanation, Verdict
from retrieval.explain.illustrated import Illustrated
from retrieval.sources.location import PictureLocation


@dataclass(frozen=True, repr=False)
class Hit(Illustrated):
    """A result of a query. Both ranks begin at 1; `index_distance` is 1 - cosine of the raw descriptors.

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
    explanation: Explanation | None = None
    note: str | None = None

    def __repr__(self) -> str:
        return f"<Hit {self.rank}: {str(self.path)!r}, {percent(self.similarity)}, {self.verdict}>"
