"""Calibration of hits: the neuron that made them is found, and judges those of unseen pictures."""

import numpy as np
import pytest

from retrieval.common.metrics import sigmoid
from retrieval.store.maintenance.hit_calibration import calibrate_hits
from retrieval.store.maintenance.labelled_pictures import LabelledHits
from retrieval.store.similarity import StoreSimilarity
from tests.support.labelled import a_bundle

SIMILARITY = StoreSimilarity.of(a_bundle().head)  # which is far too sure that pictures differ


def made(slope: float, intercept: float, pictures: int = 2000) -> LabelledHits:
    """Return hits that are right with sigmoid(slope z + intercept), z = -D."""
    random = np.random.default_rng(0)
    separations = np.sort(random.uniform(0, 2, (pictures, 20)), axis=1)
    right = random.random(separations.shape) < sigmoid(intercept - slope * separations)
    return LabelledHits(separations, right, np.zeros(pictures, np.int64), np.ones(pictures, np.bool_))


def halves(pictures: int) -> list[tuple[np.ndarray, np.ndarray]]:
    return [(np.arange(0, pictures, 2), np.arange(1, pictures, 2))]


def test_the_neuron_that_made_the_hits_is_found() -> None:
    found = calibrate_hits(SIMILARITY, made(6, 1), halves(2000))
    assert found.neuron == pytest.approx((6, 1), abs=0.5)
    assert found.scores.pictures == 2000
    assert found.scores.before > 0.1
    assert found.scores.after < 0.02
    assert found.coverage is not None
    assert found.coverage.pictures == 2000
    assert found.scores.needed is not None
    assert found.scores.needed > 1


def test_hits_that_are_infinitely_far_are_none() -> None:
    hits = made(6, 1)
    hits.separations[:, 3:] = np.inf
    hits.right[:, 3:] = False
    found = calibrate_hits(SIMILARITY, hits, halves(2000))
    assert found.neuron == pytest.approx((6, 1), abs=0.5)
    assert found.scores.needed is None  # a tenth of the pictures and more have no right hit


def test_nearer_hits_are_never_less_probable() -> None:
    slope, intercept = calibrate_hits(SIMILARITY, made(-3, -1), halves(2000)).neuron
    assert slope == pytest.approx(0, abs=1e-6)
    assert 0 < sigmoid(np.array(intercept)) < 1


def test_wrong_hits_are_improbable_where_the_first_ones_are_all_right() -> None:
    hits = made(6, 1, 200)
    hits.separations[:, :5] /= 20
    hits.separations[:, 5:] += 2
    hits.right[:, :5], hits.right[:, 5:] = True, False
    slope, intercept = calibrate_hits(SIMILARITY, hits, halves(200)).neuron
    near, far = sigmoid(slope * -hits.separations[:, [0, -1]] + intercept).T
    assert near.min() > 0.9
    assert far.max() < 0.1


def test_pictures_without_another_of_their_class_do_not_count_for_coverage() -> None:
    hits = made(6, 1)
    hits.findable[:500] = False
    found = calibrate_hits(SIMILARITY, hits, halves(2000))
    assert found.coverage is not None
    assert (found.scores.pictures, found.coverage.pictures) == (2000, 1500)
