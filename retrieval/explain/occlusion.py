"""Hiding parts of a picture: what is hidden is blurred, so that nothing is brought in that was not there."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from retrieval.model.head import Array
from retrieval.model.preprocessing import Pixels

PixelMask = NDArray[np.bool_]

_RADIUS = 0.054  # of the blur, its standard deviation as a share of the side: 12 pixels of 224
_TIE_WEIGHT = 1e-3  # of a heatmap's weight for the one against it, which only sets the order of equal places


def blur(pixels: Pixels) -> Pixels:
    """uint8 (size, size, 3) without detail."""
    radius = _RADIUS * pixels.shape[0]
    return np.asarray(Image.fromarray(pixels).filter(ImageFilter.GaussianBlur(radius)))


def hide(pixels: Pixels, blurred: Pixels, mask: PixelMask) -> Pixels:
    """The picture where the mask (size, size) is False, and its blurred version where it is True."""
    of_colours = np.repeat(mask, 3, axis=1).reshape(pixels.shape)  # of one shape with them it takes half of the time
    return np.where(of_colours, blurred, pixels)


def rank_pixels(heatmap: Array, against: Array, size: int) -> NDArray[np.int64]:
    """Each pixel's place (size, size), from 0, in the order of a heatmap (h, w), linear between its places.

    Where it says the same of many places, such as nothing, those come last that the heatmap `against` it names most.
    """
    order = np.argsort(-_sort_key(heatmap, against, size), kind="stable")
    places = np.empty(size * size, np.int64)
    places[order] = np.arange(size * size)
    return places.reshape(size, size)


def top_mask(heatmap: Array, against: Array, size: int, share: float) -> PixelMask:
    """The mask (size, size) of the share (0 to 1) of the picture that comes first in that order."""
    count = round(share * size * size)
    mask = np.zeros(size * size, np.bool_)
    mask[np.argpartition(-_sort_key(heatmap, against, size), count - 1)[:count]] = True
    return mask.reshape(size, size)


def upsample(heatmap: Array, size: int) -> Array:
    """(h, w) to float32 (size, size), each place covering its share of the picture, as an overlay draws it."""
    return np.maximum(_resize(heatmap, size, Image.Resampling.BICUBIC), 0)


def _resize(heatmap: Array, size: int, by: Image.Resampling) -> Array:
    return np.asarray(Image.fromarray(heatmap.astype(np.float32)).resize((size, size), by))


def _sort_key(heatmap: Array, against: Array, size: int) -> Array:
    # Not as it is drawn: a smoother curve swings below 0 beside a strong place, and above it again beyond.
    named, other = (_resize(each, size, Image.Resampling.BILINEAR).ravel() for each in (heatmap, against))
    return np.asarray(named - np.float32(_TIE_WEIGHT * _scale(heatmap, against)) * other)


def _scale(heatmap: Array, against: Array) -> float:
    most = float(against.max(initial=0))
    return float(heatmap.max(initial=0)) / most if most > 0 and heatmap.max() > 0 else 1.0
