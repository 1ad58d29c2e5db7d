"""Hits with explanations made by hand, for the tests of what people see."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from retrieval.explain import Explanation, Heatmaps, Verdict
from retrieval.search import Hit


def heatmaps(row: int, column: int, magnitude: float) -> Heatmaps:
    """All evidence for the verdict in one place, a little against it in the opposite one."""
    factual, counterfactual = np.zeros((7, 7), np.float32), np.zeros((7, 7), np.float32)
    factual[row, column] = 1
    counterfactual[6 - row, 6 - column] = 0.5
    return Heatmaps(factual, counterfactual, magnitude)


def explanation(magnitude: float = 1.0, verdict: Verdict = "similar") -> Explanation:
    distance = 0.2 if verdict == "similar" else 0.8
    return Explanation(heatmaps(1, 1, magnitude), heatmaps(5, 4, magnitude / 2), distance, verdict, identical=False)


def same() -> Explanation:
    empty = Heatmaps(np.zeros((7, 7), np.float32), np.zeros((7, 7), np.float32), 0.0)
    return Explanation(empty, empty, 0.0001, "similar", identical=True)


def a_hit(rank: int, path: Path, why: Explanation | None, note: str | None = None) -> Hit:
    distance = why.distance if why else 0.3
    verdict = why.verdict if why else "similar"
    return Hit(rank, path, "rooms", 1 - distance, distance, verdict, rank + 3, 0.2, 300, 200, why, note)
