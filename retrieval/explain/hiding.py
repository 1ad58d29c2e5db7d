"""Hiding parts of a picture, in several ways."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from retrieval.model.head import Array
from retrieval.model.preprocessing import Pixels

PixelMask = NDArray[np.bool_]

HIDDEN_SHARE = 0.2
"""The share of a picture's area that is hidden."""

_RADIUS = 0.054  # the blur's standard deviation as a share of the side: 12 pixels of 224
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


def hide(pixels: Pixels, blurred: Pixels, mask: PixelMask) -> Pixels:
    """Return the picture where the mask (size, size) is False, and its blurred version where it is True."""
    channels_mask = np.repeat(mask, 3, axis=1).reshape(pixels.shape)  # twice as fast as broadcasting
    return np.where(channels_mask, blurred, pixels)


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


def _resize(heatmap: Array, size: int, by: Image.Resampling) -> Array:
    return np.asarray(Image.fromarray(heatmap.astype(np.float32)).resize((size, size), by))


def _sort_key(heatmap: Array, against: Array, size: int) -> Array:
    # Not bicubic as it is drawn: that swings below 0 beside a strong cell, and above it again beyond.
    named, other = (_resize(each, size, Image.Resampling.BILINEAR).ravel() for each in (heatmap, against))
    most, most_against = (float(each.max(initial=0)) for each in (heatmap, against))
    scale = most / most_against if most > 0 and most_against > 0 else 1.0
    return np.asarray(named - np.float32(_TIE_WEIGHT * scale) * other)
