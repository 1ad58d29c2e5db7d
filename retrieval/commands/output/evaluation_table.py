"""The figures of an evaluation in a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from retrieval.common.text import percent, safe_name
from retrieval.evaluation.ranking import Evaluation
from retrieval.evaluation.verdicts import Confusion, Confusions

if TYPE_CHECKING:  # only types here: whoever trains has loaded torch, whoever asks shall not
    pass


def evaluation_table(name: str, results: Mapping[str, Evaluation]) -> RenderableType:
    """One or two models, by name: the orders of index and head, the verdicts on pairs, and the first's confusions."""
    first = next(iter(results.values()))
    title = f"{name}: {first.pictures} pictures, {first.classes} classes, {first.queries} queries leaving one out"
    return Group(
        Text(title, style="bold"), _rankings_table(results), _pairs_table(results), *_confusion_tables(first.confusions)
    )


def _rankings_table(results: Mapping[str, Evaluation]) -> Table:
    table = Table("", box=SIMPLE_HEAD, pad_edge=False)
    for name in results:
        for column in ("index", "rescored", "change"):
            table.add_column(Text(f"{safe_name(name)}\n{column}" if len(results) > 1 else column), justify="right")
    for field, shown in (("p_at_1", "P@1"), ("p_at_5", "P@5"), ("p_at_10", "P@10"), ("map_at_100", "mAP@100")):
        cells = []
        for result in results.values():
            before, after = getattr(result.index, field), getattr(result.rescored, field)
            cells += [f"{before:.4f}", f"{after:.4f}", f"{after - before:+.4f}"]
        table.add_row(shown, *cells)
    return table


def _pairs_table(results: Mapping[str, Evaluation]) -> Table:
    pairs = [result.pairs for result in results.values()]
    table = Table(f"{pairs[0].similar} similar + {pairs[0].different} different", box=SIMPLE_HEAD, pad_edge=False)
    for name in results:
        table.add_column(Text(safe_name(name) if len(results) > 1 else ""), justify="right")
    for field in ("accuracy", "roc_auc", "thresholded_auc", "precision", "recall", "macro_precision", "macro_recall"):
        table.add_row(_metric_label(field), *(f"{getattr(each, field):.4f}" for each in pairs))
    table.add_row("calibration error", *(f"{each.calibration_error:.4f}" for each in pairs), end_section=True)
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
    table = Table(title, box=SIMPLE_HEAD, pad_edge=False)
    for column in ("pairs", error_heading):
        table.add_column(column, justify="right")
    for each in confusions:
        names = " and ".join(safe_name(name) for name in dict.fromkeys((each.first, each.second)))
        table.add_row(Text(names), str(each.pairs), percent(each.wrong))
    return table
