"""A sanity check of heatmaps in a terminal."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from retrieval.commands.output.tables import figures_table
from retrieval.common.text import safe_name
from retrieval.evaluation.heatmaps.randomised_model import HEAD
from retrieval.evaluation.heatmaps.sanity_check import VERDICT_TEXTS, Agreement, Dependence, MapComparison, SanityReport
from retrieval.explain.methods import METHODS

_STYLES = {Dependence.learnt: "green", Dependence.none: "red"}


def sanity_lines(model: str, report: SanityReport) -> RenderableType:
    """Return the figures of a sanity check, and its verdict."""
    kinds = "" if report.similar is None else f", {report.similar:,} of one class"
    pairs = "1 pair" if report.pairs == 1 else f"{report.pairs:,} pairs"
    title = f"{METHODS[report.options.method].title} of {model}: {pairs}{kinds}"
    verdict = report.verdict
    return Group(
        Text(safe_name(title), style="bold"),
        _agreement_table(report),
        *_empty_lines(report),
        Text(f"{VERDICT_TEXTS[verdict]} ({_verdict_reason(report)})", style=_STYLES.get(verdict, "yellow")),
    )


def _agreement_table(report: SanityReport) -> Table:
    table = figures_table("rank correlation with the model's heatmaps", ("signed", "absolute values"))
    _add(table, "the same pictures, 3 % brighter", report.control)
    _add(table, "its heatmaps of other pictures", report.others, end_section=True)
    for step in report.steps:
        _add(table, "randomised: the head" if step.name == HEAD else f"and {step.name}", step)
    return table


def _add(table: Table, title: str, step: MapComparison, end_section: bool = False) -> None:
    table.add_row(
        Text(safe_name(title)),
        _format_agreement(step.signed),
        _format_agreement(step.absolute),
        end_section=end_section,
    )


def _format_agreement(agreement: Agreement) -> str:
    return f"{agreement.mean:+.2f} ± {agreement.spread:.2f}"


def _empty_lines(report: SanityReport) -> list[Text]:
    rows = (report.control, *report.steps)
    empty = [f"{step.name} {step.empty:,}" for step in rows if step.empty]
    if not empty:
        return []
    sentence = f"of {2 * report.pairs:,} heatmaps these are empty, and count as 0: {', '.join(empty)}"
    return [Text(safe_name(sentence), style="yellow")]


def _verdict_reason(report: SanityReport) -> str:
    if report.verdict is Dependence.unclear:
        return f"{report.control.signed.mean:+.2f} in brighter pictures"
    return f"{report.steps[-1].remaining:+.2f} is left with everything randomised"
