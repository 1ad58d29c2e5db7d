"""Correspondences as drawn: regions lie over their cells, in the part that the network sees."""

import numpy as np
import pytest
from PIL import Image

from retrieval.explain.correspondence import Correspondence, Match, MatchCheck
from retrieval.rendering.correspondence_regions import draw_matches, side_by_side

HOLDS = Match(frozenset({(0, 0)}), frozenset({(6, 6), (6, 5)}), 0.4, {"blurred": MatchCheck(3.0, 1.0)})
FAILS = Match(frozenset({(4, 4)}), frozenset({(2, 2)}), 0.4, {"blurred": MatchCheck(1.0, 1.0)})
CORRESPONDENCE = Correspondence(np.zeros((49, 49), np.float32), (7, 7), (7, 7), (HOLDS, FAILS))


def changed(image: Image.Image, drawn: Image.Image) -> tuple[int, int, int, int]:
    """Return the box of the pixels that differ clearly."""
    differs = np.abs(np.asarray(image).astype(int) - np.asarray(drawn)).max(axis=2) > 40
    rows, columns = np.flatnonzero(differs.any(axis=1)), np.flatnonzero(differs.any(axis=0))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def test_a_region_that_holds_lies_over_its_cells() -> None:
    image = Image.new("RGB", (210, 210), (90, 90, 90))
    first, second = draw_matches(image, CORRESPONDENCE, second=False), draw_matches(image, CORRESPONDENCE, second=True)
    assert changed(image, first) == pytest.approx((0, 0, 30, 30), abs=2)  # the line is smooth
    assert changed(image, second) == pytest.approx((150, 180, 210, 210), abs=2)


def test_the_unseen_edges_of_an_oblong_picture_are_left_out() -> None:
    image = Image.new("RGB", (400, 100), (90, 90, 90))  # the network sees the middle 200
    left, top, *_ = changed(image, draw_matches(image, CORRESPONDENCE, second=False))
    assert (left, top) == pytest.approx((100, 0), abs=2)


def test_two_pictures_are_on_one_sheet() -> None:
    sheet = side_by_side(Image.new("RGB", (50, 40), "red"), Image.new("RGB", (30, 60), "blue"))
    colours = {colour for _, colour in sheet.getcolors() or []}
    assert {(255, 0, 0), (0, 0, 255)} <= colours
    assert sheet.height > 60
