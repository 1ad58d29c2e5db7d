"""Calibration of hits: the neuron for their probability, fitted to those of labelled pictures among all others."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from retrieval.common.metrics import Floats, calibration_error, fit_logistic
from retrieval.datasets.pair_sampling import Codes, Flags
from retrieval.store.maintenance.coverage import COVERAGE, CoverageSample, chance_that_all_are_wrong
from retrieval.store.maintenance.labelled_pictures import LabelledHits
from retrieval.store.similarity import StoreSimilarity, kind_probability

_FIRST = 5  # hits of a picture that are fitted to, and measured
_LEAST_SLOPE = 1e-3  # a lesser one is none


@dataclass(frozen=True)
class HitScores:
    """The calibration error (0 to 1) of unseen pictures' first five hits, before and after: of known classes.

    `pictures` were queries for all others. `needed` hits on average hold one of the class for 90 % of them; None if
    the pictures do not tell.
    """

    pictures: int
    before: float
    after: float
    needed: float | None


@dataclass(frozen=True)
class HitCalibration:
    """The `neuron` for hits, how it judges unseen ones, and what tells how many hits are needed."""

    neuron: tuple[float, float]
    scores: HitScores
    coverage: CoverageSample | None


def calibrate_hits(
    similarity: StoreSimilarity, hits: LabelledHits, halves: Iterable[tuple[Codes, Codes]]
) -> HitCalibration:
    """Fit the neuron to all hits, and to one of two halves of the pictures (rows) to judge the other with it."""
    nearness, right, found = similarity.nearness(hits.separations), hits.right, np.isfinite(hits.separations)
    before = similarity.hit_probabilities(hits.separations)
    if before is None:
        before = 1 - similarity.head.distance(hits.separations)
    judged = list[tuple[Floats, Floats, Flags]]()
    for one, other in halves:
        for fitted, unseen in ((one, other), (other, one)):
            after = kind_probability(_fit(nearness[fitted], right[fitted]), nearness[unseen])
            there = found[unseen] & (np.arange(found.shape[1]) < _FIRST)
            judged.append((before[unseen][there], after[there], right[unseen][there]))
    unseen_before, unseen_after, is_right = (np.concatenate(part) for part in zip(*judged, strict=True))
    neuron = _fit(nearness, right)
    known = hits.findable
    coverage, needed = _cover(kind_probability(neuron, nearness[known]), right[known], found[known])
    error_before, error_after = (calibration_error(each, is_right) for each in (unseen_before, unseen_after))
    return HitCalibration(neuron, HitScores(len(right), error_before, error_after, needed), coverage)


def _fit(nearness: Floats, right: Flags) -> tuple[float, float]:
    """Fit p = sigmoid(slope z + intercept) to the first hits (Q, K), or to all if those do not tell the slope.

    Such are first hits that are all right. Farther hits are never more probable.
    """
    for first in (_FIRST, nearness.shape[1]):
        there = np.isfinite(nearness[:, :first])
        z, is_right = nearness[:, :first][there], right[:, :first][there]
        neuron = fit_logistic(z, is_right, len(right))
        if neuron[0] > _LEAST_SLOPE:
            return neuron
    return fit_logistic(np.zeros_like(z), is_right, len(right))


def _cover(probabilities: Floats, right: Flags, found: Flags) -> tuple[CoverageSample | None, float | None]:
    """Return the sample of hits (Q, K) and how many hits on average a coverage of 90 % needs."""
    if not right.size:
        return None, None
    sample = CoverageSample.of(probabilities, right)
    rule = sample.rule(COVERAGE)
    if rule is None:
        return sample, None
    shown = (chance_that_all_are_wrong(probabilities) >= rule.threshold) & found
    return sample, float(shown.sum(axis=1).mean())
