"""A close look at pairs whose thumbnails agree: whether what is written and drawn in them is the same, too.

At 64 pixels a side two forms of one layout agree to 99 %, more than a copy of one. So both are laid over each other at
up to 1,024 pixels, and compared in blocks: a copy was resized, compressed and brightened as a whole, while another text
differs from the first as much as if there were none.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from retrieval.model.head import Array
from retrieval.store.duplicates.alignment import refine_fit

SIDE = 1024
"""The longer side of a picture that is looked at closely."""

_FIT_SIDES, _FINE_SIDE = (128, 256), 512  # at which the fit is refined, and again in doubt
_SHARPNESS = 0.8  # of the coarser picture's pixels: the finest depend on how it was resized
_MIN_SIDE = 16  # of what is compared
_CELL = 8  # pixels; a block has two by two cells, and is compared with a step of one
_VISIBLE = 8.0  # grey levels: the standard deviation of what can be seen
_REACH = 1  # pixels by which a block may be beside its place
_BLOCKS = 4  # that lie over one cell: so many see what is in it
_DIFFERENT, _UNUSUAL = 0.5, 0.2  # shares of a block's variance that the other lacks: in any pair, and in exact copies
_SURELY = 0.85  # such a share is of another text, and no matter of the fit
_TIMES_USUAL = 20.0  # what is unusual has at least so many times the median share

Box = tuple[float, float, float, float]
Moments = NDArray[np.float64]


@dataclass(frozen=True)
class Closeup:
    """A grey picture to look at closely: on white, and on black if it is transparent; frames beyond the first.

    Of `frames`, `later` has the middle one and the last.
    """

    picture: Image.Image
    on_black: Image.Image | None = None
    frames: int = 1
    later: tuple[Image.Image, ...] = ()

    @property
    def extras(self) -> tuple[bool, bool]:
        """Whether it has what a flat still of it lacks: more frames, transparency."""
        return self.frames > 1, self.on_black is not None


def shows_the_same(first: Closeup, second: Closeup, fit: Array) -> bool:
    """Return whether two pictures have the same details, given the fit (4,) of their thumbnails.

    Neither transparency nor later frames may hide a difference. A still may be one of an animation, and a flattened
    picture one of a transparent one.
    """
    pairs = [(first.picture, second.picture)]
    if first.on_black and second.on_black:
        pairs.append((first.on_black, second.on_black))
    if first.frames > 1 and second.frames > 1:
        if first.frames != second.frames:
            return False
        pairs += zip(first.later, second.later, strict=True)
    for side in _FIT_SIDES:
        fit = refine_fit(_small_grey(first.picture, side), _small_grey(second.picture, side), fit)
    unlikeness = max(_unlikeness(a, b, fit) for a, b in pairs)
    if _DIFFERENT <= unlikeness < _SURELY:  # or they do not lie over each other exactly yet
        fit = refine_fit(_small_grey(first.picture, _FINE_SIDE), _small_grey(second.picture, _FINE_SIDE), fit)
        unlikeness = max(_unlikeness(a, b, fit) for a, b in pairs)
    return unlikeness < _DIFFERENT


def _small_grey(picture: Image.Image, side: int) -> Array:
    return np.asarray(picture.resize((side, side), Image.Resampling.BICUBIC), np.float32)


def _laid_over(first: Image.Image, second: Image.Image, fit: Array) -> tuple[Image.Image, Image.Image]:
    """Return the part that both pictures show, at one size."""
    boxes = shared_boxes(first.size, second.size, fit)
    sides = [
        max(_MIN_SIDE, int(_SHARPNESS * min(box[axis + 2] - box[axis] for box in boxes)) // _CELL * _CELL)
        for axis in (0, 1)
    ]
    size = sides[0], sides[1]
    one, other = (
        picture.resize(size, Image.Resampling.BICUBIC, box=box)
        for picture, box in zip((first, second), boxes, strict=True)
    )
    return one, other


def shared_boxes(size: tuple[int, int], other: tuple[int, int], fit: Array) -> tuple[Box, Box]:
    """Return the part that both pictures of these sizes show, in pixels of each."""
    spans: list[tuple[float, float, float, float]] = []
    for side, other_side, scale, shift in zip(size, other, fit[::2].tolist(), fit[1::2].tolist(), strict=True):
        low, high = max(-1.0, (-1 - shift) / scale), min(1.0, (1 - shift) / scale)
        own = [min(max((scale * end + shift + 1) / 2, 0), 1) * side for end in (low, high)]
        spans.append((own[0], own[1], (low + 1) / 2 * other_side, (high + 1) / 2 * other_side))
    (left, right, other_left, other_right), (top, bottom, other_top, other_bottom) = spans
    return (left, top, right, bottom), (other_left, other_top, other_right, other_bottom)


def _unlikeness(first: Image.Image, second: Image.Image, fit: Array) -> float:
    """Return the share of a detail's variance that the other picture lacks, 0 to 1: the most of any visible detail."""
    one, other = (np.asarray(each, np.float32) for each in _laid_over(first, second, fit))
    lacking, variance = _lacking(one, other)
    if not (lacking > _VISIBLE**2).any():
        return 0.0
    for down in range(-_REACH, _REACH + 1):
        for across in range(-_REACH, _REACH + 1):
            moved = np.roll(one, (down, across), axis=(0, 1))
            lacking = np.minimum(lacking, _lacking(moved, other)[0])
    share = lacking / (variance + _VISIBLE**2)
    usual = float(np.median(share[variance > _VISIBLE**2]))
    most = np.sort(share[lacking > _VISIBLE**2])[-_BLOCKS:]
    is_unusual = most.max(initial=0) > max(_UNUSUAL, _TIMES_USUAL * usual)
    return max(float(most[0]) if len(most) == _BLOCKS else 0.0, _DIFFERENT if is_unusual else 0.0)


def _lacking(first: Array, second: Array) -> tuple[Moments, Moments]:
    """Return the variance of each block that the other picture does not explain, and the greater variance of both."""
    a, b = _means(first), _means(second)
    own, others = _means(first * first) - a * a, _means(second * second) - b * b
    both = np.maximum(_means(first * second) - a * b, 0)
    variance = np.maximum(own, others)
    return variance * (1 - np.minimum(both * both / np.maximum(own * others, 1e-9), 1)), variance


def _means(values: Array) -> Moments:
    """Return the means of overlapping blocks of 16 x 16 pixels."""
    height, width = (side // _CELL for side in values.shape)
    cells = values.reshape(height, _CELL, width, _CELL).mean((1, 3), dtype=np.float64)
    rows = cells[1:] + cells[:-1]
    means: Moments = (rows[:, 1:] + rows[:, :-1]) / 4
    return means
