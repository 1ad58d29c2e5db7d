"""The deletion and insertion curves as a picture."""

import io

from retrieval.evaluation.heatmaps.baselines import BASELINES
from retrieval.evaluation.heatmaps.faithfulness import STEPS, Faithfulness

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

    figure = Figure(figsize=(11, 4.6), dpi=110, layout="constrained", facecolor="#fbfbfa")
    sides = zip(
        figure.subplots(1, 2, sharey=True),
        ("deletion_curve", "insertion_curve"),
        ("most factual places blurred first (lower is better)", "most factual places shown first (higher is better)"),
        strict=True,
    )
    shares = [100 * step / STEPS for step in range(STEPS + 1)]
    for axes, curve, title in sides:
        for number, (name, groups) in enumerate(faithfulness.methods.items()):
            colour = _QUIET if name in BASELINES else _COLOURS[number % len(_COLOURS)]
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
