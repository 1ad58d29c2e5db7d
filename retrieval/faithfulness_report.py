"""The figures of faithfulness for a terminal, for machines, and as curves."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from retrieval.baselines import BASELINES
from retrieval.common.metrics import Interval
from retrieval.common.text import safe_name
from retrieval.faithfulness import STEPS, Faithfulness, Figures, MethodFigures

_COLOURS = (
    "#e08a1e",
    "#1c9cc4",
    "#2e8b57",
    "#c0392b",
    "#8e5bbf",
    "#1b1d21",
    "#b8860b",
    "#d16ba5",
    "#5d636d",
    "#2f4b7c",
)
_QUIET = "#a3a9b3"


def faithfulness_lines(name: str, found: Faithfulness, grids: Mapping[str, Interval]) -> RenderableType:
    """Each method's figures over all pairs, means with the half of their 95 % intervals."""
    counts = ", ".join(f"{count} said {group}" for group, count in found.pairs.items() if group != "all")
    title = Text(f"{safe_name(name)}: {found.pairs['all']} pairs, {counts}", style="bold")
    lines: list[RenderableType] = [title, _table(found.methods, grids)]
    if found.left_out:
        lines.append(Text(f"left out: {len(found.left_out)} pairs with a picture that cannot be read", style="yellow"))
    return Group(*lines)


def faithfulness_json(found: Faithfulness, grids: Mapping[str, Interval], setup: Mapping[str, Any]) -> dict[str, Any]:
    """All figures by method and group of pairs, and by method the share of evidence in the right quarter of grids."""
    methods = {title: {group: asdict(own) for group, own in groups.items()} for title, groups in found.methods.items()}
    return {
        **setup,
        "pairs": found.pairs,
        "left_out": list(found.left_out),
        "methods": methods,
        "grid_pointing_game": {title: asdict(share) for title, share in grids.items()},
    }


def faithfulness_curves(found: Faithfulness) -> bytes:
    """A PNG: the mean confidence as ever more is hidden, and as ever more is shown, of each factual heatmap."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4.6), dpi=110, layout="constrained", facecolor="#fbfbfa")
    sides = zip(
        figure.subplots(1, 2, sharey=True),
        ("deletion_curve", "insertion_curve"),
        ("most factual places blurred first (lower is better)", "most factual places shown first (higher is better)"),
        strict=True,
    )
    shares = [100 * step / STEPS for step in range(STEPS + 1)]
    for axes, curve, title in sides:
        for number, (name, groups) in enumerate(found.methods.items()):
            known = name in BASELINES
            colour = _QUIET if known else _COLOURS[number % len(_COLOURS)]
            style = {"Random": ":", "Centre": "--", "Edges": "-."}.get(name, "-")
            axes.plot(shares, getattr(groups["all"].factual, curve), color=colour, linestyle=style, label=name, lw=1.6)
        axes.set_title(title, loc="left", fontsize=11)
        axes.set_xlabel("% of the picture")
        axes.grid(color="#dfe1e5", linewidth=0.6)
        axes.spines[["top", "right"]].set_visible(False)
    figure.axes[0].set_ylabel("confidence in the verdict")
    figure.axes[1].legend(frameon=False, fontsize=8, ncols=2)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


_FACTUAL = {"deletion": "deletion ↓", "insertion": "insertion ↑", "drop": "drop ↓", "increase": "increase ↑"}
_COUNTER = {"raised": "against: raised ↑", "raised_by_random": "by random"}


def _table(methods: Mapping[str, Mapping[str, MethodFigures]], grids: Mapping[str, Interval]) -> Table:
    table = Table("method", box=SIMPLE_HEAD, pad_edge=False)
    for heading in (*_FACTUAL.values(), *_COUNTER.values(), *(["grids ↑"] if grids else [])):
        table.add_column(heading, justify="right")
    for title, groups in methods.items():
        own = groups["all"]
        cells = [*_cells(own.factual, _FACTUAL), *_cells(own.counterfactual, _COUNTER)]
        cells += ([shown(grids[title])] if title in grids else [""]) if grids else []
        table.add_row(title, *cells, style="dim" if title in BASELINES else "")
    return table


def _cells(figures: Figures, names: Mapping[str, str]) -> list[str]:
    return [shown(getattr(figures, name)) for name in names]


def shown(interval: Interval) -> str:
    """A mean with half the width of its interval."""
    return f"{interval.mean:.3f} ±{(interval.high - interval.low) / 2:.3f}"
