"""An evaluation in a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from retrieval.commands.output.tables import figures_table
from retrieval.common.text import percent, safe_name
from retrieval.evaluation.ranking import RANKING_METRIC_TITLES, Evaluation
from retrieval.evaluation.verdicts import PAIR_METRIC_TITLES, Confusion, Confusions


def evaluation_table(name: str, results: Mapping[str, Evaluation]) -> RenderableType:
    """Return the figures of one or two models, by name, and the first one's confusions."""
    first = next(iter(results.values()))
    title = f"{name}: {first.pictures} pictures, {first.classes} classes, {first.queries} queries leaving one out"
    return Group(
        Text(title, style="bold"), _rankings_table(results), _pairs_table(results), *_confusion_tables(first.confusions)
    )


def _rankings_table(results: Mapping[str, Evaluation]) -> Table:
    columns = [(name, column) for name in results for column in ("index", "rescored", "change")]
    table = figures_table(
        "", (Text(f"{safe_name(name)}\n{column}" if len(results) > 1 else column) for name, column in columns)
    )
    for field, label in RANKING_METRIC_TITLES:
        cells = []
        for result in results.values():
            before, after = getattr(result.index, field), getattr(result.rescored, field)
            cells += [f"{before:.4f}", f"{after:.4f}", f"{after - before:+.4f}"]
        table.add_row(label, *cells)
    return table


def _pairs_table(results: Mapping[str, Evaluation]) -> Table:
    pairs = [result.pairs for result in results.values()]
    table = figures_table(
        f"{pairs[0].similar} similar + {pairs[0].different} different",
        (Text(safe_name(name) if len(results) > 1 else "") for name in results),
    )
    for field, _ in PAIR_METRIC_TITLES:
        table.add_row(_metric_label(field), *(f"{getattr(each, field):.4f}" for each in pairs))
    table.add_section()
    for field in ("true_similar", "false_similar", "true_different", "false_different"):
        table.add_row(_metric_label(field), *(str(getattr(each, field)) for each in pairs))
    return table


def _metric_label(field: str) -> str:
    return field.replace("_", " ").replace("roc auc", "ROC AUC").replace("auc", "AUC")


def _confusion_tables(confusions: Confusions) -> list[Table]:
    kinds = (
        ("of two classes", "said similar", confusions.across),
        ("of one class", "said different", confusions.within),
    )
    return [_confusion_table(f"pairs {kind}", wrong, found) for kind, wrong, found in kinds if found]


def _confusion_table(title: str, error_heading: str, confusions: Sequence[Confusion]) -> Table:
    table = figures_table(title, ("pairs", error_heading))
    for each in confusions:
        names = " and ".join(safe_name(name) for name in dict.fromkeys((each.first, each.second)))
        table.add_row(Text(names), str(each.pairs), percent(each.wrong))
    return table
