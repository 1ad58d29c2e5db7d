"""The page of an evaluation: figures, reliability, confusions and the worst mistakes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from retrieval.evaluation.measure import DatasetEvaluation
from retrieval.evaluation.mistakes import MistakeView
from retrieval.rendering.html import render

RANKING_METRICS = (("p_at_1", "P@1"), ("p_at_5", "P@5"), ("p_at_10", "P@10"), ("map_at_100", "mAP@100"))
PAIR_METRICS = (
    ("accuracy", "Accuracy"),
    ("roc_auc", "ROC AUC of the distances"),
    ("thresholded_auc", "ROC AUC of the verdicts"),
    ("precision", "Precision of “similar”"),
    ("recall", "Recall of “similar”"),
    ("macro_precision", "Precision, mean of both verdicts"),
    ("macro_recall", "Recall, mean of both verdicts"),
    ("calibration_error", "Calibration error"),
)


@dataclass(frozen=True)
class DatasetSection:
    """An evaluated data set, by its name, with the worst mistakes of the first model on it."""

    name: str
    evaluation: DatasetEvaluation
    mistakes: Sequence[MistakeView]


def evaluation_page(sections: Sequence[DatasetSection]) -> str:
    """Return one HTML page, whole in itself, about the first model of each section, beside a second one's figures."""
    return render(
        "evaluation.html",
        sections=sections,
        views=[mistake.view for section in sections for mistake in section.mistakes],
        ranking_metrics=RANKING_METRICS,
        pair_metrics=PAIR_METRICS,
    )
