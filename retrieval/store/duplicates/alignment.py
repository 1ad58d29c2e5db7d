"""Alignment of thumbnails: how well two pictures agree once one is moved and scaled to fit the other.

Copies of a photograph that were saved again, resized or slightly cropped agree in their details; two photographs of
one room do not, however alike they are. The fit is the inverse form of Lucas and Kanade's image registration (1981):
Gauss-Newton steps on scale and shift of both axes, with the gain and offset of brightness as two more unknowns.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from retrieval.model.head import Array

SIDE = 64
"""The side of a thumbnail's grey levels, on which details are compared."""

ThumbnailArray = NDArray[np.uint8]
"""Thumbnails, (N, THUMBNAIL_SIZE): of each 64 x 64 grey levels, then 16 x 16 colours."""

_COARSE = 16
THUMBNAIL_SIZE = SIDE * SIDE + _COARSE * _COARSE * 3

_MIDDLE = 32  # between the coarsest side and SIDE
_STARTS = (1.0, 0.87)  # scales from which a fit begins: unchanged, and cropped
_FIRST_ROUNDS, _ROUNDS, _FINE_ROUNDS = 4, 10, 4  # steps of a first try, at the coarsest side, and at the others
_MIN_FIRST, _MIN_COARSE, _MIN_DETAIL = 0.6, 0.8, 0.65  # correlations, in that order, below which a pair is given up
_SCALES, _SHIFTS = (0.75, 1.34), (-0.3, 0.3)  # of a copy with up to a fifth of a side cropped, and some room
_STEP = 0.08  # the most that one step moves, of half a picture
_OVERLAP = 0.6  # of each picture that the other must show
_DETAIL = 3.0  # pixels of SIDE: the width of a Gaussian whose result has no details


def make_thumbnail(image: Image.Image) -> ThumbnailArray:
    """Return an RGB picture's thumbnail, (THUMBNAIL_SIZE,): squashed, so that its proportions do not matter."""
    squashed = image.resize((SIDE, SIDE), Image.Resampling.BICUBIC, reducing_gap=3.0)
    colours = squashed.resize((_COARSE, _COARSE), Image.Resampling.BOX)
    return np.concatenate([np.asarray(squashed.convert("L")).reshape(-1), np.asarray(colours).reshape(-1)])


def agreements(first: ThumbnailArray, second: ThumbnailArray) -> tuple[Array, Array]:
    """Return how well each pair (P, THUMBNAIL_SIZE) agrees, float32 (P,), from 0 to 1, and its fit (P, 4).

    The lesser of two correlations over the part that both show: of details in grey, and of coarse colours. 0 if the
    pictures cannot be aligned with 60 % of each in common, and for pictures without details. Nearly symmetric. By a
    fit (scale and shift across, then down), the second shows at a place x from -1 to 1 what the first has at
    scale x + shift.
    """
    values, all_fits = np.zeros(len(first), np.float32), _start(1.0, len(first))
    rows, fits = _coarse_fits(first, second)
    if len(rows):
        fits, details = _refine(first[rows], second[rows], fits, _MIDDLE)
        is_likely = details >= _MIN_DETAIL
        rows, fits = rows[is_likely], fits[is_likely]
    if len(rows):
        a, b = first[rows], second[rows]
        forwards, forward_fits = _agreement(a, b, fits)
        backwards, backward_fits = _agreement(b, a, inverse(fits))
        values[rows] = np.maximum(forwards, backwards)
        all_fits[rows] = np.where((forwards >= backwards)[:, None], forward_fits, inverse(backward_fits))
    return values, all_fits


def refine_fit(a: Array, b: Array, fit: Array) -> Array:
    """Return a fit (4,) refined on larger grey pictures (n, n), if that improves it."""
    steep_down, steep_across = (np.gradient(a, 2 / len(a), axis=along) for along in (0, 1))
    tried = fit
    for _ in range(_FINE_ROUNDS):
        (moved, down, across), shared = _moved((a, steep_down, steep_across), tried)
        tried = _step(tried[None], moved[None], down[None], across[None], shared[None], b[None])[0]
    before, after = (
        _correlation(moved[None], b[None], shared[None])[0]
        for (moved,), shared in (_moved((a,), each) for each in (fit, tried))
    )
    return tried if after >= before else fit


def _moved(pictures: Sequence[Array], fit: Array) -> tuple[list[Array], Array]:
    """Return pictures (n, n) as a fit (4,) moves them, and the part that is shown."""
    side = len(pictures[0])
    at = ((fit[::2, None] * _axis(side) + fit[1::2, None] + 1) * side - 1) / 2
    first = np.clip(at.astype(np.int64), 0, side - 2)
    (x, y), (u, v) = first, np.clip(at - first, 0, 1).astype(np.float32)
    is_in = (at >= -0.25) & (at <= side - 0.75)
    moved = []
    for picture in pictures:
        rows = picture[y] * (1 - v)[:, None] + picture[y + 1] * v[:, None]
        moved.append(rows[:, x] * (1 - u) + rows[:, x + 1] * u)
    return moved, (is_in[1][:, None] & is_in[0]).astype(np.float32)


def _grey(thumbnails: ThumbnailArray, side: int) -> Array:
    """Return the grey levels averaged to (P, side, side)."""
    cell = SIDE // side
    full = thumbnails[:, : SIDE * SIDE].astype(np.float32)
    averaged: Array = full.reshape(len(thumbnails), side, cell, side, cell).mean(axis=(2, 4), dtype=np.float32)
    return averaged


def _coarse_fits(first: ThumbnailArray, second: ThumbnailArray) -> tuple[NDArray[np.int64], Array]:
    """Return the rows (Q,) of the pairs that may agree, and the best fit (Q, 4) of each at the coarsest side.

    Most pairs are not copies, which a first try shows: of 1,200 copies the worst had a correlation of .83 after it.
    """
    blurred = _blur(_COARSE, 0.6)
    a, b = (_transform(blurred, _grey(thumbnails, _COARSE), blurred.T) for thumbnails in (first, second))
    best = _correlation(a, b, np.ones_like(a))
    tried = _fit_correlation(a, b, _fit(a, b, _start(1.0, len(a)), _FIRST_ROUNDS))
    rows = np.flatnonzero(np.maximum(best, tried) >= _MIN_FIRST)
    a, b, best, fits = a[rows], b[rows], best[rows], _start(1.0, len(rows))
    for scale in _STARTS:
        start = _start(scale, len(a))
        for fit in (_fit(a, b, start, _ROUNDS), inverse(_fit(b, a, start, _ROUNDS))):
            correlation = _fit_correlation(a, b, fit)
            better = correlation > best
            fits[better], best[better] = fit[better], correlation[better]
    is_likely = best >= _MIN_COARSE
    return rows[is_likely], fits[is_likely]


def inverse(fits: Array) -> Array:
    """Return the same fits seen from the other picture."""
    inverse = np.empty_like(fits)
    inverse[:, ::2] = 1 / fits[:, ::2]
    inverse[:, 1::2] = -fits[:, 1::2] / fits[:, ::2]
    return inverse


def _start(scale: float, count: int) -> Array:
    """Return fits (count, 4): scale and shift across, scale and shift down, in half pictures from the middle."""
    return np.tile(np.array([scale, 0, scale, 0], np.float32), (count, 1))


def _refine(first: ThumbnailArray, second: ThumbnailArray, fits: Array, side: int) -> tuple[Array, Array]:
    """Refine fits where that improves them; returns them with the correlations (P,) of details."""
    a, b = _grey(first, side), _grey(second, side)
    tried = _fit(a, b, fits, _FINE_ROUNDS)
    better = _fit_correlation(a, b, tried) >= _fit_correlation(a, b, fits)
    fits = np.where(better[:, None], tried, fits)
    blurred = _blur(side, _DETAIL * side / SIDE)
    a, b = (grey - _transform(blurred, grey, blurred.T) for grey in (a, b))
    return fits, _fit_correlation(a, b, fits)


def _fit(a: Array, b: Array, fits: Array, rounds: int) -> Array:
    """Align the first pictures (P, n, n) with the second by Gauss-Newton steps."""
    side = a.shape[1]
    steep_down, steep_across = (np.gradient(a, 2 / side, axis=along) for along in (1, 2))
    for _ in range(rounds):
        down, across, shared = _resampling(fits, side)
        moved, down_slope, across_slope = (_transform(down, each, across) for each in (a, steep_down, steep_across))
        fits = _step(fits, moved, down_slope, across_slope, shared, b)
    return fits


def _step(fits: Array, moved: Array, steep_down: Array, steep_across: Array, shared: Array, b: Array) -> Array:
    """Return fits (P, 4) after one step, from the first pictures and their slopes as they move them, (P, n, n)."""
    count, side = b.shape[:2]
    axis = _axis(side)
    slopes = np.empty((count, side, side, 6), np.float32)
    gradient_across, gradient_down = steep_across * shared, steep_down * shared
    slopes[..., 0], slopes[..., 1] = gradient_across * axis, gradient_across
    slopes[..., 2], slopes[..., 3] = gradient_down * axis[:, None], gradient_down
    slopes[..., 4], slopes[..., 5] = moved * shared, shared
    unknowns = slopes.reshape(count, side * side, 6)
    squares = unknowns.transpose(0, 2, 1) @ unknowns
    squares += np.eye(6, dtype=np.float32) * (1e-3 * np.einsum("pii->pi", squares)[:, None] + 1e-3)
    target = unknowns.transpose(0, 2, 1) @ (b * shared).reshape(count, side * side, 1)
    solved = np.linalg.solve(squares, target)[..., 0]
    fits = fits + np.clip(solved[:, :4] / np.maximum(solved[:, 4:5], 0.3), -_STEP, _STEP)
    fits[:, ::2] = np.clip(fits[:, ::2], *_SCALES)
    fits[:, 1::2] = np.clip(fits[:, 1::2], *_SHIFTS)
    return fits


def _resampling(fits: Array, side: int) -> tuple[Array, Array, Array]:
    """Return weights of linear interpolation, down and across, and the part that both pictures show; each (P, n, n)."""
    axis = _axis(side)
    across, in_width = _weights(fits[:, 0:1] * axis + fits[:, 1:2], side)
    down, in_height = _weights(fits[:, 2:3] * axis + fits[:, 3:4], side)
    shared = (in_height[:, :, None] & in_width[:, None]).astype(np.float32)
    return down, across.transpose(0, 2, 1), shared


def _transform(left: Array, middle: Array, right: Array) -> Array:
    product: Array = np.matmul(np.matmul(left, middle), right)
    return product


def _weights(positions: Array, side: int) -> tuple[Array, NDArray[np.bool_]]:
    at = ((positions + 1) * side - 1) / 2
    apart = np.abs(at[..., None] - np.arange(side, dtype=np.float32))
    weights = np.maximum(np.float32(0), 1 - apart)
    return weights.astype(np.float32), (at >= -0.25) & (at <= side - 0.75)


def _axis(side: int) -> Array:
    """Return the centres of a side's pixels, from -1 to 1."""
    return ((np.arange(side) * 2 + 1) / side - 1).astype(np.float32)


def _agreement(first: ThumbnailArray, second: ThumbnailArray, fits: Array) -> tuple[Array, Array]:
    fits, details = _refine(first, second, fits, SIDE)
    down, across, shared = _resampling(fits, _COARSE)
    a, b = _colours(first), _colours(second)
    shown = np.broadcast_to(shared[:, None], a.shape)
    colours = _correlation(_transform(down[:, None], a, across[:, None]), b, shown)
    area = shared.mean(axis=(1, 2))
    enough = np.minimum(area, area * fits[:, 0] * fits[:, 2]) >= _OVERLAP
    return np.where(enough, np.clip(np.minimum(details, colours), 0, 1), 0).astype(np.float32), fits


def _colours(thumbnails: ThumbnailArray) -> Array:
    """Return the coarse colours (P, 3, n, n)."""
    colours = thumbnails[:, SIDE * SIDE :].astype(np.float32)
    return colours.reshape(len(thumbnails), _COARSE, _COARSE, 3).transpose(0, 3, 1, 2)


def _fit_correlation(a: Array, b: Array, fits: Array) -> Array:
    down, across, shared = _resampling(fits, a.shape[1])
    return np.where(shared.mean(axis=(1, 2)) < 0.5, -1, _correlation(_transform(down, a, across), b, shared))


def _correlation(a: Array, b: Array, shared: Array) -> Array:
    """Return the correlation (P,) of each pair's values (P, ...) where `shared` is 1."""
    axes = tuple(range(1, a.ndim))
    weights = shared / np.maximum(shared.sum(axis=axes, keepdims=True), 1)
    a = a - (a * weights).sum(axis=axes, keepdims=True)
    b = b - (b * weights).sum(axis=axes, keepdims=True)
    both = ((values * values * weights).sum(axis=axes) for values in (a, b))
    spread = np.sqrt(np.prod(list(both), axis=0))
    return np.where(spread > 0.25, (a * b * weights).sum(axis=axes) / np.maximum(spread, 0.25), 0).astype(np.float32)


def _blur(side: int, width: float) -> Array:
    """Return a Gaussian blur along one side as a matrix (n, n)."""
    apart = np.arange(side)[:, None] - np.arange(side)
    weights = np.exp(-0.5 * (apart / width) ** 2)
    rows: Array = (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)
    return rows
