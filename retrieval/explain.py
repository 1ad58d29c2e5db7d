"""Explanations: the factual and counterfactual heatmaps of a pair, for both pictures."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from retrieval.cam import signed_maps
from retrieval.head import Array, Head
from retrieval.network import Features
from retrieval.settings import THRESHOLD

Verdict = Literal["similar", "different"]

_IDENTICAL = 1e-4  # descriptors closer than this share of their length differ by rounding


@dataclass(frozen=True)
class Heatmaps:
    """One picture's evidence. `factual` is for the verdict, `counterfactual` against it, float32 (h, w).

    Both are in [0, 1] on one scale: 1 is `magnitude`, the strongest evidence of any place either way, in
    log-odds of the distance. It tells strong evidence from faint across pictures and hits.
    """

    factual: Array
    counterfactual: Array
    magnitude: float


@dataclass(frozen=True)
class Explanation:
    """Why a pair got its verdict. Where the pictures are `identical` the heatmaps are empty."""

    query: Heatmaps
    hit: Heatmaps
    distance: float
    verdict: Verdict
    identical: bool

    @property
    def similarity(self) -> float:
        """1 - d."""
        return 1 - self.distance


def verdict_of(distance: float) -> Verdict:
    """`similar` where the distance is below the threshold."""
    return "similar" if distance < THRESHOLD else "different"


def explain_pairs(head: Head, features: Features, distances: NDArray[np.float64]) -> list[Explanation]:
    """The explanations of the first picture of a batch, the query, against each of the others, in their order.

    `distances` (B - 1,) are those that the verdicts rest on, from the descriptors that the store keeps.
    """
    count = len(distances)
    own, others = np.repeat(features.descriptors[:1], count, axis=0), features.descriptors[1:]
    identical = np.linalg.norm(own - others, axis=1) <= _IDENTICAL * np.linalg.norm(own, axis=1)
    query_activations = np.repeat(features.activations[:1], count, axis=0)
    query_maps = signed_maps(head, query_activations, own, others)
    hit_maps = signed_maps(head, features.activations[1:], others, own)
    return [
        Explanation(
            query=_heatmaps(query_map, verdict_of(distance), same),
            hit=_heatmaps(hit_map, verdict_of(distance), same),
            distance=float(distance),
            verdict=verdict_of(distance),
            identical=bool(same),
        )
        for query_map, hit_map, distance, same in zip(query_maps, hit_maps, distances, identical, strict=True)
    ]


def _heatmaps(signed: Array, verdict: Verdict, identical: bool) -> Heatmaps:
    toward = signed if verdict == "different" else -signed
    magnitude = 0.0 if identical else float(np.abs(toward).max())
    if magnitude == 0:
        return Heatmaps(np.zeros_like(signed), np.zeros_like(signed), 0.0)
    scaled = toward / magnitude
    return Heatmaps(np.maximum(scaled, 0), np.maximum(-scaled, 0), magnitude)
