"""A head in closed form that ranks pictures of any domain at least as well as the backbone's own descriptors.

A head trained by gradient descent on narrow data forgets what the backbone knew. This one cannot: it is a whitening,
and labels only say which directions vary within classes. With x = sqrt(g + shift), C channels:

    St, m   covariance and mean of x over all pictures
    Sw      covariance of x within classes, classes and data sets weighted equally, scaled to the trace of St
    W       ((1 - s) Sw + s tr(St)/C I)^(-p), symmetric;  c = -t W m

With W symmetric each unit stays close to one channel, so that Grad-CAM still points; t moves the ReLU's threshold near
the mean. The sigmoid neuron is fitted by logistic regression on pairs of classes that its fold's head has not seen.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from retrieval.common.errors import GalleryError
from retrieval.common.metrics import Floats, fit_logistic
from retrieval.datasets.pair_sampling import Codes, balanced_pairs, half_of_classes
from retrieval.model.head import Array, Head, shifted_root
from retrieval.training.presets import ROOT_SHIFT

# With `ROOT_SHIFT`, chosen by ranking one of two labelled data sets with a head fitted to the other, among some twenty
# combinations.
SHRINKAGE = 0.3  # s
POWER = 0.25  # p
RELU_THRESHOLD = 0.8  # t
CALIBRATION_PAIRS = 10_000  # of each kind, by data set


@dataclass(frozen=True)
class LabelledDescriptors:
    """Descriptors (N, C) with their class codes (N,), numbers from 0."""

    descriptors: Array
    codes: Codes

    def select_classes(self, classes: NDArray[np.bool_]) -> LabelledDescriptors:
        """Return the pictures of the marked classes, whose codes are numbered anew."""
        rows = classes[self.codes]
        return LabelledDescriptors(self.descriptors[rows], np.unique(self.codes[rows], return_inverse=True)[1])


def fit_head(labelled: Sequence[LabelledDescriptors], unlabelled: Array, seed: int = 0) -> Head:
    """Fit a head to data sets; `unlabelled` (N, C) are pictures of all kinds. `seed` determines the pairs.

    Raises GalleryError if a data set has fewer than four classes with two pictures.
    """
    for data in labelled:
        if np.sum(np.bincount(data.codes) > 1) < 4:
            raise GalleryError("a data set to fit on has fewer than four classes of two pictures: give a larger one")
    least = min(float(data.descriptors.min()) for data in labelled)
    shift = ROOT_SHIFT if least >= 0 else None  # activations of a backbone without ReLU may be negative
    slope, intercept = fit_logistic(*_held_out_pairs(labelled, unlabelled, shift, seed))
    return _fit_uncalibrated(labelled, unlabelled, shift).calibrated(slope, intercept)


def _fit_uncalibrated(labelled: Sequence[LabelledDescriptors], unlabelled: Array, shift: float | None) -> Head:
    """Fit W and c, rounded as a bundle stores them, with an uncalibrated sigmoid neuron."""
    sets = [(shifted_root(data.descriptors.astype(np.float64), shift), data.codes) for data in labelled]
    x = np.concatenate([x for x, _ in sets] + [shifted_root(unlabelled.astype(np.float64), shift)])
    mean, variance = x.mean(axis=0), float(x.var(axis=0).mean())  # tr(St) / C
    within = sum((_within_class_covariance(x, codes) for x, codes in sets), np.zeros((x.shape[1], x.shape[1])))
    within *= variance / np.trace(within) * len(within)
    spreads, axes = np.linalg.eigh((1 - SHRINKAGE) * within + SHRINKAGE * variance * np.eye(len(within)))
    weight = (axes * spreads**-POWER) @ axes.T
    bias = -RELU_THRESHOLD * weight @ mean
    length = float(np.linalg.norm(np.maximum(x @ weight.T + bias, 0), axis=1).mean())  # does not change u
    stored = (weight / length).astype(np.float16).astype(np.float32)
    return Head(stored, (bias / length).astype(np.float32), 1.0, 0.0, normalize=True, shift=shift)


def _within_class_covariance(x: Floats, codes: Codes) -> Floats:
    """Return the mean over the classes of each class's covariance, (C, C)."""
    total = np.zeros((x.shape[1], x.shape[1]))
    for code in range(codes.max() + 1):
        centred = x[codes == code] - x[codes == code].mean(axis=0)
        total += centred.T @ centred / max(len(centred) - 1, 1)
    return np.asarray(total / (codes.max() + 1))


def _held_out_pairs(
    labelled: Sequence[LabelledDescriptors], unlabelled: Array, shift: float | None, seed: int
) -> tuple[Floats, NDArray[np.bool_]]:
    """Return separations of pairs of classes that the head was not fitted to, and whether they are different."""
    random = np.random.default_rng(seed + 1000)
    halves = [half_of_classes(data.codes, random) for data in labelled]
    separations, different = [], []
    for flip in (False, True):
        fitted_on = [data.select_classes(half ^ flip) for data, half in zip(labelled, halves, strict=True)]
        head = _fit_uncalibrated(fitted_on, unlabelled, shift)
        for data, half in zip(labelled, halves, strict=True):
            unseen = data.select_classes(half ^ (not flip))
            first, second, apart = balanced_pairs(unseen.codes, CALIBRATION_PAIRS // 2, random)
            separations.append(head.pair_separations(unseen.descriptors, first, second))
            different.append(apart)
    return np.concatenate(separations), np.concatenate(different)
