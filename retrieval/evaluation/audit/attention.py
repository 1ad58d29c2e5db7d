"""Where a model looks, in figures: the share of a heatmap's evidence in the corners, at the border, in the focus.

All shares are of the evidence of one heatmap, and are compared with the share of the area: that of a uniform map.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from retrieval.datasets.pair_sampling import Flags
from retrieval.model.head import Array

CellWeights = Flags | NDArray[np.float64]

HELD_BY_FOCUS = 2 / 3  # of a mean map's evidence: most of it, without the faint rest everywhere
_CORNER = 1 / 3  # of each side


class Corner(StrEnum):
    """A corner of a picture, a third of its width and of its height."""

    upper_left = "upper left"
    upper_right = "upper right"
    lower_left = "lower left"
    lower_right = "lower right"


@dataclass(frozen=True)
class AttentionShares:
    """Shares of evidence, 0 to 1, as means over heatmaps.

    `border` is the outermost ring of places, `corners` the outer third by third in each corner. Half of the evidence
    lies in the share `spread` of the places. `outside` is what lies outside the class's focus.
    """

    border: float
    corners: dict[Corner, float]
    spread: float
    outside: float


def normalise_heatmaps(heatmaps: Array) -> Array:
    """Scale heatmaps (N, h, w), at least 0, so that each sums to 1, float32; empty ones stay empty."""
    total = heatmaps.sum((1, 2), keepdims=True)
    return np.asarray(np.divide(heatmaps, total, out=np.zeros_like(heatmaps), where=total > 0))


def attention_shares(evidence: Array, focus: Flags) -> AttentionShares:
    """Return the attention shares of N heatmaps that sum to 1 each, float32 (N, h, w); `focus` is bool (h, w)."""
    mean = evidence.mean(0)
    return AttentionShares(
        border=_weighted_sum(mean, border_mask(mean.shape)),
        corners={each: _weighted_sum(mean, corner_weights(each, mean.shape)) for each in Corner},
        spread=float(np.mean([evidence_spread(each) for each in evidence])),
        outside=_weighted_sum(mean, ~focus),
    )


def border_mask(shape: Sequence[int]) -> Flags:
    """Return the outermost ring of places, bool (h, w)."""
    ring = np.ones(tuple(shape), np.bool_)
    ring[1:-1, 1:-1] = False
    return ring


def corner_weights(which: Corner, shape: Sequence[int]) -> NDArray[np.float64]:
    """Return how much of each place lies in the corner, (h, w) from 0 to 1: a third may end within a place."""
    rows, columns = (np.clip(_CORNER * count - np.arange(count), 0, 1) for count in shape)
    down, across = which.split()
    return np.outer(rows if down == "upper" else rows[::-1], columns if across == "left" else columns[::-1])


def evidence_spread(evidence: Array) -> float:
    """Return the smallest share of the places (h, w) that holds half of the evidence: 0 to 0.5.

    The last place counts partly, so that a uniform map of any size gives a half.
    """
    held = np.cumsum(np.sort(evidence, axis=None)[::-1].astype(np.float64))
    needed = float(np.interp(held[-1] / 2, np.concatenate([[0.0], held]), np.arange(len(held) + 1)))
    return needed / len(held)


def focus_mask(evidence: Array, held: float = HELD_BY_FOCUS) -> Flags:
    """Return the fewest places that hold this share of the mean of heatmaps (N, h, w): bool (h, w)."""
    mean = evidence.mean(0)
    order = np.argsort(-mean, axis=None, kind="stable")
    before = np.cumsum(mean.flat[order]) - mean.flat[order]
    inside = np.zeros(mean.size, np.bool_)
    inside[order[before < held * mean.sum()]] = True
    return inside.reshape(mean.shape)


def _weighted_sum(mean: Array, weights: CellWeights) -> float:
    return float(np.sum(mean * weights, dtype=np.float64))
