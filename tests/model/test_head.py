"""The head by hand: relu(W g + c), unit length, L2 separation, one sigmoid neuron."""

import math

import numpy as np
import pytest

from retrieval.common.metrics import sigmoid
from retrieval.model.head import Array, Head

WEIGHT = np.array([[1, 0], [0, 1], [-1, 2]], np.float32)
BIAS = np.array([0, -1, 0], np.float32)
DESCRIPTORS = np.array([[3, 0], [1, 5]], np.float32)
# W g + c: (3, -1, -3) and (1, 4, 9).
ACTIVATED = [[3, 0, 0], [1, 4, 9]]


def head(normalize: bool = False, slope: float = 1.0, intercept: float = 0.0) -> Head:
    return Head(WEIGHT, BIAS, slope, intercept, normalize)


def array(*values: float) -> Array:
    return np.array(values, np.float32)


def test_activate_is_relu_of_the_dense_layer() -> None:
    assert head().raw_embedding(DESCRIPTORS).tolist() == ACTIVATED
    assert head().raw_embedding(DESCRIPTORS).dtype == np.float32


def test_the_root_is_taken_before_the_dense_layer() -> None:
    rooted = Head(WEIGHT, BIAS, 1.0, 0.0, False, shift=1.0)
    # f(g) = sqrt(g + 1): (2, 1) of (3, 0) and (0, 3) of (-1, 8); W f + c: (2, 0, 0) and (0, 2, 6).
    assert rooted.raw_embedding(np.array([[3, 0], [-1, 8]], np.float32)).tolist() == [[2, 0, 0], [0, 2, 6]]
    assert rooted.root_derivative(np.array([[3, 0], [-1, 8]], np.float32)).tolist() == [
        [0.25, 0.5],
        [0, np.float32(1 / 6)],
    ]
    assert head().root_derivative(DESCRIPTORS).tolist() == [[1, 1], [1, 1]]


def test_embed_without_normalisation_is_the_activation() -> None:
    assert head().embed(DESCRIPTORS).tolist() == ACTIVATED


def test_embed_with_normalisation_has_length_one() -> None:
    length = math.sqrt(1 + 16 + 81)
    expected = np.array([[1, 0, 0], [1 / length, 4 / length, 9 / length]])
    np.testing.assert_allclose(head(normalize=True).embed(DESCRIPTORS), expected, rtol=1e-6)


def test_one_descriptor_needs_no_batch() -> None:
    assert head().embed(DESCRIPTORS[1]).tolist() == ACTIVATED[1]
    np.testing.assert_allclose(np.linalg.norm(head(normalize=True).embed(DESCRIPTORS[1])), 1, rtol=1e-6)


@pytest.mark.parametrize("normalize", [True, False])
def test_a_descriptor_that_activates_nothing_embeds_to_zero(normalize: bool) -> None:
    assert head(normalize).embed(array(-1, 0)).tolist() == [0, 0, 1]
    assert head(normalize).embed(array(0, 0)).tolist() == [0, 0, 0]


def test_a_centre_is_taken_away_and_the_rest_has_length_one() -> None:
    # u = (1, 0, 0) and (1, 4, 9) / sqrt(98); u - m = (0.4, 0, -0.3) of the first, whose length is 0.5.
    centred = head(normalize=True).centred(array(0.6, 0, 0.3))
    length = math.sqrt(98)
    rest = np.array([1 / length - 0.6, 4 / length, 9 / length - 0.3])
    expected = [[0.8, 0, -0.6], rest / np.linalg.norm(rest)]
    np.testing.assert_allclose(centred.embed(DESCRIPTORS), expected, rtol=1e-6)
    np.testing.assert_array_equal(centred.centred(None).embed(DESCRIPTORS), head(normalize=True).embed(DESCRIPTORS))
    assert centred.digest == head(normalize=True).digest != head().digest


@pytest.mark.parametrize("normalize", [True, False])
def test_centred_separations_follow_from_those_without_the_centre(normalize: bool) -> None:
    descriptors = np.random.default_rng(0).normal(size=(40, 2)).astype(np.float32)
    descriptors[0] = 0  # activates nothing
    plain, centred = head(normalize), head(normalize).centred(array(0.2, 0.3, 0.5))
    u, v = plain.embed(descriptors), centred.embed(descriptors)
    found = centred.centred_separation(u[:, None], u, plain.separation(u[:, None], u))
    np.testing.assert_allclose(found, centred.separation(v[:, None], v), atol=2e-6)
    assert not found.diagonal().any()


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("centre", [None, array(0.2, 0.3, 0.5)])
def test_the_gradient_by_an_embedding_is_that_of_differences(normalize: bool, centre: Array | None) -> None:
    model = head(normalize).centred(centre)
    e, by = array(1, 4, 9), np.array([0.3, -0.2, 0.7])
    step = np.float32(1e-2)
    ends = [model.apply_normalize(e + sign * step * np.eye(3, dtype=np.float32)) for sign in (1, -1)]
    expected = (ends[0] - ends[1]) @ by / (2 * step)
    np.testing.assert_allclose(model.normalize_gradient(e, by), expected, rtol=1e-3, atol=1e-4)


def test_separation_is_the_euclidean_norm() -> None:
    separation = head().separation(array(0, 3, 0)[None], np.stack([array(4, 0, 0), array(0, 3, 0)]))
    assert separation.tolist() == [5, 0]
    assert separation.dtype == np.float64


def test_distance_is_the_sigmoid_of_slope_and_intercept() -> None:
    distance = head(slope=2.0, intercept=-1.0).distance(np.array([0.0, 0.5, 3.0]))
    np.testing.assert_allclose(distance, [1 / (1 + math.e), 0.5, 1 / (1 + math.exp(-5))], rtol=1e-12)


def test_distance_grows_with_separation() -> None:
    distance = head(slope=0.5).distance(np.linspace(0, 60, 50))
    assert (np.diff(distance) > 0).all()


def test_sigmoid_does_not_overflow() -> None:
    with np.errstate(all="raise"):
        values = sigmoid(np.array([-1e6, -1.0, 0.0, 1.0, 1e6]))
    np.testing.assert_allclose(values, [0, 1 / (1 + math.e), 0.5, math.e / (1 + math.e), 1], atol=1e-15)


def test_calibration_changes_the_neuron_alone() -> None:
    calibrated = head(normalize=True).calibrated(3.0, -0.5)
    assert (calibrated.slope, calibrated.intercept, calibrated.normalize) == (3.0, -0.5, True)
    np.testing.assert_array_equal(calibrated.weight, head().weight)


def test_distances_of_descriptors_are_those_of_their_embeddings() -> None:
    own, others = np.array([[1.0, 2.0]], np.float32), np.array([[3.0, 1.0], [0.0, 2.0]], np.float32)
    model = head(slope=0.5, intercept=-1.0)
    expected = model.distance(model.separation(model.embed(own), model.embed(others)))
    np.testing.assert_array_equal(model.descriptor_distances(own, others), expected)
