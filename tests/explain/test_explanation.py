"""Explanations: which map is for the verdict, one scale for both, and no evidence for identical pictures."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from retrieval.common.metrics import sigmoid
from retrieval.common.settings import MethodName
from retrieval.explain.explanation import MIN_EVIDENCE, Explanation, Heatmaps, explain_pairs, pair_inputs, verdict_of
from retrieval.explain.methods.gradcam import PixelAccess
from retrieval.model.head import Array, Head
from retrieval.model.inference import Features
from retrieval.model.preprocessing import Pixels
from tests.support.against import explain_against

A1 = np.array([[[[4, 2]], [[0, 0]]]], np.float32)  # (1, 2, 1, 2), g1 = (3, 0)
A2 = np.array([[[[0, 0]], [[8, 0]]]], np.float32)  # g2 = (0, 4)
DIFFERENT = Head(np.eye(2, dtype=np.float32), np.zeros(2, np.float32), slope=2.0, intercept=0.0, normalize=False)
SIMILAR = replace(DIFFERENT, intercept=-20.0)


def features(activations: Array) -> Features:
    return Features(activations, activations.mean((2, 3)))


def explained(head: Head, first: Array, second: Array) -> Explanation:
    (explanation,) = explain_against(head, features(first), features(second))
    return explanation


def test_the_verdict_changes_at_one_half() -> None:
    assert [verdict_of(d) for d in (0.0, 0.4999, 0.5, 1.0)] == ["similar", "similar", "different", "different"]


def test_heatmaps_by_hand() -> None:
    # D = 5, M1 = (2.4, 1.2), M2 = (6.4, 0); d = sigmoid(10).
    explanation = explained(DIFFERENT, A1, A2)
    assert (explanation.verdict, explanation.identical) == ("different", False)
    assert explanation.distance == pytest.approx(1 / (1 + np.exp(-10)))
    assert explanation.similarity == pytest.approx(1 - explanation.distance)
    np.testing.assert_allclose(explanation.query.factual, [[1.0, 0.5]], rtol=1e-6)
    np.testing.assert_allclose(explanation.hit.factual, [[1.0, 0.0]], rtol=1e-6)
    assert not explanation.query.counterfactual.any()
    assert not explanation.hit.counterfactual.any()
    assert [explanation.query.magnitude, explanation.hit.magnitude] == pytest.approx([2.4, 6.4])


def test_both_maps_of_a_picture_share_one_scale() -> None:
    signed = np.array([[[[6, 0]], [[0, 4]]]], np.float32)  # g = (3, 2)
    other = np.array([[[[0, 0]], [[0, 14]]]], np.float32)  # g = (0, 7); D = sqrt(34), r = (3, -5) / D
    explanation = explained(DIFFERENT, signed, other)
    # alpha = (3, -5) / D, so M = (18, -20) / D.
    np.testing.assert_allclose(explanation.query.factual, [[0.9, 0.0]], rtol=1e-6)
    np.testing.assert_allclose(explanation.query.counterfactual, [[0.0, 1.0]], rtol=1e-6)
    assert explanation.query.magnitude == pytest.approx(20 / np.sqrt(34))


def test_the_other_verdict_exchanges_factual_and_counterfactual() -> None:
    different, similar = explained(DIFFERENT, A1, A2), explained(SIMILAR, A1, A2)
    assert (different.verdict, similar.verdict) == ("different", "similar")
    for one, other in ((different.query, similar.query), (different.hit, similar.hit)):
        np.testing.assert_array_equal(one.factual, other.counterfactual)
        np.testing.assert_array_equal(one.counterfactual, other.factual)
        assert one.magnitude == other.magnitude


def test_exchanging_the_pictures_exchanges_their_heatmaps() -> None:
    forth, back = explained(DIFFERENT, A1, A2), explained(DIFFERENT, A2, A1)
    np.testing.assert_array_equal(forth.query.factual, back.hit.factual)
    np.testing.assert_array_equal(forth.hit.factual, back.query.factual)
    assert forth.distance == back.distance


def test_a_saturated_distance_keeps_its_evidence() -> None:
    explanation = explained(replace(DIFFERENT, slope=1000.0), A1, A2)
    assert explanation.distance == 1.0
    np.testing.assert_allclose(explanation.query.factual, [[1.0, 0.5]], rtol=1e-6)


def with_totals(query: float, hit: float, method: MethodName = MethodName.gradcam) -> Explanation:
    """Make an explanation with these totals of evidence: a quarter each for and against, in each of two cells."""
    halves = np.array([[1.0, 1.0]], np.float32)
    one, other = (Heatmaps(halves, halves, total / 4) for total in (query, hit))
    return Explanation(one, other, distance=0.2, verdict="similar", identical=False, method=method)


def test_pictures_with_evidence_below_the_minimum_match_as_wholes() -> None:
    explanation = with_totals(0.0199, 0.0201)
    assert [explanation.query.total, explanation.hit.total] == pytest.approx([0.0199, 0.0201])
    assert [explanation.is_nearly_empty(side) for side in (explanation.query, explanation.hit)] == [True, False]
    assert not explanation.as_wholes
    assert with_totals(0.0199, 0.0199).as_wholes
    assert not replace(with_totals(0, 0), identical=True).as_wholes


def test_methods_of_other_units_have_no_minimum_of_evidence() -> None:
    for method in (MethodName.eigencam, MethodName.gradcam_plus_plus, MethodName.local, MethodName.scorecam):
        assert not with_totals(0.001, 0.001, method).as_wholes
        assert with_totals(0, 0, method).as_wholes


def test_the_minimum_evidence_moves_a_similarity_by_less_than_half_a_point() -> None:
    most = max(abs(sigmoid(np.array(x + MIN_EVIDENCE)) - sigmoid(np.array(x))) for x in np.linspace(-3, 3, 601))
    assert 0.0049 < most < 0.005


def is_empty(explanation: Explanation) -> bool:
    heatmaps = (explanation.query, explanation.hit)
    maps = [each for one in heatmaps for each in (one.factual, one.counterfactual)]
    return all(one.magnitude == 0 for one in heatmaps) and all((each == 0).all() for each in maps)


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("head", [DIFFERENT, SIMILAR])
def test_identical_pictures_have_no_evidence(head: Head, normalize: bool) -> None:
    activations = np.random.default_rng(0).random((1, 2, 3, 3), np.float32)
    with np.errstate(all="raise"):
        explanation = explained(replace(head, normalize=normalize), activations, activations)
    assert explanation.identical
    assert is_empty(explanation)
    assert explanation.query.factual.shape == (3, 3)


def test_no_network_runs_for_identical_pictures() -> None:
    described = []

    def describe(pictures: Sequence[Pixels]) -> Array:
        described.append(len(pictures))
        return np.array([(each.mean(), each[0, 0, 0]) for each in pictures], np.float32)

    pixels = [np.full((8, 8, 3), shade, np.uint8) for shade in (3, 3, 9)]
    activations = np.array([[[[3]], [[1]]], [[[3]], [[1]]], [[[9]], [[2]]]], np.float32)
    access = PixelAccess(pixels, (0, 0, 0), describe)
    for others, runs in (([1], False), ([1, 2], True)):
        sides = pair_inputs(DIFFERENT, features(activations), [0] * len(others), others, access)
        same, *different = explain_pairs(sides, np.full(len(others), 0.2), MethodName.occlusion)
        assert same.identical
        assert is_empty(same)
        assert [each.identical for each in different] == [False] * len(different)
        assert bool(described) == runs


@pytest.mark.parametrize("normalize", [True, False])
def test_rounding_counts_as_identical(normalize: bool) -> None:
    activations = np.random.default_rng(0).random((1, 2, 3, 3), np.float32) + 1
    nearly = (activations * np.array([1, 1 + 1e-6]).reshape(1, 2, 1, 1)).astype(np.float32)
    explanation = explained(replace(DIFFERENT, normalize=normalize), activations, nearly)
    assert explanation.identical
    assert is_empty(explanation)


def test_a_small_difference_is_not_rounding() -> None:
    explanation = explained(DIFFERENT, A1, A1 * np.float32(1.01))
    assert not explanation.identical
    assert explanation.query.magnitude > 0


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("value", [0.0, -1.0])
def test_embeddings_of_zero_give_finite_maps(normalize: bool, value: float) -> None:
    dead = np.full((1, 2, 2, 2), value, np.float32)
    lively = np.random.default_rng(0).random((1, 2, 2, 2), np.float32)
    with np.errstate(all="raise"):
        for pair in ((dead, lively), (lively, dead), (dead, dead)):
            explanation = explained(replace(DIFFERENT, normalize=normalize), *pair)
            assert np.isfinite([explanation.distance, explanation.query.magnitude, explanation.hit.magnitude]).all()
            assert np.isfinite(explanation.query.factual).all()
            assert np.isfinite(explanation.hit.factual).all()
    assert explanation.identical


def test_hits_are_explained_in_their_order_as_if_alone() -> None:
    random = np.random.default_rng(1)
    query = random.random((1, 2, 2, 2), np.float32)
    hits = np.concatenate([query, random.random((3, 2, 2, 2), np.float32)])
    together = explain_against(DIFFERENT, features(query), features(hits))
    assert [one.identical for one in together] == [True, False, False, False]
    for row, one in enumerate(together):
        alone = explained(DIFFERENT, query, hits[row : row + 1])
        assert one.distance == pytest.approx(alone.distance)
        np.testing.assert_allclose(one.query.factual, alone.query.factual, atol=1e-5)
        np.testing.assert_allclose(one.hit.counterfactual, alone.hit.counterfactual, atol=1e-5)
