"""Correspondences: the table adds up to the inner product, its regions stand out, and hiding tells which match."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from retrieval.explain.correspondence import (
    Cells,
    Correspondence,
    GridCell,
    Match,
    MatchCheck,
    check_matches,
    correspond,
    find_matches,
)
from retrieval.explain.hiding import HIDINGS
from retrieval.explain.methods.gradcam import PairInputs
from retrieval.model.head import Array, Head
from retrieval.model.preprocessing import Pixels

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


def test_a_region_is_a_window_and_no_cell_is_in_two() -> None:
    matches = find_matches(np.random.default_rng(3).random((49, 100), np.float32), (7, 7), (10, 10))
    assert len(matches) == 5
    for regions, side in (([match.first for match in matches], 2), ([match.second for match in matches], 3)):
        assert len(frozenset[GridCell]().union(*regions)) == 5 * side**2
        for cells in regions:
            assert all(len(set(axis)) == side == max(axis) - min(axis) + 1 for axis in zip(*cells, strict=True))


# Pictures with five patterns at places, seen by a network that says only how much there is of each.

SIZE, CELL = 56, 8
ROWS, COLUMNS = np.indices((SIZE, SIZE))
PATTERNS = np.array([(-1.0) ** each for each in (ROWS, COLUMNS, ROWS + COLUMNS, ROWS // 2, COLUMNS // 2)])
HERE: list[GridCell] = [(0, 0), (0, 5), (2, 2), (5, 0), (5, 5)]
THERE: list[GridCell] = [(4, 2), (2, 5), (0, 3), (2, 0), (5, 5)]


def window(corner: GridCell) -> Cells:
    return frozenset((corner[0] + row, corner[1] + column) for row in (0, 1) for column in (0, 1))


def draw(corners: Sequence[GridCell]) -> Pixels:
    picture = np.full((SIZE, SIZE), 128.0)
    for (row, column), pattern in zip(corners, PATTERNS, strict=True):
        place = np.s_[row * CELL : (row + 2) * CELL, column * CELL : (column + 2) * CELL]
        picture[place] += 100 * pattern[place]
    return np.repeat(picture[..., None].astype(np.uint8), 3, axis=2)


def see_patterns(pictures: Sequence[Pixels]) -> Array:
    return np.array([np.abs(((picture[..., 0] - 128.0) * PATTERNS).mean((1, 2))) for picture in pictures], np.float32)


def check(pairs: Sequence[tuple[GridCell, GridCell]], others: int = 1) -> tuple[list[Correspondence], int]:
    """Check these matches against so many other pictures; return them, and how many pictures were described."""
    described: list[Pixels] = []

    def describe(pictures: Sequence[Pixels]) -> Array:
        described.extend(pictures)
        return see_patterns(pictures)

    matches = tuple(Match(window(one), window(other), 0.1) for one, other in pairs)
    found = Correspondence(np.zeros((49, 49), np.float32), (7, 7), (7, 7), matches)
    head = Head(np.eye(5, dtype=np.float32), np.zeros(5, np.float32), 2.0, -1.0, normalize=False)
    pixels = [draw(HERE), *[draw(THERE)] * others]
    checked = check_matches(head, describe, pixels, [(0, row + 1) for row in range(others)], [found] * others)
    return checked, len(described)


def test_those_matches_hold_whose_second_region_matters_less_once_the_first_is_hidden() -> None:
    exchanged = [THERE[place] for place in (1, 0, 2, 3, 4)]
    ((checked,), _) = check(list(zip(HERE, exchanged, strict=True)))
    assert [match.holds for match in checked.matches] == [True, True, True, False, False]  # these come first
    assert checked.held == 3
    assert {match.first for match in checked.matches[3:]} == {window(HERE[0]), window(HERE[1])}
    for match in checked.matches:
        assert set(match.checks) == set(HIDINGS)


def test_nothing_holds_of_pictures_without_what_was_matched() -> None:
    shifted = [(row + 1 if row < 4 else row - 3, column) for row, column in THERE]
    ((checked,), _) = check(list(zip(shifted, HERE, strict=True)))
    assert checked.held == 0


def test_a_hidden_region_is_described_once_for_all_pairs() -> None:
    checked, described = check(list(zip(HERE, THERE, strict=True)), others=3)
    assert [each.held for each in checked] == [5, 5, 5]
    assert described == len(HIDINGS) * (5 + 3 * 5)


def test_a_few_matches_have_too_few_others_to_be_compared_with() -> None:
    ((checked,), _) = check(list(zip(HERE, THERE, strict=True))[:3])
    assert checked.held == 0
    assert not any(match.checks for match in checked.matches)


def test_a_match_holds_only_if_it_does_in_every_way() -> None:
    yes, no = MatchCheck(1.1, 0.5), MatchCheck(0.9, 0.5)
    assert [Match(window((0, 0)), window((1, 1)), 0.1, {"a": yes, "b": other}).holds for other in (yes, no)] == [
        True,
        False,
    ]
