"""The true detail of copies: how much of a picture there is to see, however many pixels it takes.

A blow-up has more pixels than what it was made of and shows no more, bars show nothing, and what a strong compression
took away does not come back when the picture is saved well. Detail is measured in the blocks of 8 x 8 pixels that JPEG
compresses, by the power of the 63 patterns of their cosine transform.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from retrieval.model.head import Array
from retrieval.store.duplicates.alignment import inverse
from retrieval.store.duplicates.close_look import Box, shared_boxes

_BLOCK = 8
_SAMPLED = 1024  # pixels of a side that are looked at, in the middle
_FLAT = 3.0  # grey levels: the standard deviation below which a row is that of a bar
_OCCURS, _OF_STRONGEST = 0.5, 1e-3  # the least power of a pattern that occurs, and of the strongest one's
_LARGER = 1.03  # times the side
_GAIN = 1.03  # times the detail that a blow-up of the other would lose at the other's size
_ADVANTAGE = 1.05  # times the detail: below it, two have the same
_FULL = 0.6  # of the patterns: a picture that is not itself enlarged has them

_STEPS = np.arange(_BLOCK)
_COSINES = np.cos((2 * _STEPS + 1) * _STEPS[:, None] * np.pi / 16) * np.sqrt(np.where(_STEPS, 2, 1)[:, None] / _BLOCK)


def has_more_detail(first: Image.Image, second: Image.Image, fit: Array) -> bool | None:
    """Return whether the first of two grey copies has more true detail; None if both have the same.

    `fit` (4,) is that of `agreements`. What lies outside the part that both show counts too, but for bars.
    """
    boxes = shared_boxes(first.size, second.size, fit)
    if _width(boxes[0]) * _height(boxes[0]) < _width(boxes[1]) * _height(boxes[1]):
        other = has_more_detail(second, first, inverse(fit[None])[0])
        return None if other is None else not other
    own, others = (_extent(picture, box) for picture, box in zip((first, second), boxes, strict=True))
    is_larger = _width(boxes[0]) > _LARGER * _width(boxes[1])
    ratio, is_limit = _detail_ratio(first, second, *_sampled(*boxes), is_larger)
    ratio *= own / others
    if ratio > _ADVANTAGE or ratio < 1 / _ADVANTAGE:
        return ratio > 1
    return False if is_larger and is_limit else None


def _detail_ratio(first: Image.Image, second: Image.Image, box: Box, other: Box, is_larger: bool) -> tuple[float, bool]:
    """Return how many times the detail of the second the first has in what both show; and if that is not enlarged.

    The first has as many pixels there, or more.
    """
    part = first.crop(_whole_blocks(box))
    own, (theirs, share) = _detail(part)[0], _detail(second.crop(_whole_blocks(other)))
    if not is_larger:
        return own / theirs, True
    small = max(1, round(_width(other))), max(1, round(_height(other)))

    def loss(picture: Image.Image) -> float:
        reduced = picture.resize(small, Image.Resampling.LANCZOS)
        return _detail(picture)[0] / _detail(reduced.resize(picture.size, Image.Resampling.LANCZOS))[0]

    gain = loss(part) / loss(second.resize(part.size, Image.Resampling.BICUBIC, box=other))
    if gain > _GAIN:
        return gain, share >= _FULL
    return _detail(part.resize(small, Image.Resampling.LANCZOS))[0] / theirs, share >= _FULL


def _detail(grey: Image.Image) -> tuple[float, float]:
    """Return the detail of a grey picture that begins with a whole block, and the share of patterns that occur.

    The detail is the mean of log2(1 + p / 0.5) over the powers p of the patterns, in squared grey levels.
    """
    rows, columns = grey.height // _BLOCK, grey.width // _BLOCK
    values = np.asarray(grey, np.float32)[: rows * _BLOCK, : columns * _BLOCK]
    blocks = values.reshape(rows, _BLOCK, columns, _BLOCK).transpose(0, 2, 1, 3)
    power: NDArray[np.float64] = np.square(_COSINES @ blocks @ _COSINES.T).mean((0, 1)) if blocks.size else np.zeros(2)
    power = np.delete(power, 0)  # of the mean
    share = float((power > max(_OCCURS, _OF_STRONGEST * power.max())).mean())
    return max(float(np.log2(1 + power / _OCCURS).mean()), 1e-3), share


def _sampled(box: Box, other: Box) -> tuple[Box, Box]:
    """Return the middle of the part that both show, at most 1,024 pixels a side in the first."""
    spans: list[tuple[float, ...]] = []
    for axis in (0, 1):
        start, end, other_start, other_end = box[axis], box[axis + 2], other[axis], other[axis + 2]
        cut = max(0.0, (1 - _SAMPLED / max(end - start, 1)) / 2)
        own = [start + share * (end - start) for share in (cut, 1 - cut)]
        spans.append((*own, *(other_start + share * (other_end - other_start) for share in (cut, 1 - cut))))
    (left, right, other_left, other_right), (top, bottom, other_top, other_bottom) = spans
    return (left, top, right, bottom), (other_left, other_top, other_right, other_bottom)


def _whole_blocks(box: Box) -> tuple[int, int, int, int]:
    """Return the part from the first whole block on, in whole pixels."""
    left, top = (-(-int(start) // _BLOCK) * _BLOCK for start in box[:2])
    return left, top, max(left, int(box[2])), max(top, int(box[3]))


def _extent(grey: Image.Image, box: Box) -> float:
    """Return how many times what both show the picture shows, its bars left out; at least 1."""
    small = grey.copy()
    small.thumbnail((_SAMPLED, _SAMPLED), Image.Resampling.BICUBIC, reducing_gap=2.0)
    values = np.asarray(small, np.float32)
    shown = np.prod([_without_bars(values, axis) for axis in (0, 1)])
    return max(1.0, float(shown) * grey.width * grey.height / (_width(box) * _height(box)))


def _without_bars(values: Array, axis: int) -> float:
    """Return the share of the rows, or of the columns, between the bars."""
    seen = np.flatnonzero(values.std(axis=1 - axis) > _FLAT)
    return (seen[-1] + 1 - seen[0]) / values.shape[axis] if len(seen) else 1.0


def _width(box: Box) -> float:
    return box[2] - box[0]


def _height(box: Box) -> float:
    return box[3] - box[1]
