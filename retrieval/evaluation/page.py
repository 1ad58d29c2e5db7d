"""The page of an evaluation: figures, reliability, confusions and the worst mistakes."""

from collections.abc import Sequence
from dataclasses import dataclass

from retrieval.evaluation.measure import DatasetEvaluation
from retrieval.evaluation.mistakes import MistakeView
from retrieval.evaluation.ranking import RANKING_METRIC_TITLES
from retrieval.evaluation.verdicts import PAIR_METRIC_TITLES
from retrieval.rendering.html import render


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
        ranking_metrics=RANKING_METRIC_TITLES,
        pair_metrics=PAIR_METRIC_TITLES,
    )
