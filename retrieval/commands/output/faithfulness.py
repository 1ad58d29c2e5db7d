"""The figures of faithfulness in a terminal, and as JSON."""

from collections.abc import Iterable, Mapping
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from retrieval.commands.output.formats import JsonObject, figures_table, pick
from retrieval.commands.output.tables import name_line
from retrieval.common.metrics import Interval
from retrieval.common.text import count_noun, percent, safe_name
from retrieval.evaluation.heatmaps.baselines import BASELINES
from retrieval.evaluation.heatmaps.faithfulness import Faithfulness
from retrieval.evaluation.heatmaps.hit_checks import CheckedHits
from retrieval.explain.hiding import HIDINGS
from retrieval.explain.verification import Support


def faithfulness_lines(
    name: str, faithfulness: Faithfulness, grids: Mapping[str, Interval], checked: CheckedHits | None
) -> RenderableType:
    """Return each method's figures over all pairs: means with half of their 95 % intervals; then those of hits."""
    counts = ", ".join(f"{count} said {group}" for group, count in faithfulness.pairs.items() if group != "all")
    title = name_line(f"{safe_name(name)}: {faithfulness.pairs['all']} pairs, {counts}", style="bold")
    left_out = f"left out: {len(faithfulness.left_out)} pairs with a picture that cannot be read"
    notes = [Text(left_out, style="yellow")] if faithfulness.left_out else []
    tables = [_hiding_table(faithfulness, way) for way in HIDINGS]
    return Group(title, *tables, _whole_table(faithfulness, grids), *notes, *(_hits_lines(checked) if checked else []))


_FIGURES = {
    "deletion": "deletion ↓",
    "insertion": "insertion ↑",
    "drop": "drop ↓",
    "increase": "increase ↑",
    "raised": "against: raised ↑",
    "raised_by_random": "by random",
}


def _hiding_table(faithfulness: Faithfulness, way: str) -> Table:
    found = {title: groups["all"].hidings[way] for title, groups in faithfulness.methods.items()}
    rows = {title: [getattr(figures, name) for name in _FIGURES] for title, figures in found.items()}
    return _intervals_table(way, _FIGURES.values(), rows)


def _whole_table(faithfulness: Faithfulness, grids: Mapping[str, Interval]) -> Table:
    """Return a table of what does not depend on the way of hiding."""
    rows = {title: [groups["all"].fidelity] for title, groups in faithfulness.methods.items()}
    for title, share in grids.items():
        rows[title].append(share)
    return _intervals_table("method", ["fidelity ↑", *(["grids ↑"] if grids else [])], rows)


def _intervals_table(heading: str, columns: Iterable[str], rows: Mapping[str, list[Interval]]) -> Table:
    table = figures_table(heading, columns)
    for column in table.columns:
        column.min_width = max(map(len, str(column.header).split()))  # no word is cut in 80 columns
    for title, intervals in rows.items():
        table.add_row(title, *map(format_interval, intervals), style="dim" if title in BASELINES else "")
    return table


def _hits_lines(checked: CheckedHits) -> list[RenderableType]:
    """Return the shares of hits by support, a row for each method and way of hiding."""
    table = figures_table("method", ("hidden", *Support, "fidelity"))
    for title, found in checked.methods.items():
        for way, shares in found.support.items():
            fidelity = "" if way in HIDINGS else f"{found.fidelity.mean:.3f}"
            table.add_row(title, way, *(percent(shares[each].mean) for each in Support), fidelity)
    wholes = [
        Text(f"{title}: {percent(found.as_wholes.mean)} of the hits match or differ as wholes")
        for title, found in checked.methods.items()
        if found.as_wholes.mean
    ]
    counts = f"{count_noun(checked.hits, 'hit')} of {count_noun(checked.queries, 'query', 'queries')}"
    return [Text(counts, style="bold"), table, *wholes]


def format_interval(interval: Interval) -> str:
    """Return a mean with half the width of its interval."""
    return f"{interval.mean:.3f} ±{(interval.high - interval.low) / 2:.3f}"


def faithfulness_json(
    faithfulness: Faithfulness, grids: Mapping[str, Interval], checked: CheckedHits | None, setup: Mapping[str, Any]
) -> JsonObject:
    """Return the figures by method and group of pairs, the shares of evidence in the right quarter, those of hits."""
    figures = pick(faithfulness, "pairs", "left_out", "methods")
    return {**setup, **figures, "grid_pointing_game": grids, "hits": checked}
