"""Colour maps that rise evenly, and overlays with heat where the heatmap has it."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from retrieval.common.errors import PictureError
from retrieval.explain.illustrated import HeatmapKind
from retrieval.rendering.overlay import (
    colour_map,
    display_picture,
    overlay,
    try_display,
)

Floats = NDArray[np.float64]
KINDS: tuple[HeatmapKind, HeatmapKind] = ("factual", "counterfactual")

# Machado, Oliveira, Fernandes 2009, at full severity, on linear sRGB
COLOUR_BLIND = {
    "no red": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "no green": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "no blue": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}


def linear(colours: NDArray[np.uint8]) -> Floats:
    value = colours.astype(np.float64) / 255
    return np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)


def oklab(rgb: Floats) -> Floats:
    """Convert linear sRGB (..., 3) to OKLab, by Ottosson's forward matrices."""
    to_lms = [
        [0.4122214708, 0.5363325363, 0.0514459929],
        [0.2119034982, 0.6806995451, 0.1073969566],
        [0.0883024619, 0.2817188376, 0.6299787005],
    ]
    to_lab = [
        [0.2104542553, 0.7936177850, -0.0040720468],
        [1.9779984951, -2.4285922050, 0.4505937099],
        [0.0259040371, 0.7827717662, -0.8086757660],
    ]
    return np.asarray(np.cbrt(rgb @ np.array(to_lms).T) @ np.array(to_lab).T)


def hottest(heated: Image.Image, without: Image.Image) -> tuple[float, float]:
    """Return the position at which heat changed the picture most, as shares of height and width."""
    change = np.abs(np.asarray(heated, float) - np.asarray(without, float)).sum(axis=2)
    row, column = np.unravel_index(int(change.argmax()), change.shape)
    return float(row) / change.shape[0], float(column) / change.shape[1]


@pytest.mark.parametrize("kind", KINDS)
def test_lightness_rises_in_equal_steps(kind: HeatmapKind) -> None:
    lightness = oklab(linear(colour_map(kind)))[:, 0]
    even = np.linspace(lightness[0], lightness[-1], 256)
    assert colour_map(kind).shape == (256, 3)
    assert lightness[-1] - lightness[0] > 0.5
    assert np.abs(lightness - even).max() < 0.003  # 8 bits a channel allow no better; a clipped gamut breaks it


@pytest.mark.parametrize(
    ("kind", "lightness", "hues"),
    [("factual", (0.32, 0.92), (350, 52, 98)), ("counterfactual", (0.32, 0.93), (272, 232, 190))],
)
def test_hue_and_lightness_follow_the_ramp(
    kind: HeatmapKind, lightness: tuple[float, float], hues: tuple[float, ...]
) -> None:
    """A colour outside sRGB that was cut channel by channel would turn the hue."""
    colours = oklab(linear(colour_map(kind)))[[0, 127, 255]]
    assert colours[[0, 2], 0] == pytest.approx(lightness, abs=0.003)
    degrees = np.degrees(np.arctan2(colours[:, 2], colours[:, 1])) % 360
    assert degrees == pytest.approx(hues, abs=2)


@pytest.mark.parametrize("kind", KINDS)
def test_equal_evidence_steps_look_nearly_equal(kind: HeatmapKind) -> None:
    steps = np.linalg.norm(np.diff(oklab(linear(colour_map(kind)))[::17], axis=0), axis=1)
    assert steps.max() < 2.5 * steps.min()


@pytest.mark.parametrize("vision", [None, *COLOUR_BLIND])
def test_the_two_maps_differ_for_every_kind_of_vision(vision: str | None) -> None:
    seen = np.eye(3) if vision is None else np.array(COLOUR_BLIND[vision])
    warm, cool = (oklab(np.clip(linear(colour_map(kind)) @ seen.T, 0, 1)) for kind in KINDS)
    assert np.linalg.norm(warm - cool, axis=1)[64:].min() > 0.08  # four just noticeable differences


def test_colours_cannot_be_changed_by_a_caller() -> None:
    with pytest.raises(ValueError, match="read-only"):
        colour_map("factual")[0] = 0


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [(448, 300), (100, 448), (448, 8)])
def test_an_overlay_has_the_size_of_its_picture(kind: HeatmapKind, size: tuple[int, int]) -> None:
    drawn = overlay(Image.new("RGB", size, "teal"), np.ones((7, 7), np.float32), kind)
    assert (drawn.size, drawn.mode) == (size, "RGB")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("row", "column"), [(0, 0), (2, 5), (6, 3)])
def test_the_hottest_cell_of_the_heatmap_is_the_hottest_of_the_picture(
    kind: HeatmapKind, row: int, column: int
) -> None:
    heatmap = np.full((7, 7), 0.1, np.float32)
    heatmap[row, column] = 1
    picture = Image.new("RGB", (350, 210), (90, 120, 90))
    down, across = hottest(overlay(picture, heatmap, kind), overlay(picture, heatmap, kind, 0))
    assert row / 7 <= down < (row + 1) / 7
    assert column / 7 <= across < (column + 1) / 7


@pytest.mark.parametrize("kind", KINDS)
def test_no_strength_draws_no_heat(kind: HeatmapKind) -> None:
    picture = Image.linear_gradient("L").convert("RGB")
    heatmap = np.random.default_rng(0).random((7, 7), np.float32)
    empty = overlay(picture, np.zeros((7, 7), np.float32), kind)
    assert overlay(picture, heatmap, kind, 0).tobytes() == empty.tobytes()
    red, green, blue = np.asarray(empty, int).transpose(2, 0, 1)
    assert (red == green).all()
    assert (green == blue).all()


def test_more_strength_is_more_heat() -> None:
    picture, heatmap = Image.new("RGB", (70, 70), "grey"), np.ones((7, 7), np.float32)
    none = np.asarray(overlay(picture, heatmap, "factual", 0), float)
    changes = [
        float(np.abs(np.asarray(overlay(picture, heatmap, "factual", strength), float) - none).mean())
        for strength in (0.1, 0.3, 0.6, 1.0)
    ]
    assert changes == sorted(changes)
    assert changes[0] < 0.35 * changes[-1]


def test_the_picture_is_visible_through_the_strongest_heat() -> None:
    picture = Image.linear_gradient("L").convert("RGB")
    drawn = np.asarray(overlay(picture, np.ones((7, 7), np.float32), "factual"), float)
    assert drawn[-1].mean() - drawn[0].mean() > 50


@pytest.mark.parametrize(
    ("size", "displayed"),
    [
        ((4000, 3000), (448, 336)),
        ((300, 400), (300, 400)),
        ((500, 1000), (224, 448)),
        ((28, 14), (224, 112)),
        ((1, 1), (224, 224)),
        ((30000, 2), (448, 8)),
        ((2, 9000), (8, 448)),
    ],
)
def test_display_pictures_keep_their_proportions(size: tuple[int, int], displayed: tuple[int, int]) -> None:
    assert display_picture(Image.new("RGB", size)).size == displayed


def test_bytes_that_are_no_picture_are_an_error() -> None:
    with pytest.raises(PictureError):
        display_picture(b"no picture")


def test_a_picture_that_is_gone_has_no_display(tmp_path: Path) -> None:
    path = tmp_path / "grey.png"
    Image.new("RGB", (300, 200)).save(path)
    picture = try_display(path)
    assert picture is not None
    assert picture.size == (300, 200)
    path.unlink()
    assert try_display(path) is None


def test_edges_that_the_network_does_not_see_are_dark_and_without_heat() -> None:
    picture = Image.new("RGB", (400, 100), (200, 200, 200))  # seen: the middle 200 x 100
    hot, cold = (np.asarray(overlay(picture, np.full((7, 7), heat, np.float32), "factual")) for heat in (1.0, 0.0))
    assert (hot[:, :100] == cold[:, :100]).all()
    assert (hot[:, 300:] == cold[:, 300:]).all()
    assert (hot[:, 110:290] != cold[:, 110:290]).any(axis=2).all()
    assert cold[50, 50].max() < 0.6 * cold[50, 200].min()
