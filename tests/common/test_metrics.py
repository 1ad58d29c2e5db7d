"""Quality metrics at values computed by hand."""

from __future__ import annotations

import numpy as np
import pytest

from retrieval.common.metrics import (
    Bin,
    average_precision,
    calibration_error,
    mean_ranks,
    precision_at,
    reliability,
    roc_auc,
)


def bools(marks: str) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """Parse marks: `x` for relevant or positive, `.` for not."""
    return np.array([mark == "x" for mark in marks], np.bool_)


@pytest.mark.parametrize(
    ("relevant", "k", "value"),
    [("x.xx.", 1, 1.0), ("x.xx.", 2, 0.5), ("x.xx.", 4, 0.75), (".x", 1, 0.0), ("xx", 5, 0.4), ("", 5, 0.0)],
)
def test_precision_at(relevant: str, k: int, value: float) -> None:
    assert precision_at(bools(relevant), k) == value


@pytest.mark.parametrize(
    ("relevant", "total", "k", "value"),
    [
        ("x.x", 2, 100, (1 / 1 + 2 / 3) / 2),
        (".x.x", 3, 100, (1 / 2 + 2 / 4) / 3),  # one of the three is not among the results
        ("xx.x", 3, 2, (1 + 1) / 2),  # at most 2 of the first 2 can be right
        ("...x", 1, 3, 0.0),
        ("xxx", 3, 100, 1.0),
        ("...", 3, 100, 0.0),
    ],
)
def test_average_precision(relevant: str, total: int, k: int, value: float) -> None:
    assert average_precision(bools(relevant), total, k) == pytest.approx(value)


def test_equal_values_share_the_mean_of_their_ranks() -> None:
    assert mean_ranks(np.array([[30, 10], [20, 20]], np.float32)).tolist() == [4, 1, 2.5, 2.5]


@pytest.mark.parametrize(
    ("scores", "positive", "value"),
    [
        ([3, 2, 1, 0], "xx..", 1.0),
        ([3, 2, 1, 0], "..xx", 0.0),
        ([3, 2, 1, 0], "x.x.", 3 / 4),
        ([1, 1, 1, 1], "x..x", 0.5),  # all tied: a coin
        ([2, 1, 1, 0], ".x.x", 0.5 / 4),  # of four comparisons, three are lost and one is tied
        ([2, 1, 1, 1], "xx..", (2 + 2 * 0.5) / 4),
    ],
)
def test_roc_auc(scores: list[float], positive: str, value: float) -> None:
    assert roc_auc(np.array(scores, np.float64), bools(positive)) == pytest.approx(value)


def test_roc_auc_counts_every_pair() -> None:
    random = np.random.default_rng(1)
    scores, positive = random.integers(0, 8, 60).astype(np.float64), random.random(60) < 0.4
    higher = scores[positive][:, None] - scores[~positive][None]
    assert roc_auc(scores, positive) == pytest.approx(float(np.mean((higher > 0) + 0.5 * (higher == 0))))


@pytest.mark.parametrize(
    ("probabilities", "positive", "bins", "value"),
    [
        ([0.25, 0.25, 0.75, 0.75], ".xxx", 2, (2 * abs(0.25 - 1 / 2) + 2 * abs(0.75 - 1)) / 4),
        ([0.1, 0.9], ".x", 2, 0.1),
        ([0.1, 0.9], "x.", 2, 0.9),
        ([0.5, 0.5], "x.", 15, 0.0),
        ([0.0, 1.0], ".x", 15, 0.0),  # 1 falls into the last bin
        ([0.2, 0.2, 0.2, 0.9], "x..x", 10, (3 * abs(0.2 - 1 / 3) + 0.1) / 4),  # bins weigh by their size
    ],
)
def test_calibration_error(probabilities: list[float], positive: str, bins: int, value: float) -> None:
    assert calibration_error(np.array(probabilities, np.float64), bools(positive), bins) == pytest.approx(value)


def test_reliability_by_hand() -> None:
    # Bins of a quarter: 0; 0.25; 0.5; then 0.75 and 1, which falls into the last.
    assert reliability(np.array([0.25, 0.5, 0.0, 1.0, 0.75]), bools(".x.xx"), 4) == [
        Bin(0, 0.25, 1, 0, 0),
        Bin(0.25, 0.5, 1, 0.25, 0),
        Bin(0.5, 0.75, 1, 0.5, 1),
        Bin(0.75, 1, 2, 0.875, 1),
    ]
    assert reliability(np.array([0.9]), bools("x"), 2) == [Bin(0.5, 1, 1, 0.9, 1)]  # empty bins are left out
