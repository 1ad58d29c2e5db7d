"""The figures of faithfulness in a terminal, and as JSON."""

from collections.abc import Mapping
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from retrieval.commands.output.formats import JsonObject, figures_table, pick
from retrieval.common.metrics import Interval
from retrieval.common.text import safe_name
from retrieval.evaluation.heatmaps.baselines import BASELINES
from retrieval.evaluation.heatmaps.faithfulness import Faithfulness, MethodMetrics


def faithfulness_lines(name: str, faithfulness: Faithfulness, grids: Mapping[str, Interval]) -> RenderableType:
    """Return each method's figures over all pairs: means with half of their 95 % intervals."""
    counts = ", ".join(f"{count} said {group}" for group, count in faithfulness.pairs.items() if group != "all")
    title = Text(f"{safe_name(name)}: {faithfulness.pairs['all']} pairs, {counts}", style="bold")
    left_out = f"left out: {len(faithfulness.left_out)} pairs with a picture that cannot be read"
    notes = [Text(left_out, style="yellow")] if faithfulness.left_out else []
    return Group(title, _table(faithfulness.methods, grids), *notes)


_FACTUAL = {"deletion": "deletion ↓", "insertion": "insertion ↑", "drop": "drop ↓", "increase": "increase ↑"}
_COUNTER = {"raised": "against: raised ↑", "raised_by_random": "by random"}


def _table(methods: Mapping[str, Mapping[str, MethodMetrics]], grids: Mapping[str, Interval]) -> Table:
    table = figures_table("method", (*_FACTUAL.values(), *_COUNTER.values(), *(["grids ↑"] if grids else [])))
    for title, groups in methods.items():
        factual, counterfactual = groups["all"].factual, groups["all"].counterfactual
        intervals = [getattr(factual, name) for name in _FACTUAL]
        intervals += [getattr(counterfactual, name) for name in _COUNTER]
        intervals += [grids[title]] if title in grids else []
        table.add_row(title, *map(format_interval, intervals), style="dim" if title in BASELINES else "")
    return table


def format_interval(interval: Interval) -> str:
    """Return a mean with half the width of its interval."""
    return f"{interval.mean:.3f} ±{(interval.high - interval.low) / 2:.3f}"


def faithfulness_json(
    faithfulness: Faithfulness, grids: Mapping[str, Interval], setup: Mapping[str, Any]
) -> JsonObject:
    """Return the figures by method and group of pairs, and each method's share of evidence in the right quarter."""
    return {**setup, **pick(faithfulness, "pairs", "left_out", "methods"), "grid_pointing_game": grids}
