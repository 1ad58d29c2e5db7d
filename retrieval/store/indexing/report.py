"""The report of an indexing run."""

import json
from collections import Counter
from dataclasses import dataclass, field

from indexes.catalogue.catalogue import Catalogue
from retrieval.sources.location import PictureLocation, gallery_name

_PASSED_OVER = "passed_over"


@dataclass(repr=False)
class IndexReport:
    """The results of a run. `added` pictures are new, changed or restored; `reused` of them took a known descriptor.

    `embedded` went through the network, `unchanged` were skipped, `missing` vanished since the last run, and `failed`
    are broken, with the reasons in `failures`. `kept_roots` are galleries that seemed empty or were absent, so that
    nothing of them was marked missing; of `empty_roots` nothing is known either. `passed_over` counts the files that
    are not named like pictures, by suffix, and what else was left out, by the reason (`sources.entries.LEFT_OUT`).
    `notes` are sentences about other problems.
    """

    added: int = 0
    reused: int = 0
    embedded: int = 0
    unchanged: int = 0
    missing: int = 0
    failures: list[tuple[PictureLocation, str]] = field(default_factory=list)
    kept_roots: tuple[PictureLocation, ...] = ()
    empty_roots: tuple[PictureLocation, ...] = ()
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


def keep_passed_over(catalogue: Catalogue, gallery: bytes, passed_over: Counter[str]) -> None:
    """Keep what a scan of a gallery has passed over, for `read_passed_over`."""
    kept = json.loads(catalogue.settings.get(_PASSED_OVER) or "{}") | {gallery_name(gallery): passed_over}
    if passed_over or len(kept) > 1:
        catalogue.settings.set(**{_PASSED_OVER: json.dumps(kept)})


def read_passed_over(catalogue: Catalogue) -> Counter[str]:
    """Return what the last scans of all galleries have passed over, by the endings of names or by the reason."""
    kept = json.loads(catalogue.settings.get(_PASSED_OVER) or "{}")
    galleries = [kept.get(gallery_name(root), {}) for root in catalogue.scans.roots()]
    return sum(map(Counter, galleries), Counter())
