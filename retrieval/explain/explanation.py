"""Explanations: the factual and counterfactual heatmaps of a pair, for both pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from retrieval.common.settings import DEFAULT_METHOD, THRESHOLD, MethodName
from retrieval.explain.correspondence import Correspondence
from retrieval.explain.gradcam import Asked, Pairs
from retrieval.explain.methods import METHODS
from retrieval.explain.verification import Claims, Verification
from retrieval.model.head import Array, Head
from retrieval.model.inference import Features

Verdict = Literal["similar", "different"]

LEAST_EVIDENCE = 0.02
"""In log-odds: a picture has almost no evidence where all of it, for and against, adds up to less.

That moves a similarity by less than half a percentage point, as p (1 - p) is at most 1/4. Pairs of flowers, rooms,
objects and skin lesions have 0.1 to 1.7 a picture by the ensemble (the middle 90 %), 0.6 to 2.8 by Grad-CAM, under the
default model; fewer than one picture in a hundred has less than this. Where a store is calibrated to labels that
similarity tells little about, the slope is lower, and more have: of the skin lesions, one in seventeen.
"""

_IDENTICAL = 1e-4  # descriptors closer than this share of their length differ by rounding


@dataclass(frozen=True)
class Heatmaps:
    """One picture's evidence. `factual` is for the verdict, `counterfactual` against it, float32 (h, w).

    Both are in [0, 1] on one scale: 1 is `magnitude`, the strongest evidence of any place either way. It tells strong
    evidence from faint across pictures and hits of one method; of most methods it is in log-odds of the distance.
    """

    factual: Array
    counterfactual: Array
    magnitude: float

    @property
    def total(self) -> float:
        """The evidence of all places, for and against the verdict, in the unit of `magnitude`."""
        return self.magnitude * float(self.factual.sum() + self.counterfactual.sum())


@dataclass(frozen=True)
class Explanation:
    """Why a pair got its verdict, by one method. Where the pictures are `identical` the heatmaps are empty.

    `correspondence` and `verification` are None where they were not asked for, or there is nothing to check.
    """

    query: Heatmaps
    hit: Heatmaps
    distance: float
    verdict: Verdict
    identical: bool
    method: MethodName = DEFAULT_METHOD
    correspondence: Correspondence | None = None
    verification: Verification | None = None

    @property
    def claims(self) -> Claims:
        """What a verification checks."""
        query, hit = ((each.factual, each.counterfactual) for each in (self.query, self.hit))
        return Claims(query, hit, self.verdict == "different")

    @property
    def similarity(self) -> float:
        """1 - d."""
        return 1 - self.distance

    @property
    def almost_none(self) -> bool:
        """Whether neither picture has more than almost no evidence, though they differ."""
        return not self.identical and self.has_almost_none(self.query) and self.has_almost_none(self.hit)

    def has_almost_none(self, heatmaps: Heatmaps) -> bool:
        """Whether one of the pictures has less than LEAST_EVIDENCE; no, where the method has other units."""
        return METHODS[self.method].adds_up and heatmaps.total < LEAST_EVIDENCE


def verdict_of(distance: float) -> Verdict:
    """`similar` where the distance is below the threshold."""
    return "similar" if distance < THRESHOLD else "different"


def facing(head: Head, features: Features, asked: Asked | None = None) -> tuple[Pairs, Pairs]:
    """The first picture of a batch, the query, against each of the others, and each of those against it.

    `asked` has the pixels of the same batch, for methods that ask the network again.
    """
    others = range(1, len(features.descriptors))
    return opposed(head, features, [0] * len(others), others, asked)


def opposed(
    head: Head, features: Features, first: Sequence[int], second: Sequence[int], asked: Asked | None = None
) -> tuple[Pairs, Pairs]:
    """Pictures of a batch, by their places (N,), against others of it (N,), and those against them."""
    one, other = (_against(head, features, *places, asked) for places in ((first, second), (second, first)))
    return one, other


def _against(head: Head, features: Features, own: Sequence[int], other: Sequence[int], asked: Asked | None) -> Pairs:
    places, others = list(own), list(other)
    descriptors = features.descriptors
    pixels = asked and asked.only(places)
    return Pairs(head, features.activations[places], descriptors[places], descriptors[others], pixels, tuple(places))


def explain_pairs(
    sides: tuple[Pairs, Pairs], distances: NDArray[np.float64], method: MethodName = DEFAULT_METHOD
) -> list[Explanation]:
    """The explanations of N pairs, given as their first pictures against the second ones, and the other way round.

    `distances` (N,) are those that the verdicts rest on, from the descriptors that the store keeps.
    """
    own, others = sides[0].own, sides[0].other
    identical = np.linalg.norm(own - others, axis=1) <= _IDENTICAL * np.linalg.norm(own, axis=1)
    queries, hits = (METHODS[method].run(side) for side in sides)
    return [
        Explanation(
            query=_heatmaps(queries[:, place], verdict_of(distance), same),
            hit=_heatmaps(hits[:, place], verdict_of(distance), same),
            distance=float(distance),
            verdict=verdict_of(distance),
            identical=bool(same),
            method=method,
        )
        for place, (distance, same) in enumerate(zip(distances, identical, strict=True))
    ]


def _heatmaps(maps: Array, verdict: Verdict, identical: bool) -> Heatmaps:
    """Of what raises the distance and what lowers it, (2, h, w)."""
    factual, counterfactual = maps if verdict == "different" else maps[::-1]
    magnitude = 0.0 if identical else float(maps.max())
    if magnitude == 0:
        return Heatmaps(np.zeros_like(factual), np.zeros_like(factual), 0.0)
    return Heatmaps(factual / magnitude, counterfactual / magnitude, magnitude)
