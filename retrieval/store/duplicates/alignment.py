"""How well two pictures agree once one is laid over the other: small ones, moved and scaled until they fit.

Copies of a photograph that were saved anew, resized or slightly cropped agree in their details; two photographs of one
room do not, however alike they are. The fit is the inverse kind of Lucas and Kanade's image registration (1981): steps
of Gauss-Newton on scale and shift of both axes, with the brightness's gain and offset as two more unknowns.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from retrieval.model.head import Array

SIDE = 64
"""The side of a small picture's grey levels, on which details are compared."""

ThumbnailArray = NDArray[np.uint8]
"""Small pictures, (N, SIZE): of each SIDE x SIDE grey levels, then COARSE x COARSE colours."""

_COARSE = 16
THUMBNAIL_SIZE = SIDE * SIDE + _COARSE * _COARSE * 3

_MIDDLE = 32  # between the coarsest side and SIDE
_STARTS = (1.0, 0.87)  # scales from which a fit begins: as it is, and cropped
_FIRST_ROUNDS, _ROUNDS, _FINE_ROUNDS = 4, 10, 4  # steps of a first try, at the coarsest side, and at the others
_MIN_FIRST, _MIN_COARSE, _MIN_DETAIL = 0.6, 0.8, 0.65  # correlations, by that order, below which no more is tried
_SCALES, _SHIFTS = (0.75, 1.34), (-0.3, 0.3)  # of a copy with up to a fifth of a side cropped, and some room
_STEP = 0.08  # the most that one step moves, of half a picture
_OVERLAP = 0.6  # of each picture that the other must have
_DETAIL = 3.0  # pixels of SIDE: what a Gaussian of this width keeps is no detail


def make_thumbnail(image: Image.Image) -> ThumbnailArray:
    """An RGB picture brought to what is compared, (SIZE,): squashed, so that its proportions do not matter."""
    squashed = image.resize((SIDE, SIDE), Image.Resampling.BICUBIC, reducing_gap=3.0)
    colours = squashed.resize((_COARSE, _COARSE), Image.Resampling.BOX)
    return np.concatenate([np.asarray(squashed.convert("L")).reshape(-1), np.asarray(colours).reshape(-1)])


def agreements(first: ThumbnailArray, second: ThumbnailArray) -> Array:
    """How well each pair (P, SIZE) agrees, float32 (P,), from 0 to 1; the order of the two does not matter much.

    The lesser of two correlations over the part that both show: of details in grey, and of coarse colours. 0 where the
    pictures do not fit over each other with 60 % of each in common, and for pictures without details.
    """
    found = np.zeros(len(first), np.float32)
    places, fits = _coarse_fits(first, second)
    if len(places):
        fits, details = _refine(first[places], second[places], fits, _MIDDLE)
        going_on = details >= _MIN_DETAIL
        places, fits = places[going_on], fits[going_on]
    if len(places):
        a, b = first[places], second[places]
        found[places] = np.maximum(_agreement(a, b, fits), _agreement(b, a, _inverse(fits)))
    return found


def _grey(thumbnails: ThumbnailArray, side: int) -> Array:
    """Grey levels (P, side, side), averaged."""
    cell = SIDE // side
    full = thumbnails[:, : SIDE * SIDE].astype(np.float32)
    averaged: Array = full.reshape(len(thumbnails), side, cell, side, cell).mean(axis=(2, 4), dtype=np.float32)
    return averaged


def _coarse_fits(first: ThumbnailArray, second: ThumbnailArray) -> tuple[NDArray[np.int64], Array]:
    """The places (Q,) of the pairs that are worth more, and the best fit (Q, 4) of each at the coarsest side.

    Most pairs are no copies, which a first try tells: of 1,200 copies the worst correlated by .83 after it.
    """
    blurred = _blur(_COARSE, 0.6)
    a, b = (_transform(blurred, _grey(smalls, _COARSE), blurred.T) for smalls in (first, second))
    best = _correlation(a, b, np.ones_like(a))
    tried = _fit_correlation(a, b, _fit(a, b, _start(1.0, len(a)), _FIRST_ROUNDS))
    places = np.flatnonzero(np.maximum(best, tried) >= _MIN_FIRST)
    a, b, best, fits = a[places], b[places], best[places], _start(1.0, len(places))
    for scale in _STARTS:
        start = _start(scale, len(a))
        for fit in (_fit(a, b, start, _ROUNDS), _inverse(_fit(b, a, start, _ROUNDS))):
            correlation = _fit_correlation(a, b, fit)
            better = correlation > best
            fits[better], best[better] = fit[better], correlation[better]
    worth = best >= _MIN_COARSE
    return places[worth], fits[worth]


def _inverse(fits: Array) -> Array:
    """The same fits from the other picture."""
    inverse = np.empty_like(fits)
    inverse[:, ::2] = 1 / fits[:, ::2]
    inverse[:, 1::2] = -fits[:, 1::2] / fits[:, ::2]
    return inverse


def _start(scale: float, count: int) -> Array:
    """Fits (count, 4): scale and shift across, scale and shift down, in halves of a picture from its middle."""
    return np.tile(np.array([scale, 0, scale, 0], np.float32), (count, 1))


def _refine(first: ThumbnailArray, second: ThumbnailArray, fits: Array, side: int) -> tuple[Array, Array]:
    """Fits made finer, but for those that were better before, and the correlation (P,) of details that each gives."""
    a, b = _grey(first, side), _grey(second, side)
    tried = _fit(a, b, fits, _FINE_ROUNDS)
    better = _fit_correlation(a, b, tried) >= _fit_correlation(a, b, fits)
    fits = np.where(better[:, None], tried, fits)
    blurred = _blur(side, _DETAIL * side / SIDE)
    a, b = (grey - _transform(blurred, grey, blurred.T) for grey in (a, b))
    return fits, _fit_correlation(a, b, fits)


def _fit(a: Array, b: Array, fits: Array, rounds: int) -> Array:
    """Steps of Gauss-Newton that lay the first pictures (P, n, n) over the second."""
    count, side = a.shape[:2]
    axis = _axis(side)
    steep_down, steep_across = (np.gradient(a, 2 / side, axis=along) for along in (1, 2))
    slopes = np.empty((count, side, side, 6), np.float32)
    for _ in range(rounds):
        down, across, shared = _resampling(fits, side)
        gradient_across, gradient_down = (
            _transform(down, steep, across) * shared for steep in (steep_across, steep_down)
        )
        slopes[..., 0], slopes[..., 1] = gradient_across * axis, gradient_across
        slopes[..., 2], slopes[..., 3] = gradient_down * axis[:, None], gradient_down
        slopes[..., 4], slopes[..., 5] = _transform(down, a, across) * shared, shared
        unknowns = slopes.reshape(count, side * side, 6)
        squares = unknowns.transpose(0, 2, 1) @ unknowns
        squares += np.eye(6, dtype=np.float32) * (1e-3 * np.einsum("pii->pi", squares)[:, None] + 1e-3)
        wanted = unknowns.transpose(0, 2, 1) @ (b * shared).reshape(count, side * side, 1)
        solved = np.linalg.solve(squares, wanted)[..., 0]
        fits = fits + np.clip(solved[:, :4] / np.maximum(solved[:, 4:5], 0.3), -_STEP, _STEP)
        fits[:, ::2] = np.clip(fits[:, ::2], *_SCALES)
        fits[:, 1::2] = np.clip(fits[:, 1::2], *_SHIFTS)
    return fits


def _resampling(fits: Array, side: int) -> tuple[Array, Array, Array]:
    """Weights of linear interpolation down (P, n, n) and across (P, n, n), and what both pictures show (P, n, n)."""
    axis = _axis(side)
    across, in_width = _weights(fits[:, 0:1] * axis + fits[:, 1:2], side)
    down, in_height = _weights(fits[:, 2:3] * axis + fits[:, 3:4], side)
    shared = (in_height[:, :, None] & in_width[:, None]).astype(np.float32)
    return down, across.transpose(0, 2, 1), shared


def _transform(left: Array, middle: Array, right: Array) -> Array:
    product: Array = np.matmul(np.matmul(left, middle), right)
    return product


def _weights(places: Array, side: int) -> tuple[Array, NDArray[np.bool_]]:
    at = ((places + 1) * side - 1) / 2
    apart = np.abs(at[..., None] - np.arange(side, dtype=np.float32))
    weights = np.maximum(np.float32(0), 1 - apart)
    return weights.astype(np.float32), (at >= -0.25) & (at <= side - 0.75)


def _axis(side: int) -> Array:
    """The middles of the pixels of a side, from -1 to 1."""
    return ((np.arange(side) * 2 + 1) / side - 1).astype(np.float32)


def _agreement(first: ThumbnailArray, second: ThumbnailArray, fits: Array) -> Array:
    fits, details = _refine(first, second, fits, SIDE)
    down, across, shared = _resampling(fits, _COARSE)
    a, b = _colours(first), _colours(second)
    shown = np.broadcast_to(shared[:, None], a.shape)
    colours = _correlation(_transform(down[:, None], a, across[:, None]), b, shown)
    area = shared.mean(axis=(1, 2))
    enough = np.minimum(area, area * fits[:, 0] * fits[:, 2]) >= _OVERLAP
    return np.where(enough, np.clip(np.minimum(details, colours), 0, 1), 0).astype(np.float32)


def _colours(thumbnails: ThumbnailArray) -> Array:
    """Coarse colours (P, 3, n, n)."""
    return (
        thumbnails[:, SIDE * SIDE :]
        .astype(np.float32)
        .reshape(len(thumbnails), _COARSE, _COARSE, 3)
        .transpose(0, 3, 1, 2)
    )


def _fit_correlation(a: Array, b: Array, fits: Array) -> Array:
    down, across, shared = _resampling(fits, a.shape[1])
    return np.where(shared.mean(axis=(1, 2)) < 0.5, -1, _correlation(_transform(down, a, across), b, shared))


def _correlation(a: Array, b: Array, shared: Array) -> Array:
    """Of each pair's values (P, ...) where `shared` is 1."""
    axes = tuple(range(1, a.ndim))
    weights = shared / np.maximum(shared.sum(axis=axes, keepdims=True), 1)
    a = a - (a * weights).sum(axis=axes, keepdims=True)
    b = b - (b * weights).sum(axis=axes, keepdims=True)
    both = ((each * each * weights).sum(axis=axes) for each in (a, b))
    spread = np.sqrt(np.prod(list(both), axis=0))
    return np.where(spread > 0.25, (a * b * weights).sum(axis=axes) / np.maximum(spread, 0.25), 0).astype(np.float32)


def _blur(side: int, width: float) -> Array:
    """A Gaussian blur along one side as a matrix (n, n)."""
    apart = np.arange(side)[:, None] - np.arange(side)
    weights = np.exp(-0.5 * (apart / width) ** 2)
    rows: Array = (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)
    return rows
