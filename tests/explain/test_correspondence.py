"""Correspondences: the table adds up to the inner product, and its regions are those that stand out."""

from dataclasses import replace

import numpy as np
import pytest

from retrieval.explain.correspondence import correspond, find_matches
from retrieval.explain.methods.gradcam import PairInputs
from retrieval.model.head import Array, Head

SHAPE = (3, 4)


def sides(head: Head, first: Array, second: Array) -> tuple[PairInputs, PairInputs]:
    g1, g2 = first.mean((2, 3)), second.mean((2, 3))
    return PairInputs(head, first, g1, g2), PairInputs(head, second, g2, g1)


def test_by_hand() -> None:
    """The dense layer passes both channels on, so a cell gives A / Z: (2, 0), (0, 1) and (1, 0), (0, 3), over 2."""
    head = Head(np.eye(2, dtype=np.float32), np.zeros(2, np.float32), 1.0, 0.0, normalize=False)
    first = np.array([[[[2, 0]], [[0, 1]]]], np.float32)
    second = np.array([[[[1, 0]], [[0, 3]]]], np.float32)
    (actual,) = correspond(*sides(head, first, second), [0])
    np.testing.assert_allclose(actual.table, [[0.5, 0], [0, 0.75]])
    assert (actual.shape, actual.other_shape) == ((1, 2), (1, 2))


@pytest.mark.parametrize("shift", [None, 0.5])
@pytest.mark.parametrize("normalize", [True, False])
def test_the_table_adds_up_to_the_inner_product(normalize: bool, shift: float | None) -> None:
    random = np.random.default_rng(0)
    weight = random.normal(size=(6, 5)).astype(np.float32)
    head = Head(weight, random.normal(size=6).astype(np.float32), 2.0, -1.0, normalize, shift)
    first, second = random.random((2, 3, 5, 3, 4), np.float32)
    for row, actual in enumerate(correspond(*sides(head, first, second), range(3))):
        u1, u2 = (head.embed(each[row].mean((1, 2))) for each in (first, second))
        assert actual.table.sum() == pytest.approx(float(u1 @ u2), rel=1e-4)


def test_a_picture_in_several_pairs_gives_the_same_as_alone() -> None:
    head = Head(np.eye(5, dtype=np.float32), np.zeros(5, np.float32), 2.0, -1.0, normalize=True)
    first, second = np.random.default_rng(0).random((2, 3, 5, 3, 4), np.float32)
    first[2] = first[0]
    one, other = sides(head, first, second)
    shared = correspond(replace(one, picture_ids=(7, 8, 7)), other, [2, 0])
    for actual, expected in zip(shared, correspond(one, other, [2, 0]), strict=True):
        np.testing.assert_array_equal(actual.table, expected.table)


@pytest.mark.parametrize("normalize", [True, False])
def test_pictures_without_activations_correspond_in_nothing(normalize: bool) -> None:
    head = Head(np.eye(2, dtype=np.float32), np.zeros(2, np.float32), 1.0, 0.0, normalize)
    dead = np.zeros((1, 2, 3, 3), np.float32)
    with np.errstate(all="raise"):
        (actual,) = correspond(*sides(head, dead, dead), [0])
    assert not actual.table.any()
    assert actual.matches == ()


def test_matches_stand_out_rather_than_go_with_everything() -> None:
    table = np.ones((12, 12), np.float32)
    table[5] += 9  # a bright cell
    table[0, 11] += 4
    table[11, 3] += 3
    first, second, *_ = find_matches(table, SHAPE, SHAPE)
    assert (set(first.first), set(first.second)) == ({(0, 0)}, {(2, 3)})
    assert (set(second.first), set(second.second)) == ({(2, 3)}, {(0, 3)})
    assert first.share == pytest.approx(5 / table.sum())


def test_pairs_that_touch_in_both_pictures_are_one_region() -> None:
    table = np.zeros((12, 12), np.float32)
    table[0, 11] = table[1, 10] = 5
    table[4, 0] = 4
    matches = find_matches(table, SHAPE, SHAPE)
    assert (set(matches[0].first), set(matches[0].second)) == ({(0, 0), (0, 1)}, {(2, 3), (2, 2)})
    assert (set(matches[1].first), set(matches[1].second)) == ({(1, 0)}, {(0, 0)})


def test_no_cell_is_in_two_regions_and_none_is_large() -> None:
    random = np.random.default_rng(3)
    matches = find_matches(random.random((49, 49), np.float32), (7, 7), (7, 7))
    assert 1 < len(matches) <= 5
    for side in ("first", "second"):
        cells = [cell for match in matches for cell in getattr(match, side)]
        assert len(cells) == len(set(cells))
        for match in matches:
            rows, columns = zip(*getattr(match, side), strict=True)
            assert max(rows) - min(rows) < 3
            assert max(columns) - min(columns) < 3
