"""Calibration of a store to its own labels: one neuron is refitted to pairs of its class folders, one to their hits.

Only slopes and intercepts change, so the order of hits stays. The figures are cross-fitted: the gallery is split into
halves, and the pairs and hits of each are judged by neurons fitted to those of the other.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from enum import StrEnum

import numpy as np

from indexes.arrays import Vectors
from indexes.catalogue.catalogue import Catalogue
from indexes.errors import StoreError
from indexes.vectors.base import TunedIndex
from retrieval.common.errors import GalleryError
from retrieval.common.jsonable import from_json
from retrieval.common.metrics import Bin, Floats, calibration_error, fit_logistic, reliability, roc_auc, sigmoid
from retrieval.common.settings import THRESHOLD
from retrieval.datasets.pair_sampling import Codes, Flags, half_of_classes, random_pairs
from retrieval.model.bundle import Bundle
from retrieval.model.head import Head
from retrieval.store.maintenance.coverage import coverage_setting
from retrieval.store.maintenance.hit_calibration import HitScores, calibrate_hits
from retrieval.store.maintenance.labelled_pictures import draw_labelled, find_hits
from retrieval.store.similarity import PlainReason, StoreSimilarity, normalised_similarity

# Samples of flowers, rooms and skin lesions, judged on the whole sets: 20 pictures lowered the calibration error in all
# but at most one of 70 fits (median .03 to .06, from .11 to .28), 100 always, and 300 were hardly better.
MIN_PICTURES = 20
_MIN_PER_CLASS = 4  # so that a half has two
_MANY_CLASSES = 10  # of two pictures: from here on halves are of classes, five each
_SPLITS = 5  # into halves
_PAIRS = 1000  # at least, of each kind, of a half
_NEARLY_ALL = 0.9  # of a gallery's pictures: if fewer have a label, hits among these say little of those among all

_SETTING = "calibration"


@dataclass(frozen=True)
class CalibrationResult:
    """A calibration that was saved in the store, and the reliability of unseen pairs' similarities before and after."""

    calibration: Calibration
    before: list[Bin]
    after: list[Bin]


@dataclass(frozen=True)
class _Labelled:
    """Pictures' embeddings as they are compared, `u` float32 (N, E), and their classes (N,), numbered from 0."""

    u: Vectors
    codes: Codes


def calibrate(
    catalogue: Catalogue, bundle: Bundle, seed: int = 0, index: TunedIndex | None = None
) -> CalibrationResult:
    """Fit the neurons to the gallery's labels and save them in the store. `seed` determines every random choice.

    The hits of a gallery of more than 10,000 pictures are found by the `index`, or else by comparing all. Raises
    GalleryError, and changes nothing, if there are too few labels or similarity does not depend on them; StoreError if
    the store cannot be written.
    """
    similarity = normalised_similarity(catalogue, bundle)
    head, sample = similarity.head, draw_labelled(catalogue, bundle.fingerprint, seed)
    labelled = _Labelled(head.embed(sample.descriptors) if len(sample.codes) else sample.descriptors, sample.codes)
    held_out = _choose_held_out(catalogue, labelled.codes)
    random = np.random.default_rng(seed)
    separations, different = _draw_pairs(head, labelled, np.arange(len(labelled.codes)), random)
    slope, intercept = fit_logistic(separations, different, len(labelled.codes))
    if slope <= 0:
        raise GalleryError(
            f"in {catalogue.folder} pictures of one class are no more similar than those of two, so similarity cannot"
            " be calibrated to its class folders: index folders whose pictures belong together, or train a model"
        )
    unseen_different, unseen_separations, after = _cross_fit(head, labelled, held_out, random)
    before = head.distance(unseen_separations)
    hits = find_hits(catalogue, head, bundle.fingerprint, sample, index)
    judged = calibrate_hits(similarity, hits, _split(hits.codes, HeldOut.pictures, random))
    coverage = judged.coverage if sample.share >= _NEARLY_ALL else None
    calibration = Calibration(
        model=bundle.card.name,
        digest=bundle.head.digest,
        normalised=similarity.statistics is not None,
        slope=slope,
        intercept=intercept,
        pictures=len(labelled.codes),
        classes=len(np.unique(labelled.codes)),
        pairs=len(different),
        seed=seed,
        unseen=held_out,
        roc_auc=roc_auc(unseen_separations, unseen_different),
        before=_score_pairs(before, unseen_different),
        after=_score_pairs(after, unseen_different),
        hit=judged.neuron,
        hits=judged.scores if coverage else replace(judged.scores, needed=None),
    )
    catalogue.settings.set(**_calibration_setting(calibration), **coverage_setting(coverage))
    bins = (reliability(1 - distances, ~unseen_different) for distances in (before, after))
    return CalibrationResult(calibration, *bins)


def _choose_held_out(catalogue: Catalogue, codes: Codes) -> HeldOut:
    """Return how to split the pictures into halves that both have pairs of one class and of two.

    Raises GalleryError if that is not possible.
    """
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
    """Return how many classes have at least so many pictures."""
    return int(np.sum(np.bincount(codes) >= pictures))


def _draw_pairs(head: Head, labelled: _Labelled, rows: Codes, random: np.random.Generator) -> tuple[Floats, Flags]:
    """Pair each of these pictures with one of its class and one of another; few pictures with several of each.

    Returns the separations (P,), and whether the pictures are of different classes.
    """
    u, codes = labelled.u[rows], np.unique(labelled.codes[rows], return_inverse=True)[1].astype(np.int64)
    drawn = [random_pairs(codes, int(random.integers(2**31))) for _ in range(-(-_PAIRS // len(codes)))]
    first, second, similar = (np.concatenate(part) for part in zip(*drawn, strict=True))
    return head.separation(u[first], u[second]), ~similar


def _cross_fit(
    head: Head, labelled: _Labelled, held_out: HeldOut, random: np.random.Generator
) -> tuple[Flags, Floats, Floats]:
    """Judge the pairs of each half by the neuron fitted to the other half, for several splits into halves.

    Returns, of pairs (P,), whether they are different, their separations D, and distances d by the other half's neuron.
    """
    verdicts = list[tuple[Flags, Floats, Floats]]()
    for parts in _split(labelled.codes, held_out, random):
        pairs = [_draw_pairs(head, labelled, part, random) for part in parts]
        fitted = [fit_logistic(*each, len(part)) for each, part in zip(pairs, parts, strict=True)]
        for (separations, different), (slope, intercept) in zip(pairs, reversed(fitted), strict=True):
            verdicts.append((different, separations, sigmoid(slope * separations + intercept)))
    different, separations, distances = (np.concatenate(part) for part in zip(*verdicts, strict=True))
    return different, separations, distances


def _split(codes: Codes, held_out: HeldOut, random: np.random.Generator) -> Iterator[tuple[Codes, Codes]]:
    """Yield the rows of both halves of several splits."""
    for _ in range(_SPLITS):
        by_class = held_out is HeldOut.classes
        half = half_of_classes(codes, random)[codes] if by_class else _half_of_each_class(codes, random)
        yield np.flatnonzero(half), np.flatnonzero(~half)


def _half_of_each_class(codes: Codes, random: np.random.Generator) -> Flags:
    """Mark every other picture of each class, in a random order."""
    half = np.zeros(len(codes), np.bool_)
    for code in range(int(codes.max()) + 1):
        half[random.permutation(np.flatnonzero(codes == code))[::2]] = True
    return half


def _score_pairs(distances: Floats, different: Flags) -> PairScores:
    is_right = (distances < THRESHOLD) == ~different
    return PairScores(float(is_right.mean()), calibration_error(1 - distances, ~different))


class HeldOut(StrEnum):
    """What the neuron that judges a half of the gallery has not seen: its classes, or only its pictures."""

    classes = "classes"
    pictures = "pictures"


@dataclass(frozen=True)
class PairScores:
    """Verdicts on unseen pairs: the share of right ones, and the expected calibration error (0 to 1)."""

    accuracy: float
    error: float


@dataclass(frozen=True)
class Calibration:
    """The sigmoid neuron fitted to a gallery, for the head of this `digest`: d = sigmoid(slope D + intercept).

    `model` is the head's name. The neuron was fitted to `pairs` pairs of `pictures` pictures in `classes` classes, half
    of the pairs of one class. `before` and `after` are measured on pairs that the judging neuron was not fitted to;
    `unseen` says in what respect. `roc_auc` is the same for both. D is
    `normalised` by the gallery's statistics, or the model's own. `hit` is the neuron for hits, of the first five of
    each picture among all others: sigmoid(slope z + intercept). Earlier versions did not fit it.
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
    normalised: bool = False
    hit: tuple[float, float] | None = None
    hits: HitScores | None = None


def read_calibration(catalogue: Catalogue) -> Calibration | None:
    """Return the calibration that is saved in a store, of any head. Raises StoreError."""
    text = catalogue.settings.get(_SETTING)
    try:
        calibration: Calibration | None = from_json(Calibration, json.loads(text)) if text else None
        if calibration is not None and calibration.slope <= 0:
            raise ValueError("its order is turned round")
    except (ValueError, RecursionError) as error:
        raise StoreError(
            f"the calibration in {catalogue.folder} is damaged: run `retrieve calibrate` again, or `retrieve calibrate"
            " --reset`"
        ) from error
    return calibration


def shown_similarity(catalogue: Catalogue, bundle: Bundle) -> StoreSimilarity:
    """Return how a store judges pairs: by the gallery's statistics and the calibration. Raises StoreError."""
    normalised, calibration = normalised_similarity(catalogue, bundle), read_calibration(catalogue)
    if calibration is None or calibration.digest != bundle.head.digest:
        return normalised
    if not calibration.normalised:  # it was fitted to the model's own similarity
        normalised = StoreSimilarity.of(bundle.head, normalised.reason or PlainReason.calibration)
    elif normalised.statistics is None:
        return normalised
    return normalised.calibrated(calibration.slope, calibration.intercept, calibration.hit)


def save_calibration(catalogue: Catalogue, calibration: Calibration) -> None:
    """Save a calibration in the store; its hits have its similarities from then on. Raises StoreError."""
    catalogue.settings.set(**_calibration_setting(calibration))


def _calibration_setting(calibration: Calibration) -> dict[str, str]:
    return {_SETTING: json.dumps(asdict(calibration))}


def delete_calibration(catalogue: Catalogue) -> bool:
    """Take a calibration back; returns whether there was one. Raises StoreError."""
    exists = bool(catalogue.settings.get(_SETTING))
    if exists:
        catalogue.settings.set(**{_SETTING: ""}, **coverage_setting(None))
    return exists
