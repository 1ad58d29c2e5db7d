"""Coverage: scores and thresholds by hand, what a sample carries, and what unseen questions get."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from retrieval.common.errors import GalleryError
from retrieval.common.metrics import Floats
from retrieval.datasets.pair_sampling import Flags
from retrieval.explain.hit import Hit
from retrieval.store.maintenance.coverage import CoverageRule, CoverageSample, coverage_setting, require_rule
from tests.support.hits import a_hit
from tests.support.labelled import a_catalogue


def drawn(count: int, seed: int) -> tuple[Floats, Flags]:
    """Return hits that are right with a probability which is known too high by a tenth."""
    random = np.random.default_rng(seed)
    right = -np.sort(-random.beta(1, 2, (count, 30)), axis=1)
    return np.minimum(right + 0.1, 0.99), random.random(right.shape) < right


def hits(*probabilities: float) -> list[Hit]:
    return [
        replace(a_hit(rank, Path("x"), None), probability=probability, index_distance=0.3)
        for rank, probability in enumerate(probabilities, 1)
    ]


def test_a_score_is_the_chance_that_all_before_the_first_right_one_are_wrong() -> None:
    probabilities = np.array([[0.5, 0.4, 0.3], [0.9, 0.2, 0.1], [0.6, 0.5, 0.2]])
    right = np.array([[False, False, True], [True, False, True], [False, False, False]])
    sample = CoverageSample.of(probabilities, right)
    assert sample.pictures == 3
    assert sample.scores == pytest.approx((0, 0.3, 1))  # none is right; (1 - 0.5) (1 - 0.4); the first is


def test_the_threshold_is_the_score_in_its_place() -> None:
    sample = CoverageSample(199, tuple(np.arange(1, 200) / 200))
    rule = sample.rule(0.9)
    assert rule is not None
    assert rule.threshold == pytest.approx(20 / 200)  # floor(0.1 * 200)
    assert rule.measured == pytest.approx(180 / 199)


@pytest.mark.parametrize(("count", "coverage", "is_carried"), [(99, 0.9, True), (98, 0.9, False), (999, 0.99, True)])
def test_ten_pictures_may_miss(count: int, coverage: float, is_carried: bool) -> None:
    sample = CoverageSample.of(*drawn(count, 0))
    assert (sample.rule(coverage) is not None) is is_carried


def test_what_is_not_found_cannot_be_covered() -> None:
    scores = (0.0,) * 30 + (0.5,) * 169
    sample = CoverageSample(199, scores)
    assert sample.rule(0.9) is None
    assert sample.most == 0.84


@pytest.mark.parametrize("count", [300, 3000])
def test_unseen_questions_are_covered_as_often_as_said(count: int) -> None:
    shares = []
    for seed in range(20):
        rule = CoverageSample.of(*drawn(count, seed)).rule(0.9)
        assert rule is not None
        probabilities, right = drawn(500, 1000 + seed)
        shown = [len(list(rule.needed(hits(*row)))) for row in probabilities]
        shares.append(np.mean([row[:few].any() for row, few in zip(right, shown, strict=True)]))
    assert np.mean(shares) == pytest.approx(0.9, abs=0.015)


def test_of_many_scores_a_thousandth_is_kept() -> None:
    """A coverage of three digits has the threshold of all scores, or a stricter one."""
    probabilities, right = drawn(4500, 3)
    kept = CoverageSample.of(probabilities, right)
    before = np.concatenate([np.ones((4500, 1)), np.cumprod(1 - probabilities, axis=1)[:, :-1]], axis=1)
    scores = np.sort(np.where(right.any(1), before[np.arange(4500), right.argmax(1)], 0))
    assert (kept.pictures, len(kept.scores)) == (4500, 999)
    for coverage in (0.5, 0.9, 0.915):
        rule = kept.rule(coverage)
        assert rule is not None
        place = int((1 - coverage) * 4501 + 1e-9)
        assert scores[place - 6] <= rule.threshold <= scores[place - 1]


def test_hits_are_shown_while_all_before_may_be_wrong() -> None:
    rule = CoverageRule(0.9, 0.3, 0.9, 100)
    assert len(list(rule.needed(hits(0.5, 0.5, 0.5)))) == 2  # 1, 0.5, 0.25
    assert len(list(rule.needed(hits(0.9, 0.9)))) == 1
    assert len(list(rule.needed(hits(*[0.0] * 90)))) == 50
    copy, *others = hits(1.0, 0.5, 0.5, 0.5)
    assert len(list(rule.needed([replace(copy, index_distance=0.0), *others]))) == 3  # a copy proves nothing


def test_a_store_says_why_it_does_not_know(tmp_path: Path) -> None:
    catalogue = a_catalogue(tmp_path, {})
    with pytest.raises(GalleryError, match="run `retrieve calibrate`, or leave out --coverage"):
        require_rule(catalogue, 0.9, is_calibrated=True)
    sample = CoverageSample.of(*drawn(199, 0))
    catalogue.settings.set(**coverage_setting(sample))
    assert require_rule(catalogue, 0.9, is_calibrated=True) == sample.rule(0.9)
    with pytest.raises(GalleryError, match=r"do not carry a coverage of 0\.99: ask for at most 0\.95"):
        require_rule(catalogue, 0.99, is_calibrated=True)
    with pytest.raises(GalleryError, match="does not know how many hits are needed"):
        require_rule(catalogue, 0.9, is_calibrated=False)
