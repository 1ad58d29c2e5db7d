"""Calibrate a store's similarity to its own gallery: the sigmoid neuron fitted anew to pairs of its class folders.

Only slope and intercept change, so that the order of hits stays. The figures are cross-fitted: the gallery is parted in
halves, and the pairs of each are judged by a neuron fitted to the pairs of the other.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from indexes.arrays import Vectors
from indexes.catalogue.catalogue import Catalogue
from retrieval.common.errors import GalleryError, ModelError
from retrieval.common.metrics import Bin, calibration_error, fit_logistic, reliability, roc_auc, sigmoid
from retrieval.common.settings import THRESHOLD
from retrieval.datasets.pair_sampling import Codes, Flags, half_of_classes, random_pairs
from retrieval.model.bundle import Bundle, find_bundle
from retrieval.model.head import Head

# Drawn from flowers, rooms and skin lesions and judged on the whole sets, 20 pictures lowered the calibration error in
# all but at most one of 70 fits (median .03 to .06, from .11 to .28), 100 always, and 300 hardly did better.
MIN_PICTURES = 20
MAX_PICTURES = 5000
_MIN_PER_CLASS = 4  # so that a half has two
_MANY_CLASSES = 10  # of two pictures, from which halves are of classes: each half has five
_SPLITS = 5  # into halves
_PAIRS = 1000  # at least, of each kind, of a half

Distances = NDArray[np.float64]

_SETTING = "calibration"


@dataclass(frozen=True)
class ReliabilityBins:
    """Similarity against truth on unseen pairs, in bins: with the head's own neuron, and with those fitted."""

    before: tuple[Bin, ...]
    after: tuple[Bin, ...]


@dataclass(frozen=True)
class CalibrationResult:
    """A calibration that the store now keeps, with what its page shows."""

    calibration: Calibration
    reliability: ReliabilityBins


@dataclass(frozen=True)
class _Labelled:
    """What is compared of the pictures, `u` float32 (N, E), and their classes (N,) as numbers from 0."""

    u: Vectors
    codes: Codes


@dataclass(frozen=True)
class _Verdicts:
    """Pairs (P,): whether they are different, their separations D, and the distances d of a neuron fitted elsewhere."""

    different: Flags
    separations: Distances
    distances: Distances


def calibrate(catalogue: Catalogue, bundle: Bundle, seed: int = 0) -> CalibrationResult:
    """Fit the neuron to the gallery's labels and keep it in the store. `seed` decides all that is drawn.

    Raises GalleryError, and leaves all as it was, where labels are too few or similarity tells nothing about them;
    StoreError where the store cannot be written.
    """
    head = bundle.head
    labelled = _draw_sample(catalogue, head, bundle.fingerprint, seed)
    unseen = _choose_held_out(catalogue, labelled.codes)
    random = np.random.default_rng(seed)
    separations, different = _draw_pairs(head, labelled, np.arange(len(labelled.codes)), random)
    slope, intercept = fit_logistic(separations, different, len(labelled.codes))
    if slope <= 0:
        raise GalleryError(
            f"in {catalogue.folder} pictures of one class are no more similar than those of two, so similarity cannot"
            " be calibrated to its class folders: index folders whose pictures belong together, or train a model"
        )
    verdicts = _cross_fit(head, labelled, unseen, random)
    calibration = Calibration(
        model=bundle.card.name,
        digest=head.digest,
        slope=slope,
        intercept=intercept,
        pictures=len(labelled.codes),
        classes=len(np.unique(labelled.codes)),
        pairs=len(different),
        seed=seed,
        unseen=unseen,
        roc_auc=roc_auc(verdicts.separations, verdicts.different),
        before=_score_pairs(head.distance(verdicts.separations), verdicts.different),
        after=_score_pairs(verdicts.distances, verdicts.different),
    )
    save_calibration(catalogue, calibration)
    return CalibrationResult(calibration, _reliability_bins(head, verdicts))


def _draw_sample(catalogue: Catalogue, head: Head, fingerprint: str, seed: int) -> _Labelled:
    """The gallery's labelled pictures; of more than MOST in all, those of a sample."""
    ids, vectors = catalogue.descriptors.sample(fingerprint, MAX_PICTURES, seed)
    label_of = {picture.id: picture.label for picture in catalogue.pictures.candidates(ids)}
    labels = [label_of.get(id_) for id_ in ids.tolist()]
    known = np.array([label is not None for label in labels], np.bool_)
    classes = np.array([label for label in labels if label is not None])
    codes = np.unique(classes, return_inverse=True)[1].astype(np.int64)
    return _Labelled(head.embed(vectors[known]) if known.any() else vectors, codes)


def _choose_held_out(catalogue: Catalogue, codes: Codes) -> HeldOut:
    """How the pictures can be parted in halves that both make pairs of one class and of two. Raises GalleryError."""
    if len(codes) >= MIN_PICTURES:
        if _class_count(codes, 2) >= _MANY_CLASSES:
            return HeldOut.classes
        if _class_count(codes, _MIN_PER_CLASS) >= 2:
            return HeldOut.pictures
    raise GalleryError(
        f"{catalogue.folder} holds {len(codes)} pictures in class folders, and {_MIN_PER_CLASS} or more in"
        f" {_class_count(codes, _MIN_PER_CLASS)} of these, too few to calibrate to: index at least {MIN_PICTURES},"
        f" with {_MIN_PER_CLASS} or more in two class folders"
    )


def _class_count(codes: Codes, pictures: int) -> int:
    """How many classes have at least so many pictures."""
    return int(np.sum(np.bincount(codes) >= pictures))


def _draw_pairs(head: Head, labelled: _Labelled, places: Codes, random: np.random.Generator) -> tuple[Distances, Flags]:
    """Separations (P,) of each of these pictures with one of its class and one of another; whether different.

    Of few pictures, with several of each.
    """
    u, codes = labelled.u[places], np.unique(labelled.codes[places], return_inverse=True)[1].astype(np.int64)
    drawn = [random_pairs(codes, int(random.integers(2**31))) for _ in range(-(-_PAIRS // len(codes)))]
    first, second, similar = (np.concatenate(part) for part in zip(*drawn, strict=True))
    return head.separation(u[first], u[second]), ~similar


def _cross_fit(head: Head, labelled: _Labelled, unseen: HeldOut, random: np.random.Generator) -> _Verdicts:
    """The pairs of each half, judged by the neuron that the other half gives, of several partings into halves."""
    codes, found = labelled.codes, list[_Verdicts]()
    for _ in range(_SPLITS):
        by_class = unseen is HeldOut.classes
        half = half_of_classes(codes, random)[codes] if by_class else _half_of_each_class(codes, random)
        parts = [np.flatnonzero(half), np.flatnonzero(~half)]
        pairs = [_draw_pairs(head, labelled, part, random) for part in parts]
        fitted = [fit_logistic(*each, len(part)) for each, part in zip(pairs, parts, strict=True)]
        for (separations, different), (slope, intercept) in zip(pairs, reversed(fitted), strict=True):
            found.append(_Verdicts(different, separations, sigmoid(slope * separations + intercept)))
    return _Verdicts(
        np.concatenate([each.different for each in found]),
        np.concatenate([each.separations for each in found]),
        np.concatenate([each.distances for each in found]),
    )


def _half_of_each_class(codes: Codes, random: np.random.Generator) -> Flags:
    """Marks every other picture of each class, in a random order."""
    half = np.zeros(len(codes), np.bool_)
    for code in range(int(codes.max()) + 1):
        half[random.permutation(np.flatnonzero(codes == code))[::2]] = True
    return half


def _score_pairs(distances: Distances, different: Flags) -> PairScores:
    right = (distances < THRESHOLD) == ~different
    return PairScores(float(right.mean()), calibration_error(1 - distances, ~different))


def _reliability_bins(head: Head, verdicts: _Verdicts) -> ReliabilityBins:
    before, after = (
        tuple(reliability(1 - distances, ~verdicts.different))
        for distances in (head.distance(verdicts.separations), verdicts.distances)
    )
    return ReliabilityBins(before, after)


class HeldOut(StrEnum):
    """What a half of the gallery was unseen by: the neuron that judged it was fitted on none of its classes, or none
    of its pictures."""

    classes = "classes"
    pictures = "pictures"


@dataclass(frozen=True)
class PairScores:
    """Verdicts on unseen pairs: the share that is right, and the expected calibration error (0 to 1)."""

    accuracy: float
    error: float


@dataclass(frozen=True)
class Calibration:
    """The sigmoid neuron fitted to a gallery, for the head of this `digest`: d = sigmoid(slope D + intercept).

    `model` is the head's name. It was fitted to `pairs` pairs of `pictures` pictures in `classes` classes, half of the
    pairs of one class. `before` and `after` are of pairs that the judging neuron was not fitted on, as `unseen` says;
    `roc_auc` is the same for both.
    """

    model: str
    digest: str
    slope: float
    intercept: float
    pictures: int
    classes: int
    pairs: int
    seed: int
    unseen: HeldOut
    roc_auc: float
    before: PairScores
    after: PairScores


def read_calibration(catalogue: Catalogue) -> Calibration | None:
    """The calibration that a store keeps, of whatever head. Raises StoreError."""
    kept = catalogue.settings.get(_SETTING)
    if not kept:
        return None
    values = json.loads(kept)
    judged = {name: PairScores(**values[name]) for name in ("before", "after")}
    return Calibration(**values | judged | {"unseen": HeldOut(values["unseen"])})


def is_in_use(calibration: Calibration, catalogue: Catalogue) -> bool:
    """Whether it is for the head that the store's own model has now. Raises StoreError."""
    try:
        return find_bundle(catalogue.settings.get("model") or calibration.model).head.digest == calibration.digest
    except ModelError:  # the model is gone
        return False


def save_calibration(catalogue: Catalogue, calibration: Calibration) -> None:
    """Keep it in the store, whose hits have its similarities from then on. Raises StoreError."""
    catalogue.settings.set(**{_SETTING: json.dumps(asdict(calibration))})


def delete_calibration(catalogue: Catalogue) -> bool:
    """Take it back: the head's own similarities return. Whether there was one. Raises StoreError."""
    was_kept = bool(catalogue.settings.get(_SETTING))
    if was_kept:
        catalogue.settings.set(**{_SETTING: ""})
    return was_kept
