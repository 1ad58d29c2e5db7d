"""The deletion and insertion curves as a picture."""

import io
from itertools import product

from retrieval.evaluation.heatmaps.baselines import BASELINES
from retrieval.evaluation.heatmaps.faithfulness import STEPS, Faithfulness
from retrieval.explain.hiding import HIDINGS

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


def faithfulness_curves(faithfulness: Faithfulness) -> bytes:
    """Draw the mean confidence while more and more of each factual heatmap is hidden, and shown, as a PNG."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4.6 * len(HIDINGS)), dpi=110, layout="constrained", facecolor="#fbfbfa")
    sides = (
        ("deletion_curve", "{} first (low is good)"),
        ("insertion_curve", "shown first, the rest {} (high is good)"),
    )
    panels = zip(figure.subplots(len(HIDINGS), 2, sharey=True).flat, product(HIDINGS, sides), strict=True)
    shares = [100 * step / STEPS for step in range(STEPS + 1)]
    for axes, (way, (curve, title)) in panels:
        for number, (name, groups) in enumerate(faithfulness.methods.items()):
            colour = _QUIET if name in BASELINES else _COLOURS[number % len(_COLOURS)]
            style = {"Random": ":", "Centre": "--", "Edges": "-."}.get(name, "-")
            values = getattr(groups["all"].hidings[way], curve)
            axes.plot(shares, values, color=colour, linestyle=style, label=name, lw=1.6)
        axes.set_title(f"most factual places {title.format(way)}", loc="left", fontsize=11)
        axes.set_xlabel("% of the picture")
        axes.grid(color="#dfe1e5", linewidth=0.6)
        axes.spines[["top", "right"]].set_visible(False)
    figure.axes[0].set_ylabel("confidence in the verdict")
    figure.axes[1].legend(frameon=False, fontsize=8, ncols=2)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()
