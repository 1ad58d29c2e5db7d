"""Baseline heatmaps: what they show, and that they do not depend on the model."""

import numpy as np
import pytest

from retrieval.evaluation.heatmaps.baselines import BASELINES, centre_map, edge_map, random_map
from retrieval.explain.methods.gradcam import PairInputs, PixelAccess
from retrieval.model.head import Head

HEAD = Head(np.eye(2, dtype=np.float32), np.zeros(2, np.float32), 1.0, 0.0, normalize=False)


def pairs(activations_seed: int = 0) -> PairInputs:
    activations = np.random.default_rng(activations_seed).random((2, 2, 5, 7), np.float32)
    left_half = np.zeros((70, 70, 3), np.uint8)
    left_half[:, :35] = 255
    access = PixelAccess(
        [left_half, np.zeros((70, 70, 3), np.uint8)], (0.0, 0.0, 0.0), lambda some: np.empty((len(some), 2), np.float32)
    )
    return PairInputs(HEAD, activations, activations.mean((2, 3)), activations.mean((2, 3)), access)


@pytest.mark.parametrize("name", BASELINES)
def test_each_is_a_map_of_each_pair_both_ways(name: str) -> None:
    maps = BASELINES[name](pairs())
    assert maps.shape == (2, 2, 5, 7)
    assert maps.min() >= 0
    assert np.isfinite(maps).all()


def test_a_random_map_is_the_same_for_the_same_picture_and_another_for_another() -> None:
    one, again, other = random_map(pairs()), random_map(pairs()), random_map(pairs(1))
    np.testing.assert_array_equal(one, again)
    assert (one != other).any()
    assert (one[0, 0] != one[0, 1]).any()
    np.testing.assert_allclose(one.sum(axis=0), 1)


def test_the_centre_is_the_strongest_place_of_the_middle() -> None:
    (heat, _), _ = centre_map(pairs())
    assert np.unravel_index(heat.argmax(), heat.shape) == (2, 3)


def test_edges_lie_where_the_picture_changes() -> None:
    (heat, empty), _ = edge_map(pairs())
    assert heat[:, 3].min() > 0
    assert not heat[:, [0, 1, 2, 4, 5, 6]].any()
    assert not empty.any()
