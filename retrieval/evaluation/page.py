"""The page of an evaluation: figures, reliability, confusions and the worst mistakes, whole in itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from retrieval.common.settings import THRESHOLD
from retrieval.common.text import percent, safe_name
from retrieval.evaluation.measure import DatasetEvaluation
from retrieval.evaluation.mistakes import MistakeView
from retrieval.evaluation.ranking import Evaluation, RankingMetrics
from retrieval.evaluation.verdicts import Confusion, Confusions, PairMetrics
from retrieval.rendering.html import (
    facts_html,
    heads_html,
    legend_html,
    limits_html,
    name_html,
    render_document,
    side_html,
    table_html,
)
from retrieval.rendering.presentation import side_views
from retrieval.rendering.reliability_diagram import reliability_html

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
    """A data set that was measured, by its name, with the worst mistakes of the first model on it."""

    name: str
    evaluation: DatasetEvaluation
    mistakes: Sequence[MistakeView]


def evaluation_page(sections: Sequence[DatasetSection]) -> str:
    """One HTML page, whole in itself, about the first model of each section; a second one's figures stand beside."""
    model = safe_name(next(iter(sections[0].evaluation.results)))
    title = f"How well {model} tells pictures apart"
    header = f"<h1>How well {name_html(model)} tells pictures apart</h1>\n{_reading_html(sections)}"
    return render_document(title, header, "\n".join(_section_html(section) for section in sections))


def _reading_html(sections: Sequence[DatasetSection]) -> str:
    return f"""<section class="reading" aria-labelledby="reading">
<h2 id="reading">How to read this</h2>
<p>Each picture asks for the others of its class: <b>P@k</b> is the share of right ones among the first k, <b>mAP</b>
the mean average precision of the first 100. Then pairs are judged: “similar” means a similarity above
{percent(1 - THRESHOLD)}, and right is what the class folders say. All pairs below share one scale of evidence.</p>
{legend_html()}
{limits_html([mistake.view for section in sections for mistake in section.mistakes])}
</section>"""


def _section_html(section: DatasetSection) -> str:
    results = {safe_name(name): result for name, result in section.evaluation.results.items()}
    result = next(iter(results.values()))
    mistakes = "\n".join(_mistake_html(mistake) for mistake in section.mistakes) or '<p class="empty">None.</p>'
    return f"""<section class="query">
<h2>{name_html(safe_name(section.name))}</h2>
<p>{_summary(section.evaluation, result)}</p>
<div class="measures">
<article><h3>Retrieval, leaving one out</h3>{_rankings_html(results)}</article>
<article><h3>Verdicts on pairs</h3>{_figures_html(results)}</article>
<article><h3>Right and wrong verdicts</h3>{_matrix_html(result.pairs)}{_confusions_html(result.confusions)}</article>
<article><h3>Is a similarity of 80 % right in 80 % of cases?</h3>{reliability_html(result.pairs.reliability)}</article>
</div>
<h2>The worst mistakes</h2>
{mistakes}
</section>"""


def _summary(evaluation: DatasetEvaluation, result: Evaluation) -> str:
    told = "are included" if evaluation.options.include_seen else "are left out"
    seen = "".join(
        f" Of what {name_html(safe_name(name))} learnt from, {count:,} pictures {told}."
        for name, count in evaluation.learnt_counts.items()
        if count
    )
    count = len(evaluation.dataset.left_out)
    others = f" Files that repeat others or cannot be used: {count:,}." if count else ""
    return (
        f"{result.pictures:,} pictures in {result.classes:,} classes, {result.queries:,} queries; pairs drawn with the"
        f" seed {evaluation.options.seed}.{seen}{others}"
    )


# Tables


def _rankings_html(results: dict[str, Evaluation]) -> str:
    head = [heads_html(*(["index", "rescored"] * len(results)))]
    if len(results) > 1:
        head.insert(0, heads_html(*(name_html(name) for name in results), span=2))
    orders: list[RankingMetrics] = [order for result in results.values() for order in (result.index, result.rescored)]
    rows = [[shown, *(f"{getattr(order, field):.4f}" for order in orders)] for field, shown in RANKING_METRICS]
    return table_html("", head, rows)


def _figures_html(results: dict[str, Evaluation]) -> str:
    pairs = next(iter(results.values())).pairs
    head = [heads_html(*(name_html(name) for name in results))]
    rows = [
        [shown, *(f"{getattr(result.pairs, field):.4f}" for result in results.values())]
        for field, shown in PAIR_METRICS
    ]
    return table_html(f"{pairs.similar:,} pairs of one class, {pairs.different:,} of two", head, rows)


def _matrix_html(pairs: PairMetrics) -> str:
    def cells(right: int, wrong: int, total: int) -> list[str]:
        return [f"{count:,} <small>{percent(count / max(total, 1))}</small>" for count in (right, wrong)]

    rows = [
        ["One class", *cells(pairs.true_similar, pairs.false_different, pairs.similar)],
        ["Two classes", *cells(pairs.false_similar, pairs.true_different, pairs.different)],
    ]
    return table_html("Of the pairs drawn", [heads_html("said similar", "said different")], rows)


def _confusions_html(confusions: Confusions) -> str:
    across = _confused_html("Of all pairs of two classes", "said similar", confusions.across)
    return across + _confused_html("Of all pairs of one class", "said different", confusions.within)


def _confused_html(caption: str, wrong: str, confusions: Sequence[Confusion]) -> str:
    if not confusions:
        return f'<p class="empty">{caption}, none is {wrong}.</p>'
    rows = [[_classes_html(each), f"{each.pairs:,}", percent(each.wrong)] for each in confusions]
    return table_html(caption, [heads_html("pairs", wrong)], rows)


def _classes_html(confusion: Confusion) -> str:
    names = dict.fromkeys((confusion.first, confusion.second))
    return " and ".join(name_html(safe_name(name)) for name in names)


# The mistakes


def _mistake_html(mistake: MistakeView) -> str:
    first, second = (name_html(label) for label in mistake.labels)
    same = mistake.hit.verdict == "different"
    truth = f" <span>wrong: both are <b>{first}</b></span>"
    if not same:
        truth = f" <span>wrong: <b>{first}</b> and <b>{second}</b></span>"
    names = f"{name_html(mistake.view.name)} and {name_html(mistake.hit.name)}"
    pictures = "\n".join(
        side_html(side) for side in side_views(mistake.view, mistake.hit, ("first picture", "second picture"))
    )
    return f"""<article>
<h3><span class="rank">{mistake.hit.rank}</span> {names}</h3>
{facts_html(mistake.hit, truth)}
<div class="pair">
{pictures}
</div>
</article>"""
