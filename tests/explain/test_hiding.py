"""Hiding parts of a picture: what is hidden, in which order, and that nothing else changes."""

import numpy as np
import pytest

from retrieval.explain.hiding import (
    HIDINGS,
    blur,
    cover_cells,
    draw_regions,
    extreme_fifths,
    fill_from_around,
    hide,
    rank_pixels,
    top_mask,
    upsample,
)
from tests.support.generated import blocks

HEAT = np.array([[1, 0], [0, 0]], np.float32)
AGAINST = np.array([[0, 0], [0, 1]], np.float32)


def test_a_blurred_picture_keeps_its_size_and_loses_its_detail() -> None:
    pixels = blocks(1, 64, 64, cells=16)
    plain = blur(pixels)
    assert plain.shape == pixels.shape
    assert plain.dtype == np.uint8
    assert plain.std() < pixels.std() / 2
    assert abs(float(plain.mean()) - float(pixels.mean())) < 5


def test_only_what_the_mask_names_is_hidden() -> None:
    pixels, plain = blocks(1, 8, 8), np.zeros((8, 8, 3), np.uint8)
    mask = np.zeros((8, 8), np.bool_)
    mask[:2] = True
    changed = hide(pixels, plain, mask)
    assert not changed[:2].any()
    np.testing.assert_array_equal(changed[2:], pixels[2:])


@pytest.mark.parametrize("way", HIDINGS)
def test_each_way_hides_a_region_and_nothing_else(way: str) -> None:
    pixels, mask = blocks(1, 64, 64, cells=16), np.zeros((64, 64), np.bool_)
    mask[10:40, 20:50] = True
    changed = HIDINGS[way](pixels)(mask)
    assert changed.dtype == np.uint8
    np.testing.assert_array_equal(changed[~mask], pixels[~mask])
    assert changed[mask].std() < pixels[mask].std() / 2


@pytest.mark.parametrize("size", [40, 56, 224, 301])
def test_a_filled_region_is_like_its_surroundings_and_shows_nothing_of_what_was_inside(size: int) -> None:
    mask = np.zeros((size, size), np.bool_)
    mask[size // 5 : size // 2, size // 7 : size // 2] = True
    left, other = np.full((size, size, 3), (20, 60, 100), np.uint8), blocks(1, size, size)
    left[:, size * 9 // 16 :] = 255
    for inside in (0, 255, other):
        pixels = left.copy()
        pixels[mask] = inside if isinstance(inside, int) else inside[mask]
        filled = fill_from_around(pixels)(mask)
        np.testing.assert_array_equal(filled, fill_from_around(left)(mask))
    assert np.abs(filled[size // 3, size // 6].astype(int) - (20, 60, 100)).max() <= 1
    assert filled[size // 3, size // 2 - 1].min() > filled[size // 3, size // 6].min()


def test_where_all_is_hidden_it_is_grey_and_where_little_is_seen_it_is_of_that_colour() -> None:
    pixels, mask = blocks(1, 224, 224), np.ones((224, 224), np.bool_)
    pixels[:8, :8] = (200, 0, 100)
    fill = fill_from_around(pixels)
    assert {*fill(mask).ravel().tolist()} <= {127, 128}
    mask[:8, :8] = False
    assert np.abs(fill(mask)[200, 200].astype(int) - (200, 0, 100)).max() <= 1


def test_the_covered_share_of_cells() -> None:
    mask = np.zeros((8, 8), np.bool_)
    mask[:4, :6] = True
    assert cover_cells([mask, ~mask], (2, 2)).tolist() == [[[1, 0.5], [0, 0]], [[0, 0.5], [1, 1]]]


def test_the_order_begins_where_the_heatmap_is_strongest_and_ends_where_the_other_is() -> None:
    order = rank_pixels(HEAT, AGAINST, 8)
    assert sorted(order.ravel()) == list(range(64))
    assert order[:4, :4].max() < order[4:, 4:].min()
    assert order[0, 0] < order[0, 7] < order[7, 7]


@pytest.mark.parametrize("share", [0.1, 0.2, 0.25, 1.0])
def test_the_strongest_part_has_the_requested_share_of_the_area(share: float) -> None:
    mask = top_mask(HEAT, AGAINST, 16, share)
    assert mask.sum() == round(share * 256)
    assert mask[0, 0]


def test_the_strongest_part_comes_first_in_the_order() -> None:
    random = np.random.default_rng(0)
    heat, against = random.random((2, 7, 7), np.float32)
    np.testing.assert_array_equal(
        top_mask(heat, against, 32, 0.2), rank_pixels(heat, against, 32) < round(0.2 * 32 * 32)
    )


def test_an_empty_heatmap_still_names_as_much() -> None:
    nothing = np.zeros((7, 7), np.float32)
    assert top_mask(nothing, nothing, 20, 0.2).sum() == 80


def test_the_extreme_fifths_of_a_map() -> None:
    slope = np.arange(100, dtype=np.float64).reshape(10, 10)
    high, low = extreme_fifths(slope, 100)
    assert high.shape == (100, 100)
    assert [high.sum(), low.sum()] == pytest.approx([2000, 2000], abs=10)  # equal values at the edges count as one
    assert high[85:].all()
    assert low[:15].all()
    assert not high[:75].any()
    assert not low[25:].any()


def test_drawn_regions_are_fifths_and_the_same_again() -> None:
    regions = draw_regions(6, 56, 3)
    assert [int(each.sum()) for each in regions] == [round(0.2 * 56 * 56)] * 6
    draw_regions.cache_clear()
    np.testing.assert_array_equal(draw_regions(6, 56, 3), regions)
    assert (np.stack(regions) != np.stack(draw_regions(6, 56, 4))).any((1, 2)).all()


def test_a_cell_covers_its_share_of_the_picture() -> None:
    large = upsample(HEAT, 8)
    assert large.shape == (8, 8)
    assert large[:4, :4].min() > large[4:, 4:].max()
