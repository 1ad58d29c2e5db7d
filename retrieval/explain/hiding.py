"""Hiding parts of a picture, in several ways."""

from collections.abc import Callable, Sequence
from functools import cache, lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from retrieval.explain.methods.gaussian_process import draw_prior
from retrieval.model.head import TINY, Array
from retrieval.model.preprocessing import Pixels

PixelMask = NDArray[np.bool_]

Hider = Callable[[PixelMask], Pixels]
"""Returns one picture with a region of it hidden, given as a mask (size, size)."""

HIDDEN_SHARE = 0.2
"""The share of a picture's area that is hidden."""

_RADIUS = 0.054  # the blur's standard deviation as a share of the side: 12 pixels of 224
_FILL_CELLS = 28  # on each side of the grid that a region is filled on
_FILL_RADIUS = 2.0  # the standard deviation of the weights of the colours around, in cells
_FILL_FAR = 1e-6  # the weight of all that is visible beside these, which decides where nothing is near
_MID_GREY = 127.5
_TIE_WEIGHT = 1e-3  # of the opposite heatmap, which only orders equal pixels


def blur(pixels: Pixels) -> Pixels:
    """Return a picture without detail, uint8 (size, size, 3)."""
    radius = _RADIUS * pixels.shape[0]
    return np.asarray(Image.fromarray(pixels).filter(ImageFilter.GaussianBlur(radius)))


def cover_with_mean(pixels: Pixels) -> Pixels:
    """Return a picture of one colour, the mean of this one."""
    return np.broadcast_to(pixels.mean((0, 1)).round().astype(np.uint8), pixels.shape)


def cover_with_noise(pixels: Pixels) -> Pixels:
    """Return random pixels, the same for all pictures of a size."""
    return np.random.default_rng(0).integers(0, 256, pixels.shape, np.uint8)


def hide(pixels: Pixels, covered: Pixels, mask: PixelMask) -> Pixels:
    """Return the picture where the mask (size, size) is False, and its covered version where it is True."""
    channels_mask = np.repeat(mask, 3, axis=1).reshape(pixels.shape)  # twice as fast as broadcasting
    return np.asarray(pixels ^ ((pixels ^ covered) * channels_mask))  # as np.where, three times as fast


def hide_by_blur(pixels: Pixels) -> Hider:
    """Return what blurs regions of a picture."""
    blurred = blur(pixels)
    return lambda mask: hide(pixels, blurred, mask)


def fill_from_around(pixels: Pixels) -> Hider:
    """Return what fills regions of a picture smoothly with the colours around them, and with none from inside.

    A normalised convolution (Knutsson and Westin, 1993): the mean of the cells of a grid that lie outside the region,
    weighted by a Gaussian of their distance. If all is hidden, the picture is grey.
    """
    size, kernel = len(pixels), _fill_kernel()
    cells = np.asarray(_shrink(Image.fromarray(pixels)), np.float32)
    colours = np.concatenate([cells, np.ones_like(cells[..., :1])], axis=2).swapaxes(1, 2)  # (row, colour or 1, column)

    def fill(mask: PixelMask) -> Pixels:
        outside = colours * (np.asarray(_shrink(Image.fromarray(mask.astype(np.float32)))) == 0)[:, None]
        near = ((kernel @ outside.reshape(_FILL_CELLS, -1)).reshape(-1, _FILL_CELLS) @ kernel).reshape(outside.shape)
        near += _FILL_FAR * outside.mean((0, 2), keepdims=True)
        filled = np.rint((near[:, :3] + TINY * _MID_GREY) / (near[:, 3:] + TINY)).astype(np.uint8)
        small = Image.fromarray(np.ascontiguousarray(filled.swapaxes(1, 2)))
        return hide(pixels, np.asarray(small.resize((size, size), Image.Resampling.BILINEAR)), mask)

    return fill


HIDINGS: dict[str, Callable[[Pixels], Hider]] = {"blurred": hide_by_blur, "filled": fill_from_around}
"""The ways to hide that explanations are checked by; no heatmap method uses the second one."""


@lru_cache(8)
def draw_regions(count: int, size: int, seed: int) -> list[PixelMask]:
    """Return smooth random regions of a fifth of a picture, masks (size, size)."""
    return [extreme_fifths(each, size)[0] for each in draw_prior(count, np.random.default_rng(seed))]


def extreme_fifths(map_: NDArray[Any], size: int) -> list[PixelMask]:
    """Return the regions (size, size) where a map (h, w), linearly interpolated, is highest, and where it is lowest."""
    values = _resize(map_, size, Image.Resampling.BILINEAR)
    count = round(HIDDEN_SHARE * values.size)
    least, most = (np.partition(values, place, axis=None)[place] for place in (-count, count))
    return [values >= least, values < most]


def cover_cells(masks: Sequence[PixelMask], shape: tuple[int, int]) -> Array:
    """Return the share of each cell of a grid (h, w) that masks (M, size, size) cover, float32 (M, h, w)."""
    to, by = shape[::-1], Image.Resampling.BOX
    return np.stack([np.asarray(Image.fromarray(mask.astype(np.float32)).resize(to, by)) for mask in masks])


def rank_pixels(heatmap: Array, against: Array, size: int) -> NDArray[np.int64]:
    """Return each pixel's rank (size, size), from 0, by a heatmap (h, w), linearly interpolated.

    Of pixels with equal values, such as none, those come last that the heatmap `against` it names most.
    """
    order = np.argsort(-_sort_key(heatmap, against, size), kind="stable")
    ranks = np.empty(size * size, np.int64)
    ranks[order] = np.arange(size * size)
    return ranks.reshape(size, size)


def top_mask(heatmap: Array, against: Array, size: int, share: float) -> PixelMask:
    """Return the mask (size, size) of the share (0 to 1) of the picture that comes first in that order."""
    count = round(share * size * size)
    mask = np.zeros(size * size, np.bool_)
    mask[np.argpartition(-_sort_key(heatmap, against, size), count - 1)[:count]] = True
    return mask.reshape(size, size)


def upsample(heatmap: Array, size: int) -> Array:
    """Enlarge (h, w) to float32 (size, size), each cell covering its share of the picture, as an overlay draws it."""
    return np.maximum(_resize(heatmap, size, Image.Resampling.BICUBIC), 0)


def _resize(heatmap: NDArray[Any], size: int, by: Image.Resampling) -> Array:
    return np.asarray(Image.fromarray(heatmap.astype(np.float32)).resize((size, size), by))


def _shrink(image: Image.Image) -> Image.Image:
    """Average over the cells of the grid that regions are filled on; the same pixels count in any two of a size."""
    return image.resize((_FILL_CELLS, _FILL_CELLS), Image.Resampling.BOX)


@cache
def _fill_kernel() -> Array:
    """Return the weights of cells along one side, by their distance."""
    places = np.arange(_FILL_CELLS)
    return np.exp(-((places[:, None] - places) ** 2) / (2 * _FILL_RADIUS**2)).astype(np.float32)


def _sort_key(heatmap: Array, against: Array, size: int) -> Array:
    # Not bicubic as it is drawn: that swings below 0 beside a strong cell, and above it again beyond.
    named, other = (_resize(each, size, Image.Resampling.BILINEAR).ravel() for each in (heatmap, against))
    most, most_against = (float(each.max(initial=0)) for each in (heatmap, against))
    scale = most / most_against if most > 0 and most_against > 0 else 1.0
    return np.asarray(named - np.float32(_TIE_WEIGHT * scale) * other)
