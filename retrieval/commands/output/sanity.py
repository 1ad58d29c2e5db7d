"""A sanity check of heatmaps in a terminal, and as JSON."""

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from retrieval.commands.output.formats import JsonObject, figures_table, pick
from retrieval.common.text import count_noun, safe_name
from retrieval.evaluation.heatmaps.randomised_model import HEAD
from retrieval.evaluation.heatmaps.sanity_check import VERDICT_TEXTS, Dependence, SanityReport
from retrieval.explain.methods.registry import METHODS

_STYLES = {Dependence.learnt: "green", Dependence.none: "red"}


def sanity_lines(model: str, report: SanityReport) -> RenderableType:
    """Return the figures of a sanity check, and its verdict."""
    empty = [f"{step.name} {step.empty:,}" for step in (report.control, *report.steps) if step.empty]
    note = f"of {2 * report.pairs:,} heatmaps these are empty, and count as 0: {', '.join(empty)}"
    kinds = "" if report.similar is None else f", {report.similar:,} of one class"
    title = f"{METHODS[report.options.method].title} of {model}: {count_noun(report.pairs, 'pair')}{kinds}"
    if report.verdict is Dependence.unclear:
        reason = f"{report.control.signed.mean:+.2f} in brighter pictures"
    else:
        reason = f"{report.steps[-1].remaining:+.2f} is left with everything randomised"
    return Group(
        Text(safe_name(title), style="bold"),
        _agreement_table(report),
        *([Text(safe_name(note), style="yellow")] if empty else []),
        Text(f"{VERDICT_TEXTS[report.verdict]} ({reason})", style=_STYLES.get(report.verdict, "yellow")),
    )


def _agreement_table(report: SanityReport) -> Table:
    table = figures_table("rank correlation with the model's heatmaps", ("signed", "absolute values"))
    rows = [("the same pictures, 3 % brighter", report.control), ("its heatmaps of other pictures", report.others)]
    rows += [("randomised: the head" if step.name == HEAD else f"and {step.name}", step) for step in report.steps]
    for title, step in rows:
        cells = (f"{each.mean:+.2f} ± {each.spread:.2f}" for each in (step.signed, step.absolute))
        table.add_row(Text(safe_name(title)), *cells, end_section=step is report.others)
    return table


def sanity_json(model: str, report: SanityReport) -> JsonObject:
    """Return how much heatmaps depend on what a model has learnt."""
    return {
        "model": model,
        "dataset": report.folder,
        **pick(report.options, "method", "seed"),
        **pick(report, "pairs", "similar"),
        "maps": 2 * report.pairs,
        **pick(report, "control", "others", "steps", "verdict"),
        "words": VERDICT_TEXTS[report.verdict],
        "left_out": len(report.left_out),
        "seconds": report.seconds,
    }
