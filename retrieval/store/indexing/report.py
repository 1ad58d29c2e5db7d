"""The report of an indexing run."""

from collections import Counter
from dataclasses import dataclass, field

from retrieval.sources.location import PictureLocation


@dataclass(repr=False)
class IndexReport:
    """The results of a run. `added` pictures are new, changed or restored; `reused` of them took a known descriptor.

    `embedded` went through the network, `unchanged` were skipped, `missing` vanished since the last run, and `failed`
    are broken, with the reasons in `failures`. `kept_roots` are galleries that seemed empty or were absent, so that
    nothing of them was marked missing. `passed_over` counts the files that are not named like pictures, by suffix.
    `notes` are sentences about other problems.
    """

    added: int = 0
    reused: int = 0
    embedded: int = 0
    unchanged: int = 0
    missing: int = 0
    failures: list[tuple[PictureLocation, str]] = field(default_factory=list)
    kept_roots: tuple[PictureLocation, ...] = ()
    passed_over: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0
    notes: tuple[str, ...] = ()

    def __repr__(self) -> str:
        names = ("added", "reused", "embedded", "unchanged", "missing", "failed")
        counts = ", ".join(f"{name}={getattr(self, name)}" for name in names)
        return f"IndexReport({counts}, seconds={self.seconds:.1f})"

    @property
    def failed(self) -> int:
        """The number of broken files."""
        return len(self.failures)
