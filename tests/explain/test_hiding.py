"""Hiding parts of a picture: what is hidden, in which order, and that nothing else changes."""

import numpy as np
import pytest

from retrieval.explain.hiding import blur, hide, rank_pixels, top_mask, upsample
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


def test_a_cell_covers_its_share_of_the_picture() -> None:
    large = upsample(HEAT, 8)
    assert large.shape == (8, 8)
    assert large[:4, :4].min() > large[4:, 4:].max()
