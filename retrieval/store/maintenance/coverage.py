"""Coverage: as many hits as are needed so that one of them is right with a given probability, by labelled pictures.

Split conformal prediction: a question's hits are shown while the probability that all before are wrong, the product of
1 - p, is at least a threshold. A labelled picture's score is that product before its first right hit; of n scores, the
threshold is the k-th smallest, k = floor((1 - coverage) (n + 1)). A question that is drawn like the pictures, and is
none of them, then has a right hit among those shown with at least this probability.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import numpy as np

from indexes.catalogue.catalogue import Catalogue
from indexes.errors import StoreError
from retrieval.common.errors import GalleryError
from retrieval.common.jsonable import from_json
from retrieval.common.metrics import Floats
from retrieval.common.text import percent
from retrieval.datasets.pair_sampling import Flags
from retrieval.store.maintenance.labelled_pictures import MOST_HITS

if TYPE_CHECKING:
    from retrieval.explain.hit import Hit

COVERAGE = 0.9
"""What a calibration reports."""

_MISSES = 10  # pictures that may miss: of fewer, their share among unseen ones is known by a third or worse
_KEPT = 999  # scores, so that a coverage of three digits has one of its own
_SAME = 1e-6  # distance by the descriptors below which a hit has the question's own content, which is no evidence

_SETTING = "coverage"


@dataclass(frozen=True)
class CoverageRule:
    """Which hits to show for this `coverage`: in `measured` of the `pictures` labelled ones a right hit is shown."""

    coverage: float
    threshold: float
    measured: float
    pictures: int

    @property
    def sentence(self) -> str:
        """What the number of hits means."""
        return (
            f"If the gallery has this kind, one of so many hits shows it with {percent(self.coverage)}: that held for"
            f" {percent(self.measured)} of {self.pictures:,} labelled pictures."
        )

    def needed(self, hits: Iterable[Hit]) -> Iterator[Hit]:
        """Yield the first hits, as many as are needed; at most 50."""
        all_wrong = 1.0
        for hit in hits:
            if all_wrong < self.threshold or hit.rank > MOST_HITS:
                return
            yield hit
            if hit.index_distance >= _SAME:
                all_wrong *= 1 - (hit.probability or 0.0)


@dataclass(frozen=True)
class CoverageSample:
    """The scores of labelled pictures, rising: at most 999 of all `pictures`."""

    pictures: int
    scores: tuple[float, ...]

    @classmethod
    def of(cls, probabilities: Floats, right: Flags) -> CoverageSample:
        """Score pictures by their hits (Q, K): the probability of each, and whether it is right."""
        all_wrong, found = chance_that_all_are_wrong(probabilities), right.any(axis=1)
        before = np.take_along_axis(all_wrong, right.argmax(axis=1)[:, None], 1)[:, 0]
        scores, count = np.sort(np.where(found, before, 0.0)), min(len(right), _KEPT)
        kept = (np.arange(1, count + 1) * (len(scores) + 1)) // (count + 1) - 1
        return cls(len(scores), tuple(scores[kept].tolist()))

    def rule(self, coverage: float) -> CoverageRule | None:
        """Return the rule for this coverage (0 to 1); None if the sample does not carry it."""
        place = math.floor((1 - coverage) * (len(self.scores) + 1) + 1e-9)
        if (1 - coverage) * (self.pictures + 1) + 1e-9 < _MISSES or not self.scores[place - 1]:
            return None
        threshold = self.scores[place - 1]
        return CoverageRule(coverage, threshold, float(np.mean(np.array(self.scores) >= threshold)), self.pictures)

    @property
    def most(self) -> float | None:
        """The highest coverage, in hundredths, that the sample carries."""
        return next((share / 100 for share in range(99, 0, -1) if self.rule(share / 100)), None)


def chance_that_all_are_wrong(probabilities: Floats) -> Floats:
    """Return the probability (Q, K) that all hits before are wrong, by each hit's probability (Q, K) of being right."""
    products = np.cumprod(1 - probabilities, axis=1)
    return np.concatenate([np.ones((len(products), 1)), products[:, :-1]], axis=1)


def read_coverage(catalogue: Catalogue) -> CoverageSample | None:
    """Return the sample that is saved in a store. Raises StoreError."""
    text = catalogue.settings.get(_SETTING)
    try:
        sample: CoverageSample | None = from_json(CoverageSample, json.loads(text)) if text else None
        if sample and (list(sample.scores) != sorted(sample.scores) or len(sample.scores) > sample.pictures):
            raise ValueError("its scores do not rise")
    except (ValueError, RecursionError) as error:
        raise StoreError(f"the coverage in {catalogue.folder} is damaged: run `retrieve calibrate` again") from error
    return sample


def coverage_setting(sample: CoverageSample | None) -> dict[str, str]:
    """Return the setting that keeps a sample in a store, or none."""
    return {_SETTING: json.dumps(asdict(sample)) if sample else ""}


def require_rule(catalogue: Catalogue, coverage: float, is_calibrated: bool) -> CoverageRule:
    """Return the rule for this coverage of a store. Raises GalleryError if its labels do not carry it."""
    sample = read_coverage(catalogue) if is_calibrated else None
    if sample is None:
        raise GalleryError(
            f"{catalogue.folder} does not know how many hits are needed, which labels tell: index pictures in class"
            " folders, nearly all of the store, and run `retrieve calibrate`, or leave out --coverage"
        )
    rule, most = sample.rule(coverage), sample.most
    if rule is None:
        remedy = f"ask for at most {most:g}" if most else "leave out --coverage"
        raise GalleryError(
            f"the {sample.pictures:,} pictures in class folders of {catalogue.folder} do not carry a coverage of"
            f" {coverage:g}: {remedy}"
        )
    return rule
