"""Where the evidence lies, on heatmaps small enough to count by hand."""

import numpy as np
import pytest

from retrieval.evaluation.audit.attention import (
    Corner,
    attention_shares,
    border_mask,
    corner_weights,
    evidence_spread,
    focus_mask,
    normalise_heatmaps,
)
from retrieval.model.head import Array


def in_one_place(row: int, column: int, side: int = 7) -> Array:
    heatmap = np.zeros((side, side), np.float32)
    heatmap[row, column] = 3
    return heatmap


def test_shares_sum_to_one_and_empty_maps_stay_empty() -> None:
    found = normalise_heatmaps(
        np.stack([in_one_place(1, 2), np.zeros((7, 7), np.float32), np.full((7, 7), 0.5, np.float32)])
    )
    assert found.sum((1, 2)).tolist() == pytest.approx([1, 0, 1])
    assert found[0, 1, 2] == 1
    assert found[2] == pytest.approx(1 / 49)


@pytest.mark.parametrize("side", [3, 7, 9, 10])
def test_a_corner_is_a_ninth_of_any_map(side: int) -> None:
    for which in Corner:
        assert corner_weights(which, (side, side)).sum() / side**2 == pytest.approx(1 / 9)


def test_a_corner_may_end_within_a_place() -> None:
    weights = corner_weights(Corner.upper_right, (7, 7))
    assert weights[0].tolist() == pytest.approx([0, 0, 0, 0, 1 / 3, 1, 1])
    assert weights[:, 6].tolist() == pytest.approx([1, 1, 1 / 3, 0, 0, 0, 0])
    assert weights[2, 4] == pytest.approx(1 / 9)


def test_the_border_is_the_outermost_ring() -> None:
    assert border_mask((7, 7)).sum() == 24
    assert border_mask((3, 4)).tolist() == [[True] * 4, [True, False, False, True], [True] * 4]
    assert border_mask((1, 5)).all()
    assert border_mask((2, 2)).all()


def test_half_of_the_evidence_lies_in_the_strongest_places() -> None:
    assert evidence_spread(np.full((3, 5), 0.2, np.float32)) == pytest.approx(0.5)
    assert evidence_spread(in_one_place(4, 4)) == pytest.approx(0.5 / 49)  # half of the one place
    # 4 + 2 of 8 + 4: two of nine places, the second of which is wholly needed
    assert evidence_spread(np.array([[4, 2, 2], [1, 1, 1], [1, 0, 0]], np.float32)) == pytest.approx(2 / 9)


def test_the_focus_holds_two_thirds_in_the_fewest_places() -> None:
    one, other = in_one_place(0, 0, 3) / 3, in_one_place(2, 1, 3) / 3
    maps = np.stack([one] * 6 + [other] * 3 + [in_one_place(1, 1, 3) / 3])
    mean_is_60_30_10 = maps.astype(np.float32)
    assert np.argwhere(focus_mask(mean_is_60_30_10)).tolist() == [[0, 0], [2, 1]]
    assert np.argwhere(focus_mask(mean_is_60_30_10, 0.5)).tolist() == [[0, 0]]
    assert focus_mask(mean_is_60_30_10, 1.0).sum() == 3


def test_looks_are_means_of_shares() -> None:
    focus = np.zeros((7, 7), np.bool_)
    focus[3, 3] = True
    found = attention_shares(
        normalise_heatmaps(np.stack([in_one_place(6, 6), in_one_place(3, 3), 9 * in_one_place(2, 0)])), focus
    )
    assert found.border == pytest.approx(2 / 3)
    assert found.corners[Corner.lower_right] == pytest.approx(1 / 3)
    assert found.corners[Corner.upper_left] == pytest.approx(1 / 9)  # a third of the place at (2, 0) lies in it
    assert found.corners[Corner.lower_left] == found.corners[Corner.upper_right] == 0
    assert found.spread == pytest.approx(0.5 / 49)
    assert found.outside == pytest.approx(2 / 3)


def test_an_even_map_gives_the_shares_of_the_area() -> None:
    focus = np.zeros((7, 7), np.bool_)
    focus[:3] = True
    even = attention_shares(normalise_heatmaps(np.ones((1, 7, 7), np.float32)), focus)
    assert even.border == pytest.approx(24 / 49)
    assert list(even.corners.values()) == pytest.approx([1 / 9] * 4)
    assert even.spread == pytest.approx(0.5)
    assert even.outside == pytest.approx(4 / 7)
