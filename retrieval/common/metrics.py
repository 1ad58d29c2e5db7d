"""Figures of quality. Each fraction lies from 0 to 1."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

Matrix = NDArray[np.float64]


def precision_at(relevant: Bools, k: int) -> float:
    """Share of relevant results among the first k, of results (N,) in their order; absent ones count as wrong."""
    return float(relevant[:k].sum() / k)


def average_precision(relevant: Bools, total: int, k: int = 100) -> float:
    """AP@k: the sum of precision at each relevant place up to k, over min(total, k).

    `relevant` (N,) in the order of results; `total` is how many relevant pictures there are in all.
    """
    first = relevant[:k]
    precisions = np.cumsum(first) / np.arange(1, len(first) + 1)
    return float(np.sum(precisions * first) / min(total, k))


def roc_auc(scores: Floats, positive: Bools) -> float:
    """The chance that a positive scores above a negative, ties counting half (Mann and Whitney's U)."""
    _, places, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[places]  # the mean rank of equal scores
    positives = int(positive.sum())
    negatives = len(positive) - positives
    return float((ranks[positive].sum() - positives * (positives + 1) / 2) / (positives * negatives))


@dataclass(frozen=True)
class Bin:
    """The probabilities from `low` up to `high`: how many, their mean, and the share of positives among them."""

    low: float
    high: float
    count: int
    mean: float
    share: float


def reliability(probabilities: Floats, positive: Bools, bins: int = 15) -> list[Bin]:
    """Probabilities (N,) against what came true, in bins of equal width; those that hold any, in their order."""
    bin_of = np.minimum((probabilities * bins).astype(int), bins - 1)
    found = [(int(b), bin_of == b) for b in np.unique(bin_of)]
    return [
        Bin(b / bins, (b + 1) / bins, int(own.sum()), float(probabilities[own].mean()), float(positive[own].mean()))
        for b, own in found
    ]


def calibration_error(probabilities: Floats, positive: Bools, bins: int = 15) -> float:
    """Expected calibration error: |mean probability - share of positives| by bin of equal width, weighted by size."""
    found = reliability(probabilities, positive, bins)
    return sum(each.count * abs(each.mean - each.share) for each in found) / len(probabilities)


@dataclass(frozen=True)
class Interval:
    """A mean with the bounds of its 95 % interval."""

    mean: float
    low: float
    high: float


def bootstrap(values: Floats, seed: int = 0, draws: int = 2000) -> Interval:
    """The mean of values (N,) and its 95 % interval: the middle of the means of as many draws with replacement.

    Efron's percentile interval (1979). Of no values all are 0.
    """
    if not len(values):
        return Interval(0.0, 0.0, 0.0)
    random = np.random.default_rng(seed)
    means = [float(values[random.integers(0, len(values), len(values))].mean()) for _ in range(draws)]
    low, high = np.percentile(means, (2.5, 97.5))
    return Interval(float(values.mean()), float(low), float(high))


def sigmoid(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """1 / (1 + exp(-x)) without overflow."""
    return 0.5 * (1 + np.tanh(0.5 * x))


def fit_logistic(x: Matrix, y: NDArray[np.bool_], pictures: int | None = None) -> tuple[float, float]:
    """(w, b) of sigmoid(w x + b), the chance of y, at the greatest likelihood; by Newton's method.

    Where few `pictures` make many pairs, the targets 0 and 1 are softened to 1 / (n + 2) and (n + 1) / (n + 2), as
    Platt (1999) does for n examples, so that pairs without a mistake give no endless slope.
    """
    target = y.astype(np.float64) if pictures is None else (y * pictures + 1) / (pictures + 2)
    inputs = np.stack([x, np.ones_like(x)], axis=1)
    solution = np.zeros(2)
    for _ in range(100):
        p = sigmoid(inputs @ solution)
        hessian = (inputs * (p * (1 - p))[:, None]).T @ inputs + 1e-9 * len(x) * np.eye(2)
        step = np.linalg.solve(hessian, inputs.T @ (p - target))
        solution -= step
        if np.abs(step).max() < 1e-9:
            break
    return float(solution[0]), float(solution[1])
