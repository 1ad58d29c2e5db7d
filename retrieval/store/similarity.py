"""The similarity that a store shows: by the gallery's statistics and its calibration, or the model's own."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray

from indexes.catalogue.catalogue import Catalogue
from retrieval.common.metrics import sigmoid
from retrieval.model.bundle import Bundle
from retrieval.model.head import Array, Head
from retrieval.store.maintenance.gallery_statistics import (
    MIN_PICTURES,
    GalleryStatistics,
    is_too_small,
    read_statistics,
)

_PLAIN = "plain_similarity"

Separations = NDArray[np.float64]


class PlainReason(StrEnum):
    """Why a store shows the model's own similarity; the value ends that sentence."""

    chosen = "as `retrieve index --plain-similarity` chose"
    model = "as this model does not judge by the gallery"
    small = f"as the gallery has fewer than {MIN_PICTURES} different pictures"
    unlearned = "until the next `retrieve index` learns what is usual in this gallery"
    calibration = "as calibrated, until the next `retrieve calibrate`"


@dataclass(frozen=True)
class StoreSimilarity:
    """How a store's pairs are judged: the `head` gives their similarity and order, `plain` is the model's own.

    Without `statistics`, for some `reason`, both are the same but for a calibration, and there is no familiarity. A hit
    shows the same kind with the probability sigmoid(slope z + intercept) of its nearness z; `hit` (slope, intercept) is
    None if there are no statistics and no calibration.
    """

    head: Head
    plain: Head
    statistics: GalleryStatistics | None = None
    hit: tuple[float, float] | None = None
    reason: PlainReason | None = None
    is_calibrated: bool = False

    @classmethod
    def of(cls, head: Head, reason: PlainReason | None = None) -> Self:
        """Return the similarity of a head alone."""
        return cls(head, head.centred(None), reason=reason)

    @property
    def by(self) -> Literal["gallery", "model"]:
        """What judges pairs: the gallery's statistics, or the model alone."""
        return "model" if self.statistics is None else "gallery"

    @property
    def description(self) -> str:
        """What judges pairs, and why the model alone does if so: the end of a sentence about the similarity."""
        return "by what is usual in this gallery" if self.reason is None else f"the model's own, {self.reason}"

    @property
    def is_outdated(self) -> bool:
        """Whether the gallery could judge, but for a step that somebody must take."""
        return self.reason in (PlainReason.unlearned, PlainReason.calibration)

    def measure_from(self, descriptor: Array) -> Callable[[Array], tuple[Separations, Separations]]:
        """Return what measures separations (N,) of descriptors (N, C) from this one (C,), by `head` and by `plain`."""
        own = self.plain.embed(descriptor[None])

        def measure(vectors: Array) -> tuple[Separations, Separations]:
            u = self.plain.embed(vectors)
            plain = self.plain.separation(own, u)
            return plain if self.head.centre is None else self.head.centred_separation(own, u, plain), plain

        return measure

    def nearness(self, separations: Separations) -> Separations:
        """Return z (...): `GalleryStatistics.nearness`, or else -D; -inf for infinite separations."""
        return -separations if self.statistics is None else self.statistics.nearness(separations)

    def hit_probabilities(self, separations: Separations) -> Separations | None:
        """Return the probabilities (...) that hits at these separations by the head show the same kind as the query."""
        return kind_probability(self.hit, self.nearness(separations)) if self.hit else None

    def hit_probability(self, separation: float) -> float | None:
        """Return the same of one hit."""
        found = self.hit_probabilities(np.array(separation))
        return None if found is None else float(found)

    def familiarity(self, plain_separation: float) -> float | None:
        """Return the share of the gallery's pictures whose nearest is as far as this, or farther."""
        return None if self.statistics is None else self.statistics.familiarity(plain_separation)

    def calibrated(self, slope: float, intercept: float, hit: tuple[float, float] | None) -> Self:
        """Return the same with neurons that were fitted to the gallery's labels; without one for hits, that stays."""
        return replace(self, head=self.head.calibrated(slope, intercept), hit=hit or self.hit, is_calibrated=True)


def kind_probability(neuron: tuple[float, float], nearness: Separations) -> Separations:
    """Return sigmoid(slope z + intercept) of hits' nearness z (...): 0 if it is -inf."""
    slope, intercept = neuron
    there = np.isfinite(nearness)
    return np.where(there, sigmoid(slope * np.where(there, nearness, 0) + intercept), 0.0)


def normalised_similarity(catalogue: Catalogue, bundle: Bundle) -> StoreSimilarity:
    """Return a store's similarity without a calibration: the model's own if it has no statistics or shows that.

    Raises StoreError.
    """
    head, neuron = bundle.head, bundle.card.gallery_neuron
    if neuron is None or is_plain(catalogue):
        return StoreSimilarity.of(head, PlainReason.chosen if neuron else PlainReason.model)
    statistics = read_statistics(catalogue, head)
    if statistics is None:
        return StoreSimilarity.of(head, PlainReason.small if is_too_small(catalogue) else PlainReason.unlearned)
    return StoreSimilarity(statistics.adapt(head, neuron), head, statistics, neuron.hit)


def is_plain(catalogue: Catalogue) -> bool:
    """Return whether the store shows the model's own similarity by choice. Raises StoreError."""
    return bool(catalogue.settings.get(_PLAIN))


def set_plain(catalogue: Catalogue, plain: bool) -> None:
    """Choose whether the store shows the model's own similarity from now on. Raises StoreError."""
    catalogue.settings.set(**{_PLAIN: "1" if plain else ""})
