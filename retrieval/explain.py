"""Explanations: the factual and counterfactual heatmaps of a pair, for both pictures."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from retrieval.cam import signed_maps
from retrieval.head import Array, Head
from retrieval.network import Features
from retrieval.settings import THRESHOLD

Verdict = Literal["similar", "different"]

_IDENTICAL = 1e-4  # D below this share of the embedding's length is rounding


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


def explain_pairs(head: Head, query: Features, hits: Features) -> list[Explanation]:
    """The explanations of one picture (B = 1) against each of a batch, in their order."""
    count = len(hits.descriptors)
    own = np.repeat(query.descriptors, count, axis=0)
    u1, u2 = head.embed(own), head.embed(hits.descriptors)
    separation = head.separation(u1, u2)
    identical = separation <= _IDENTICAL * np.linalg.norm(u1, axis=1)
    distances = head.distance(separation)
    query_activations = np.repeat(query.activations, count, axis=0)
    query_maps = signed_maps(head, query_activations, own, hits.descriptors)
    hit_maps = signed_maps(head, hits.activations, hits.descriptors, own)
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
