"""Hits with explanations made by hand, for the tests of what people see."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from retrieval.common.settings import MethodName
from retrieval.explain.correspondence import Correspondence, Match, MatchCheck
from retrieval.explain.explanation import Explanation, Heatmaps, Verdict
from retrieval.explain.hiding import HIDINGS
from retrieval.explain.hit import Hit
from retrieval.explain.verification import RANDOM_REGIONS, HiddenRegion, PairCheck, PictureCheck, Verification


def heatmaps(row: int, column: int, magnitude: float) -> Heatmaps:
    """All evidence for the verdict in one place, a little against it in the opposite one."""
    factual, counterfactual = np.zeros((7, 7), np.float32), np.zeros((7, 7), np.float32)
    factual[row, column] = 1
    counterfactual[6 - row, 6 - column] = 0.5
    return Heatmaps(factual, counterfactual, magnitude)


def explanation(magnitude: float = 1.0, verdict: Verdict = "similar") -> Explanation:
    distance = 0.2 if verdict == "similar" else 0.8
    return Explanation(heatmaps(1, 1, magnitude), heatmaps(5, 4, magnitude / 2), distance, verdict, identical=False)


def beside(magnitude: float = 1.0) -> Explanation:
    """Return an explanation with Grad-CAM's beside it, whose evidence is elsewhere and twice as strong."""
    why, maps = explanation(magnitude), (heatmaps(1, 4, 2 * magnitude), heatmaps(4, 2, magnitude))
    gradcam = Explanation(*maps, why.distance, why.verdict, identical=False, method=MethodName.gradcam)
    return replace(why, gradcam=gradcam)


def without_regions(query: bool = True, hit: bool = True, verdict: Verdict = "similar") -> Explanation:
    """Return an explanation in which no region of the query, of the hit, or of both matters."""
    why, empty = explanation(verdict=verdict), same().query
    return replace(why, query=empty if query else why.query, hit=empty if hit else why.hit)


def same() -> Explanation:
    empty = Heatmaps(np.zeros((7, 7), np.float32), np.zeros((7, 7), np.float32), 0.0)
    return Explanation(empty, empty, 0.0001, "similar", identical=True)


def a_hit(rank: int, path: Path, why: Explanation | None, note: str | None = None) -> Hit:
    distance = why.distance if why else 0.3
    verdict = why.verdict if why else "similar"
    return Hit(
        rank,
        rank,
        path,
        "rooms",
        1 - distance,
        distance,
        verdict,
        rank + 3,
        0.2,
        300,
        200,
        1 - distance,
        distance,
        explanation=why,
        note=note,
    )


def verification(factual: bool = True, counterfactual: bool = True, fidelity: float = 0.7) -> Verification:
    """Both pictures' factual and counterfactual claims hold, or not; hiding takes 80 % to 30 %, at random to 60 %."""
    kinds = ((0.3, factual), (0.9, counterfactual))
    hidden = [
        HiddenRegion(then, (0.6,) * RANDOM_REGIONS, margin=1.0 if holds else -1.0, error=0.5) for then, holds in kinds
    ]
    check = PairCheck(PictureCheck(*hidden), PictureCheck(*hidden))
    return Verification(0.8, fidelity, dict.fromkeys(HIDINGS, check))


def correspondence(holding: int = 2) -> Correspondence:
    """So many matches of one place each that hold, and one that does not, along the diagonal and the first row."""
    found = [
        Match(frozenset({(i, i)}), frozenset({(0, i)}), 0.1, {"blurred": MatchCheck(2.0 if i < holding else 1.0, 0.5)})
        for i in range(holding + 1)
    ]
    return Correspondence(np.eye(49, dtype=np.float32), (7, 7), (7, 7), tuple(found))
