"""An evaluation in a terminal, and as JSON."""

from collections.abc import Mapping
from itertools import chain

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from retrieval.commands.output.formats import JsonObject, figures_table, pick
from retrieval.commands.output.tables import name_line
from retrieval.common.text import percent, safe_name
from retrieval.evaluation.measure import DatasetEvaluation, EvaluationOptions
from retrieval.evaluation.ranking import RANKING_METRIC_TITLES, Evaluation
from retrieval.evaluation.verdicts import PAIR_METRIC_TITLES, Confusion, Confusions


def evaluation_table(name: str, results: Mapping[str, Evaluation]) -> RenderableType:
    """Return the figures of one or two models, by name, and the first one's confusions."""
    first = next(iter(results.values()))
    title = f"{name}: {first.pictures} pictures, {first.classes} classes, {first.queries} queries leaving one out"
    return Group(
        name_line(title, style="bold"),
        _rankings_table(results),
        _pairs_table(results),
        *_confusion_tables(first.confusions),
    )


def _rankings_table(results: Mapping[str, Evaluation]) -> Table:
    columns = [(name, column) for name in results for column in ("index", "rescored", "change")]
    headings = (Text(f"{safe_name(name)}\n{column}" if len(results) > 1 else column) for name, column in columns)
    table = figures_table("", headings)
    for field, label in RANKING_METRIC_TITLES:
        pairs = [(getattr(result.index, field), getattr(result.rescored, field)) for result in results.values()]
        cells = ((f"{before:.4f}", f"{after:.4f}", f"{after - before:+.4f}") for before, after in pairs)
        table.add_row(label, *chain.from_iterable(cells))
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
    kinds = (("two classes", "similar", confusions.across), ("one class", "different", confusions.within))
    return [
        figures_table(f"pairs of {kind}", ("pairs", f"said {verdict}"), map(_confusion_row, rows))
        for kind, verdict, rows in kinds
        if rows
    ]


def _confusion_row(confusion: Confusion) -> tuple[Text, str, str]:
    names = " and ".join(safe_name(name) for name in dict.fromkeys((confusion.first, confusion.second)))
    return Text(names), str(confusion.pairs), percent(confusion.wrong)


def evaluation_json(options: EvaluationOptions, evaluations: Mapping[str, DatasetEvaluation]) -> JsonObject:
    """Return the figures of every model on every data set, by its name."""
    datasets = {
        name: {"left_out": len(each.dataset.left_out), "seen": each.seen_count, "models": each.results}
        for name, each in evaluations.items()
    }
    return pick(options, "seed", "pool", "pairs") | {"datasets": datasets}
