"""Boxes around the focus of heatmaps, by hand: cells of 100 x 100 pixels."""

import numpy as np
import pytest

from retrieval.explain.focus_box import focus_box, largest_region
from retrieval.model.head import Array

SQUARE = (700, 700)
CELL = 100 / 8  # pixels of the grid on which regions are found


def heat(*blocks: tuple[int, int, int, int, float]) -> Array:
    """Make 7 x 7 cells with blocks of heat: left, top, right, bottom, value."""
    heatmap = np.zeros((7, 7), np.float32)
    for left, top, right, bottom, value in blocks:
        heatmap[top:bottom, left:right] = value
    return heatmap


def test_a_single_hot_cell_is_given_room() -> None:
    assert focus_box(heat((3, 2, 4, 3, 1)), SQUARE, 0.5, 0) == (250, 150, 450, 350)


def test_a_box_with_too_little_room_is_moved_into_the_picture() -> None:
    assert focus_box(heat((0, 6, 1, 7, 1)), SQUARE, 0.5, 0) == (0, 500, 200, 700)


def test_a_block_is_enclosed() -> None:
    assert focus_box(heat((2, 1, 6, 4, 1)), SQUARE, 0.5, 0) == pytest.approx((200, 100, 600, 400), abs=CELL)


def test_of_two_regions_the_larger_counts_though_the_other_is_hotter() -> None:
    heatmap = heat((0, 0, 3, 3, 0.7), (5, 5, 6, 6, 1))
    assert focus_box(heatmap, SQUARE, 0.4, 0) == pytest.approx((0, 0, 300, 300), abs=CELL)
    assert focus_box(heatmap, SQUARE, 0.9, 0) == (450, 450, 650, 650)


def test_a_lower_threshold_takes_in_more() -> None:
    heatmap = heat((0, 0, 5, 5, 0.3), (1, 1, 4, 4, 1))
    low, high = focus_box(heatmap, SQUARE, 0.15, 0), focus_box(heatmap, SQUARE, 0.6, 0)
    assert low == pytest.approx((0, 0, 500, 500), abs=CELL)
    assert high == pytest.approx((100, 100, 400, 400), abs=2 * CELL)


def test_a_margin_grows_each_side_and_ends_at_the_edges() -> None:
    heatmap = heat((0, 2, 4, 6, 1))
    left, top, right, bottom = focus_box(heatmap, SQUARE, 0.5, 0)
    assert focus_box(heatmap, SQUARE, 0.5, 0.1) == pytest.approx(
        (0, top - 0.1 * (bottom - top), right + 0.1 * (right - left), bottom + 0.1 * (bottom - top)), abs=1
    )
    assert focus_box(heatmap, SQUARE, 0.5, 5) == (0, 0, 700, 700)


@pytest.mark.parametrize(
    ("size", "expected"),
    [((800, 200), (200 + 4 * 400 / 7, 0, 600, 2 * 200 / 7)), ((200, 800), (4 * 200 / 7, 200, 200, 200 + 2 * 400 / 7))],
)
def test_of_an_oblong_picture_the_heatmap_covers_the_seen_part(
    size: tuple[int, int], expected: tuple[float, ...]
) -> None:
    """The longer side of 800 is cropped to 400 from 200: the root of 800 x 200."""
    assert focus_box(heat((4, 0, 7, 2, 1)), size, 0.5, 0) == pytest.approx(expected, abs=400 / 56 + 1)


def test_a_margin_may_reach_beyond_the_seen_part() -> None:
    left, _, right, _ = focus_box(heat((0, 0, 7, 7, 1)), (800, 200), 0.5, 0.25)
    assert (left, right) == (100, 700)


def test_pixels_are_counted_outwards() -> None:
    left, top, right, bottom = focus_box(heat((3, 3, 4, 4, 1)), (100, 100), 0.5, 0)
    assert (left, top, right, bottom) == (35, 35, 65, 65)  # 35.7 to 64.3


def test_an_empty_heatmap_has_the_whole_picture() -> None:
    assert focus_box(heat(), (300, 200)) == (0, 0, 300, 200)


@pytest.mark.parametrize("size", [(1, 1), (1, 3000), (3000, 2), (3, 3)])
def test_tiny_pictures_and_strips_keep_a_pixel(size: tuple[int, int]) -> None:
    for row in range(7):
        left, top, right, bottom = focus_box(heat((row, row, row + 1, row + 1, 1)), size, 0.5, 0)
        assert 0 <= left < right <= size[0]
        assert 0 <= top < bottom <= size[1]


def test_regions_are_connected_by_sides_alone() -> None:
    values = np.array([[1, 1, 0, 0], [0, 0, 1, 1], [0, 0, 1, 0]], np.float32)
    assert np.array_equal(largest_region(values, 0.5), [[0, 0, 0, 0], [0, 0, 1, 1], [0, 0, 1, 0]])


def test_a_winding_region_is_one() -> None:
    values = np.array([[1, 0, 1, 1], [1, 0, 0, 1], [1, 1, 1, 1], [0, 0, 0, 0], [1, 1, 1, 0]], np.float32)
    assert largest_region(values, 0.5)[:3].sum() == 9
    assert not largest_region(values, 0.5)[3:].any()


def test_of_regions_of_one_size_the_one_with_more_evidence_counts() -> None:
    values = np.array([[0.6, 0.7, 0, 1, 0.6]], np.float32)
    assert np.array_equal(largest_region(values, 0.5), [[0, 0, 0, 1, 1]])


def test_nothing_is_never_in_a_region() -> None:
    values = np.array([[-1, 0, 1]], np.float32)
    assert np.array_equal(largest_region(values, 0), [[0, 0, 1]])
