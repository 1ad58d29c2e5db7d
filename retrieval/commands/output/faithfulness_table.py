"""The figures of faithfulness for a terminal, for machines, and as curves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from retrieval.common.metrics import Interval
from retrieval.common.text import safe_name
from retrieval.evaluation.heatmaps.baselines import BASELINES
from retrieval.evaluation.heatmaps.faithfulness import Faithfulness, HeatmapMetrics, MethodMetrics


def faithfulness_lines(name: str, faithfulness: Faithfulness, grids: Mapping[str, Interval]) -> RenderableType:
    """Each method's figures over all pairs, means with the half of their 95 % intervals."""
    counts = ", ".join(f"{count} said {group}" for group, count in faithfulness.pairs.items() if group != "all")
    title = Text(f"{safe_name(name)}: {faithfulness.pairs['all']} pairs, {counts}", style="bold")
    lines: list[RenderableType] = [title, _table(faithfulness.methods, grids)]
    if faithfulness.left_out:
        lines.append(
            Text(f"left out: {len(faithfulness.left_out)} pairs with a picture that cannot be read", style="yellow")
        )
    return Group(*lines)


def faithfulness_json(
    faithfulness: Faithfulness, grids: Mapping[str, Interval], setup: Mapping[str, Any]
) -> dict[str, Any]:
    """All figures by method and group of pairs, and by method the share of evidence in the right quarter of grids."""
    methods = {
        title: {group: asdict(own) for group, own in groups.items()} for title, groups in faithfulness.methods.items()
    }
    return {
        **setup,
        "pairs": faithfulness.pairs,
        "left_out": list(faithfulness.left_out),
        "methods": methods,
        "grid_pointing_game": {title: asdict(share) for title, share in grids.items()},
    }


_FACTUAL = {"deletion": "deletion ↓", "insertion": "insertion ↑", "drop": "drop ↓", "increase": "increase ↑"}
_COUNTER = {"raised": "against: raised ↑", "raised_by_random": "by random"}


def _table(methods: Mapping[str, Mapping[str, MethodMetrics]], grids: Mapping[str, Interval]) -> Table:
    table = Table("method", box=SIMPLE_HEAD, pad_edge=False)
    for heading in (*_FACTUAL.values(), *_COUNTER.values(), *(["grids ↑"] if grids else [])):
        table.add_column(heading, justify="right")
    for title, groups in methods.items():
        own = groups["all"]
        cells = [*_cells(own.factual, _FACTUAL), *_cells(own.counterfactual, _COUNTER)]
        cells += ([format_interval(grids[title])] if title in grids else [""]) if grids else []
        table.add_row(title, *cells, style="dim" if title in BASELINES else "")
    return table


def _cells(figures: HeatmapMetrics, names: Mapping[str, str]) -> list[str]:
    return [format_interval(getattr(figures, name)) for name in names]


def format_interval(interval: Interval) -> str:
    """A mean with half the width of its interval."""
    return f"{interval.mean:.3f} ±{(interval.high - interval.low) / 2:.3f}"
