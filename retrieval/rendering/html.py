"""The page: queries with their hits as one HTML file, whole in itself; and what other pages share with it."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from html import escape
from importlib.resources import files

from PIL import Image

from retrieval.common.text import percent
from retrieval.rendering.overlay import encode_image, legend_bar
from retrieval.rendering.presentation import HEATMAP_KINDS, KIND_MEANINGS, HitView, ResultView, SideView


def render_document(title: str, header: str, main: str) -> str:
    """The frame of every page: `title` as plain text, `header` and `main` as HTML."""
    style = files("retrieval.rendering").joinpath("page.css").read_text("utf-8")
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{escape(title)}</title>
<style>
{style}</style>
</head>
<body>
<header>
{header}
</header>
<main>
{main}
</main>
</body>
</html>
"""


def legend_html() -> str:
    """A list of the two colours of evidence, with what they speak for."""
    bars = "".join(
        f'<li><b>{kind.capitalize()}</b> {KIND_MEANINGS[kind]}<span class="scale"><span>faint</span>'
        f'<img src="{_data_uri(legend_bar(kind, 256, 16), "PNG")}" alt="from grey to bright: faint to strong">'
        "<span>strong</span></span></li>"
        for kind in HEATMAP_KINDS
    )
    return f'<ul class="legend">{bars}</ul>'


def limits_html(results: Sequence[ResultView]) -> str:
    """What heatmaps cannot say, as a paragraph."""
    return f"""<p>The limits: {_places(results)}, so their edges are not the edges of
things, and the dark edges of an oblong picture were not seen by the model. They show what the model’s verdict rests
on: they say where, the similarity says how much. They prove nothing about the pictures, and the model may be right
for the wrong reasons.</p>"""


def _places(results: Sequence[ResultView]) -> str:
    for explanation in (hit.explanation for shown in results for hit in shown.hits):
        if explanation:
            rows, columns = explanation.query.factual.shape
            return f"heatmaps are {rows} × {columns} places, enlarged"
    return "heatmaps are a few places, enlarged"


def facts_html(hit: HitView, more: str = "") -> str:
    """The similarity, as a bar and a number, and the verdict; then `more` (HTML)."""
    bar = f'<span class="bar" aria-hidden="true"><i style="width:{100 * hit.similarity:.1f}%"></i></span>'
    return f"""<p class="facts">{bar}
<b class="percent">{percent(hit.similarity)}</b><b class="verdict {hit.verdict}">{hit.verdict}</b>{more}</p>"""


def side_html(side: SideView) -> str:
    """A picture as it is, then with its heatmaps, or why there are none."""
    plain = figure_html(side.picture, f"{side.title}, as it is", f"The {side.title} {side.name}")
    if side.heatmaps is None or side.picture is None:
        return f'<div class="side">{plain}<p class="missing">{escape(side.placeholder)}</p></div>'
    overlaid = "".join(
        figure_html(
            side.draw_overlay(kind),
            f'<i class="{kind}"></i>{escape(side.caption(kind))}: {side.strength_word(kind)}',
            f"The {side.title} with its {kind} heatmap, {side.caption(kind)}: {side.strength_word(kind)}",
        )
        for kind in HEATMAP_KINDS
    )
    return f'<div class="side">{plain}{overlaid}</div>'


def figure_html(image: Image.Image | None, caption: str, alt: str) -> str:
    """A picture with its caption (HTML); one that can be enlarged by selecting it."""
    if image is None:
        return f'<figure><p class="missing">cannot be shown</p><figcaption>{caption}</figcaption></figure>'
    width, height = image.size
    source = f'src="{_data_uri(image, "JPEG")}" width="{width}" height="{height}"'
    return (
        f'<figure><div class="frame" style="aspect-ratio:{width}/{height}">'
        f'<img {source} alt="{escape(alt)}" tabindex="0"></div><figcaption>{caption}</figcaption></figure>'
    )


def name_html(name: str) -> str:
    """A name, escaped, whose direction of writing stays its own."""
    return f"<bdi>{escape(name)}</bdi>"


def table_html(caption: str, head: Sequence[Sequence[str]], rows: Iterable[Sequence[str]]) -> str:
    """A table of cells (HTML) under one or more rows of headings; the first cell of a row is its heading."""
    headings = "".join(f"<tr>{''.join(row)}</tr>" for row in head)
    body = "".join(
        f'<tr><th scope="row">{first}</th>{"".join(f"<td>{cell}</td>" for cell in cells)}</tr>'
        for first, *cells in rows
    )
    shown = f"<caption>{caption}</caption>" if caption else ""
    return f'<table class="figures">{shown}<thead>{headings}</thead><tbody>{body}</tbody></table>'


def heads_html(*names: str, span: int = 1) -> list[str]:
    """A row of column headings (HTML), each `span` columns wide, behind the empty one over the rows' headings."""
    wide = f' colspan="{span}"' if span > 1 else ""
    return ["<td></td>", *(f'<th scope="col"{wide}>{name}</th>' for name in names)]


def _data_uri(image: Image.Image, format_: str) -> str:
    return f"data:image/{format_.lower()};base64,{base64.b64encode(encode_image(image, format_)).decode('ascii')}"
