"""The reliability diagram: similarity against the share of pairs that are alike."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from retrieval.common.metrics import Bin
from retrieval.common.text import percent
from retrieval.rendering.html import (
    heads_html,
    table_html,
)

_LEFT, _TOP, _WIDTH, _HEIGHT = 52, 12, 400, 300  # of the diagram's square, in its own units
_STRIP = (332, 44)  # top and height of the counts below it


# The reliability diagram


def reliability_html(bins: Sequence[Bin]) -> str:
    """The reliability diagram of similarities against what is of one class, with how to read it and its numbers."""
    rows = [
        [f"{percent(each.low)} to {percent(each.high)}", f"{each.count:,}", percent(each.mean), percent(each.share)]
        for each in bins
    ]
    numbers = table_html("", [heads_html("pairs", "mean similarity", "of one class")], rows)
    return f"""<p class="note">A dot is a bin of pairs: how similar they are said to be, and how many of them are of one
class. On the dashed line both agree. Below: how many pairs each bin holds.</p>
{_diagram(bins)}
<details><summary>The numbers</summary>{numbers}</details>"""


def _diagram(bins: Sequence[Bin]) -> str:
    """Similarity against the share of pairs of one class, as an SVG element, above the counts of the bins."""
    most = max((each.count for each in bins), default=1)
    return f"""<svg class="diagram" viewBox="0 0 470 424" role="img" aria-label="Reliability diagram">
{_grid()}
<line class="ideal" x1="{_x(0)}" y1="{_y(0)}" x2="{_x(1)}" y2="{_y(1)}"/>
{"".join(_gap(each) for each in bins)}
{"".join(_dot(each, most) for each in bins)}
{"".join(_count_bar(each, most) for each in bins)}
<text class="axis" x="{_x(0.5)}" y="418" text-anchor="middle">similarity</text>
<text class="axis" transform="translate(12 {_y(0.5)}) rotate(-90)" text-anchor="middle">share of one class</text>
</svg>"""


def _x(share: float) -> str:
    return f"{_LEFT + _WIDTH * share:.1f}"


def _y(share: float) -> str:
    return f"{_TOP + _HEIGHT * (1 - share):.1f}"


def _grid() -> str:
    top, height = _STRIP
    return "".join(
        f'<line class="grid" x1="{_x(0)}" y1="{_y(tick)}" x2="{_x(1)}" y2="{_y(tick)}"/>'
        f'<text x="{_LEFT - 6}" y="{_y(tick)}" dy="4" text-anchor="end">{tick:.0%}</text>'
        f'<line class="grid" x1="{_x(tick)}" y1="{_y(1)}" x2="{_x(tick)}" y2="{_y(0)}"/>'
        f'<text x="{_x(tick)}" y="{top + height + 18}" text-anchor="middle">{tick:.0%}</text>'
        for tick in (0, 0.25, 0.5, 0.75, 1)
    )


def _gap(each: Bin) -> str:
    x = _x(each.mean)
    return f'<line class="gap" x1="{x}" y1="{_y(each.mean)}" x2="{x}" y2="{_y(each.share)}"/>'


def _dot(each: Bin, most: int) -> str:
    radius = 3 + 6 * (each.count / most) ** 0.5
    said = f"{each.count:,} pairs: similarity {percent(each.mean)}, {percent(each.share)} of one class"
    return f'<circle cx="{_x(each.mean)}" cy="{_y(each.share)}" r="{radius:.1f}"><title>{escape(said)}</title></circle>'


def _count_bar(each: Bin, most: int) -> str:
    top, height = _STRIP
    tall = max(height * each.count / most, 1)
    width = _WIDTH * (each.high - each.low) - 2
    return (
        f'<rect x="{_x(each.low)}" y="{top + height - tall:.1f}" width="{width:.1f}" height="{tall:.1f}">'
        f"<title>{each.count:,} pairs</title></rect>"
    )
