"""Quality metrics. Every fraction is from 0 to 1."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


def precision_at(relevant: Bools, k: int) -> float:
    """Return the share of relevant results among the first k of `relevant` (N,); absent ones count as wrong."""
    return float(relevant[:k].sum() / k)


def average_precision(relevant: Bools, total: int, k: int = 100) -> float:
    """Return AP@k: the sum of the precision at each relevant rank up to k, over min(total, k).

    `relevant` (N,) is in the order of the results; `total` is the number of all relevant pictures.
    """
    first = relevant[:k]
    precisions = np.cumsum(first) / np.arange(1, len(first) + 1)
    return float(np.sum(precisions * first) / min(total, k))


def roc_auc(scores: Floats, positive: Bools) -> float:
    """Return the probability that a positive scores above a negative; ties count half (Mann and Whitney's U)."""
    positives = int(positive.sum())
    negatives = len(positive) - positives
    return float((mean_ranks(scores)[positive].sum() - positives * (positives + 1) / 2) / (positives * negatives))


def mean_ranks(values: NDArray[Any]) -> Floats:
    """Return the rank of each value from 1 on, flat; equal values share the mean of theirs."""
    _, inverse, counts = np.unique(values.ravel(), return_inverse=True, return_counts=True)
    ranks: Floats = np.cumsum(counts) - (counts - 1) / 2
    return ranks[inverse]


@dataclass(frozen=True)
class Bin:
    """The probabilities from `low` to `high`: their number, their mean, and the share of positives among them."""

    low: float
    high: float
    count: int
    mean: float
    share: float


def reliability(probabilities: Floats, positive: Bools, bins: int = 15) -> list[Bin]:
    """Bin probabilities (N,) and outcomes (N,) into bins of equal width. Returns those that are not empty, in order."""
    bin_of = np.minimum((probabilities * bins).astype(int), bins - 1)
    masks = [(int(b), bin_of == b) for b in np.unique(bin_of)]
    return [
        Bin(b / bins, (b + 1) / bins, int(mask.sum()), float(probabilities[mask].mean()), float(positive[mask].mean()))
        for b, mask in masks
    ]


def calibration_error(probabilities: Floats, positive: Bools, bins: int = 15) -> float:
    """Return the expected calibration error: each bin's |mean probability - share of positives|, weighted by size."""
    errors = (each.count * abs(each.mean - each.share) for each in reliability(probabilities, positive, bins))
    return sum(errors) / len(probabilities)


@dataclass(frozen=True)
class Interval:
    """A mean and the bounds of its 95 % interval."""

    mean: float
    low: float
    high: float


def bootstrap(values: Floats, seed: int = 0) -> Interval:
    """Return the mean of values (N,) with Efron's percentile interval (1979) of 2,000 resamples; all 0 if N is 0."""
    if not len(values):
        return Interval(0.0, 0.0, 0.0)
    random = np.random.default_rng(seed)
    means = [float(values[random.integers(0, len(values), len(values))].mean()) for _ in range(2000)]
    low, high = np.percentile(means, (2.5, 97.5))
    return Interval(float(values.mean()), float(low), float(high))


def sigmoid(x: Floats) -> Floats:
    """Return 1 / (1 + exp(-x)) without overflow."""
    return 0.5 * (1 + np.tanh(0.5 * x))


def fit_logistic(x: Floats, y: Bools, pictures: int | None = None) -> tuple[float, float]:
    """Fit sigmoid(w x + b) to the outcomes y at maximum likelihood, by Newton's method. Returns (w, b).

    If few `pictures` make many pairs, the targets 0 and 1 are softened to 1 / (n + 2) and (n + 1) / (n + 2), as
    Platt (1999) does for n examples, so that perfectly separated pairs do not give an infinite slope.
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
