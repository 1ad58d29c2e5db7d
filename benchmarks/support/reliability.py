"""The reliability of several galleries' numbers as a picture: what is said against what is so."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

_COLOURS = ("#1c9cc4", "#e08a1e", "#2e8b57", "#8e5bbf", "#c0392b")
_LARGEST = 160  # square points of a dot that holds all numbers of a gallery
_SOME = 10  # numbers that a dot needs


def draw(galleries: Mapping[str, Mapping[str, Any]], file: Path) -> None:
    """Draw the reliability of pairs and of hits, before and after, as a PNG."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 8.2), layout="constrained", facecolor="white")
    panels = zip(
        figure.subplots(2, 2, sharex=True, sharey=True).flat,
        [(*of, state) for of in (("pairs", "pair_error"), ("hits", "hit_error")) for state in ("before", "after")],
        strict=True,
    )
    for axes, (of, error, state) in panels:
        axes.plot([0, 1], [0, 1], color="#a3a9b3", lw=1)
        for (name, found), colour in zip(galleries.items(), _COLOURS, strict=False):
            bins = [each for each in found["reliability"][state][of] if each["count"] >= _SOME]
            total = sum(each["count"] for each in bins)
            said, so = [each["mean"] for each in bins], [each["share"] for each in bins]
            axes.plot(said, so, color=colour, lw=1.4, label=f"{name}, error {found['figures'][state][error]:.2f}")
            sizes = [8 + _LARGEST * each["count"] / total for each in bins]
            axes.scatter(said, so, sizes, color=colour, alpha=0.7, linewidths=0)
        axes.set_title(f"{of}, {state}", loc="left", fontsize=11)
        axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal")
        axes.grid(color="#e4e6ea", linewidth=0.6)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False, fontsize=9, loc="upper left")
    figure.supxlabel("what the number says", fontsize=10)
    figure.supylabel("the share that is of the same kind", fontsize=10)
    figure.savefig(file, dpi=90)
