"""The focus of a heatmap as a box: the part of a picture that made a model see two pictures as similar."""

import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from retrieval.model.head import Array
from retrieval.model.preprocessing import input_box

PixelBox = tuple[int, int, int, int]
"""Left, top, right, bottom in pixels, as in Pillow: the last two are exclusive."""

# Chosen by eye on flowers: a lower threshold includes the background, a higher one cuts blossoms in two.
FOCUS_THRESHOLD, FOCUS_MARGIN = 0.2, 0.1
_SUBDIVISIONS = 8  # of each side of a heatmap's cell, in which regions are found
_ROUNDING = 1e-6  # of a pixel, so that a box that ends between two does not include the next
_MIN_CELLS = 2  # a cell only says that something is near it, so a box of one would claim too much


def focus_box(
    heatmap: Array, size: tuple[int, int], threshold: float = FOCUS_THRESHOLD, margin: float = FOCUS_MARGIN
) -> PixelBox:
    """Return the box around the focus of a heatmap, in pixels of an upright picture of `size` (width, height).

    The heatmap, float32 (h, w), at least 0, is enlarged to the part of the picture that the network sees, as an
    overlay draws it. The focus is the largest connected region at or above `threshold` (0 to 1) times the maximum,
    after Cui et al. (2019, CHIP). The box is grown on each side by `margin` times its width or height, is at least
    two of the heatmap's cells wide and high, and lies within the picture. For an empty heatmap it is the whole picture.
    """
    if not heatmap.max() > 0:
        return 0, 0, *size
    rows, columns = heatmap.shape
    enlarged_size = columns * _SUBDIVISIONS, rows * _SUBDIVISIONS
    enlarged = np.asarray(Image.fromarray(heatmap.astype(np.float32)).resize(enlarged_size, Image.Resampling.BICUBIC))
    region = largest_region(enlarged, threshold)
    seen = input_box(*size)
    left, right = _span(np.any(region, axis=0), seen[0], seen[2], columns, size[0], margin)
    top, bottom = _span(np.any(region, axis=1), seen[1], seen[3], rows, size[1], margin)
    return left, top, right, bottom


def largest_region(values: Array, threshold: float) -> NDArray[np.bool_]:
    """Return the largest region of cells at or above `threshold` times the maximum of `values` (H, W), bool (H, W).

    Cells are connected by their sides; of regions of equal size the one with more evidence is chosen.
    """
    hot: NDArray[np.bool_] = (values >= threshold * float(values.max())) & (values > 0)
    numbers = _label_regions(hot)
    count = np.bincount(numbers[hot])
    evidence = np.bincount(numbers[hot], values[hot])
    return np.asarray(numbers == np.lexsort((evidence, count))[-1])


def _label_regions(hot: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Assign region numbers (H, W): each cell takes the smallest number of its neighbours until none changes."""
    beyond = hot.size
    numbers = np.where(hot, np.arange(beyond).reshape(hot.shape), beyond)
    while True:
        framed = np.pad(numbers, 1, constant_values=beyond)
        least = np.minimum.reduce([numbers, framed[:-2, 1:-1], framed[2:, 1:-1], framed[1:-1, :-2], framed[1:-1, 2:]])
        least = np.where(hot, least, beyond)
        if np.array_equal(least, numbers):
            return numbers
        numbers = least


def _span(inside: NDArray[np.bool_], start: int, end: int, cells: int, limit: int, margin: float) -> tuple[int, int]:
    """Return where the region begins and ends along one side, in pixels from 0 to `limit`.

    `inside` (subdivisions,) covers the seen part, from `start` to `end`, which has so many `cells`.
    """
    step = (end - start) / len(inside)
    first, last = np.flatnonzero(inside)[[0, -1]]
    low, high = start + first * step, start + (last + 1) * step
    grown = margin * (high - low)
    low, high = max(0.0, low - grown), min(float(limit), high + grown)
    least = _MIN_CELLS * (end - start) / cells
    if high - low < least:
        low = min(max(0.0, (low + high - least) / 2), limit - least)
        high = low + least
    return max(0, math.floor(low + _ROUNDING)), min(limit, math.ceil(high - _ROUNDING))
