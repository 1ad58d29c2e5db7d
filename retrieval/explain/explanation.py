"""Explanations: the factual and counterfactual heatmaps of a pair, for both pictures."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray

from retrieval.common.settings import DEFAULT_METHOD, THRESHOLD, MethodName
from retrieval.common.text import percent
from retrieval.explain.correspondence import Correspondence
from retrieval.explain.illustrated import Illustrated
from retrieval.explain.methods.gradcam import PairInputs, PixelAccess
from retrieval.explain.methods.registry import METHODS
from retrieval.explain.verification import Verification
from retrieval.model.head import Array, Head
from retrieval.model.inference import Features
from retrieval.model.preprocessing import SeenPart

Verdict = Literal["similar", "different"]

MIN_EVIDENCE = 0.02
"""In log-odds: a picture has almost no evidence if all of it, for and against, adds up to less.

That moves a similarity by less than half a percentage point, as p (1 - p) is at most 1/4. Pairs of flowers, rooms,
objects and skin lesions have 0.1 to 1.7 a picture by the ensemble (the middle 90 %), 0.6 to 2.8 by Grad-CAM, under the
default model; fewer than one picture in a hundred has less than this. If a store is calibrated to labels that
similarity says little about, the slope is lower and more pictures have less: one in seventeen of the skin lesions.
"""

_IDENTICAL_TOLERANCE = 1e-4  # descriptors closer than this share of their length differ only by rounding


@dataclass(frozen=True, repr=False)
class Heatmaps:
    """One picture's evidence. `factual` is for the verdict, `counterfactual` against it, float32 (h, w).

    Both are in [0, 1] on one scale: 1 is `magnitude`, the strongest evidence of any cell in either direction. It can be
    compared across pictures and hits of one method; for most methods it is in log-odds of the distance. They cover the
    part `seen` of the picture, which is None if only pixels were given.
    """

    factual: Array
    counterfactual: Array
    magnitude: float
    seen: SeenPart | None = None

    def __repr__(self) -> str:
        return "<Heatmaps {} x {}, magnitude {:.3g}>".format(*self.factual.shape, self.magnitude)

    @property
    def total(self) -> float:
        """The evidence of all cells, for and against the verdict, in the unit of `magnitude`."""
        return self.magnitude * float(self.factual.sum() + self.counterfactual.sum())


@dataclass(frozen=True, repr=False)
class Explanation(Illustrated):
    """Why a pair got its verdict, by one method. If the pictures are `identical` the heatmaps are empty.

    `unseen` says of these that their files differ: in what is transparent, in later frames, or in what decoding drops.
    `gradcam` explains the pair by Grad-CAM, as in the paper; it is None if that is the method. `correspondence` and
    `verification` are None if they were not requested, or there is nothing to check.
    """

    query: Heatmaps
    hit: Heatmaps
    distance: float
    verdict: Verdict
    identical: bool
    method: MethodName = DEFAULT_METHOD
    gradcam: Self | None = None
    correspondence: Correspondence | None = None
    verification: Verification | None = None
    unseen: bool = False

    def __repr__(self) -> str:
        return (
            f"<Explanation: {percent(self.similarity)}, {self.verdict}, by {self.method},"
            f" magnitudes {self.query.magnitude:.3g} and {self.hit.magnitude:.3g}>"
        )

    @property
    def similarity(self) -> float:
        """1 - distance."""
        return 1 - self.distance

    @property
    def as_wholes(self) -> bool:
        """Whether no region of either picture matters by itself, though they differ: they match, or not, as wholes."""
        return not self.identical and self.is_nearly_empty(self.query) and self.is_nearly_empty(self.hit)

    def with_sizes(self, query: tuple[int, int] | None, hit: tuple[int, int]) -> Self:
        """Return the same explanation with the parts `seen` of upright pictures of these widths and heights."""
        parts = query and SeenPart.of(query), SeenPart.of(hit)
        own, other = (replace(side, seen=seen) for side, seen in zip((self.query, self.hit), parts, strict=True))
        return replace(self, query=own, hit=other, gradcam=self.gradcam and self.gradcam.with_sizes(query, hit))

    def is_nearly_empty(self, heatmaps: Heatmaps) -> bool:
        """Return whether a picture has no evidence, or less than MIN_EVIDENCE if the method is in log-odds."""
        return heatmaps.magnitude == 0 or (METHODS[self.method].is_additive and heatmaps.total < MIN_EVIDENCE)


def verdict_of(distance: float) -> Verdict:
    """Return `similar` if the distance is below the threshold, else `different`."""
    return "similar" if distance < THRESHOLD else "different"


def pair_inputs(
    head: Head, features: Features, first: Sequence[int], second: Sequence[int], access: PixelAccess | None = None
) -> tuple[PairInputs, PairInputs]:
    """Return both directions of N pairs, given by row indices into the batch of `features`.

    `access` has the pixels of the same batch, for methods that run the network again.
    """

    def direction(own: list[int], other: list[int]) -> PairInputs:
        g = features.descriptors
        pictures = access and replace(access, pixels=[access.pixels[row] for row in own])
        return PairInputs(head, features.activations[own], g[own], g[other], pictures, tuple(own))

    return direction(list(first), list(second)), direction(list(second), list(first))


def explain_pairs(
    inputs: tuple[PairInputs, PairInputs], distances: NDArray[np.float64], method: MethodName = DEFAULT_METHOD
) -> list[Explanation]:
    """Explain N pairs, given in both directions as `pair_inputs` returns them.

    The `distances` (N,) decide the verdicts; they come from the descriptors that the store keeps.
    """
    by_gradcam = _explain_by(MethodName.gradcam, inputs, distances)
    if method is MethodName.gradcam:
        return by_gradcam
    explained = _explain_by(method, inputs, distances)
    return [replace(each, gradcam=gradcam) for each, gradcam in zip(explained, by_gradcam, strict=True)]


def _explain_by(
    method: MethodName, inputs: tuple[PairInputs, PairInputs], distances: NDArray[np.float64]
) -> list[Explanation]:
    own, others = inputs[0].own, inputs[0].other
    identical = np.linalg.norm(own - others, axis=1) <= _IDENTICAL_TOLERANCE * np.linalg.norm(own, axis=1)
    unlike = np.flatnonzero(~identical)
    # Both directions at once: a method that runs the network has more work to share among the cores.
    found = METHODS[method].run(inputs[0].take(unlike).join(inputs[1].take(unlike))) if len(unlike) else own[:0]
    shape = found.shape[2:] or inputs[0].activations.shape[2:]
    maps = np.zeros((2, 2, len(identical), *shape), np.float32)
    maps[:, :, unlike] = found.reshape(2, 2, len(unlike), *shape)
    explanations = []
    for row, (distance, same) in enumerate(zip(distances, identical, strict=True)):
        verdict = verdict_of(distance)
        query, hit = (_heatmaps(maps[:, side, row], verdict) for side in (0, 1))
        explanations.append(Explanation(query, hit, float(distance), verdict, bool(same), method))
    return explanations


def _heatmaps(maps: Array, verdict: Verdict) -> Heatmaps:
    """Scale maps of what raises the distance and what lowers it, (2, h, w)."""
    factual, counterfactual = maps if verdict == "different" else maps[::-1]
    magnitude = float(maps.max())
    if magnitude == 0:
        return Heatmaps(np.zeros_like(factual), np.zeros_like(factual), 0.0)
    return Heatmaps(factual / magnitude, counterfactual / magnitude, magnitude)
