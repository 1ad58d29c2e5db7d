"""The page: queries with their hits as one HTML file, whole in itself; and what other pages share with it."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from html import escape
from importlib.resources import files

from PIL import Image

from retrieval.checked import HEADINGS, rows, told
from retrieval.common.settings import THRESHOLD
from retrieval.common.text import percent
from retrieval.explain.verification import RANDOM
from retrieval.overlay import encoded, legend_bar
from retrieval.shown import KINDS, MEANING, NO_HITS, Shown, ShownHit, Side, matches_of, sides


def page(results: Sequence[Shown]) -> str:
    """One HTML page, whole in itself, of one or more queries. It asks no network and runs no script."""
    title = f"Most similar to {results[0].name}" if len(results) == 1 else f"The hits of {len(results)} queries"
    queries = "\n".join(_query_html(shown) for shown in results) or "<p>No queries.</p>"
    return document(title, f"<h1>The most similar pictures, and why</h1>\n{_legend_html(results)}", queries)


def document(title: str, header: str, main: str) -> str:
    """The frame of every page: `title` as plain text, `header` and `main` as HTML."""
    style = files("retrieval").joinpath("page.css").read_text("utf-8")
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
        f'<li><b>{kind.capitalize()}</b> {MEANING[kind]}<span class="scale"><span>faint</span>'
        f'<img src="{_data_uri(legend_bar(kind, 256, 16), "PNG")}" alt="from grey to bright: faint to strong">'
        "<span>strong</span></span></li>"
        for kind in KINDS
    )
    return f'<ul class="legend">{bars}</ul>'


def limits_html(results: Sequence[Shown]) -> str:
    """What heatmaps cannot say, as a paragraph."""
    return f"""<p>The limits: {_places(results)}, so their edges are not the edges of
things, and the dark edges of an oblong picture were not seen by the model. They show what the model’s verdict rests
on: they say where, the similarity says how much. They prove nothing about the pictures, and the model may be right
for the wrong reasons.</p>"""


def _legend_html(results: Sequence[Shown]) -> str:
    return f"""<section class="reading" aria-labelledby="reading">
<h2 id="reading">How to read this</h2>
{legend_html()}
<p>Each row shows the query and one hit: the picture as it is, then where the model found evidence <b>for</b> its
verdict (factual), then <b>against</b> it (counterfactual: what would have to weigh more for the verdict to turn).
“Similar” means a similarity above {percent(1 - THRESHOLD)}. All hits of a query share one scale, so faint evidence
looks faint. Select a picture to enlarge it.</p>
{limits_html(results)}
</section>"""


def _places(results: Sequence[Shown]) -> str:
    for explanation in (hit.explanation for shown in results for hit in shown.hits):
        if explanation:
            rows, columns = explanation.query.factual.shape
            return f"heatmaps are {rows} × {columns} places, enlarged"
    return "heatmaps are a few places, enlarged"


def _query_html(shown: Shown) -> str:
    hits = "\n".join(_hit_html(shown, hit) for hit in shown.hits) or f'<p class="empty">{NO_HITS}</p>'
    picture = figure_html(shown.picture, "query, as it is", f"The query {shown.name}") if not shown.hits else ""
    doubt = f'<p class="doubt">{escape(shown.doubt)}</p>\n' if shown.doubt else ""
    return f"""<section class="query">
<h2>Query: {name_html(shown.name)}</h2>
{doubt}{picture}{hits}
</section>"""


def _hit_html(shown: Shown, hit: ShownHit) -> str:
    label = f"<span>label <b>{name_html(hit.label)}</b></span>" if hit.label else ""
    index = f"<span>rank {hit.index_rank} in the index, before rescoring</span>" if hit.index_rank is not None else ""
    folder = f'<p class="folder">{name_html(hit.folder)}</p>' if hit.folder else ""
    pictures = "\n".join(side_html(side) for side in sides(shown, hit))
    return f"""<article>
<h3><span class="rank">{hit.rank}</span> {name_html(hit.name)}</h3>
{folder}{facts_html(hit, label + index)}
<div class="pair">
{pictures}
</div>{_checked_html(hit)}{_matches_html(shown, hit)}
</article>"""


def _checked_html(hit: ShownHit) -> str:
    """What became of the similarity when the places that the heatmaps name were hidden."""
    verification = hit.explanation.verification if hit.explanation else None
    if verification is None:
        return ""
    table = table_html("", [heads_html(*HEADINGS[1:])], rows(verification, ("query", "hit")))
    support = f'<b class="support {verification.support.name}">{escape(told(verification))}</b>'
    return f"""
<details class="checked"><summary>{support}</summary>
<p class="note">A fifth of a picture is blurred: what the heatmap names most, or, as a yardstick, random regions of
the same area and shape (the mean of {RANDOM}). Blurring what speaks for the verdict should cost it more than they do,
blurring what speaks against it less.</p>
{table}</details>"""


def _matches_html(shown: Shown, hit: ShownHit) -> str:
    """Which part of the query matches which part of the hit."""
    drawn = matches_of(shown, hit)
    if drawn is None:
        return ""
    figures = "".join(
        figure_html(image, f"{title}: what matches", f"The {title} with numbered regions that match those of the other")
        for image, title in zip(drawn, ("query", "hit"), strict=True)
    )
    return f"""
<div class="matches"><p class="note">Regions of one number and colour match: of all pairs of places they add most to the
similarity, beyond what each place gives with any other.</p>
<div class="pair">{figures}</div></div>"""


def facts_html(hit: ShownHit, more: str = "") -> str:
    """The similarity, as a bar and a number, and the verdict; then `more` (HTML)."""
    bar = f'<span class="bar" aria-hidden="true"><i style="width:{100 * hit.similarity:.1f}%"></i></span>'
    return f"""<p class="facts">{bar}
<b class="percent">{percent(hit.similarity)}</b><b class="verdict {hit.verdict}">{hit.verdict}</b>{more}</p>"""


def side_html(side: Side) -> str:
    """A picture as it is, then with its heatmaps, or why there are none."""
    plain = figure_html(side.picture, f"{side.title}, as it is", f"The {side.title} {side.name}")
    if side.heatmaps is None or side.picture is None:
        return f'<div class="side">{plain}<p class="missing">{escape(side.missing)}</p></div>'
    overlaid = "".join(
        figure_html(
            side.overlaid(kind),
            f'<i class="{kind}"></i>{escape(side.caption(kind))}: {side.evidence(kind)}',
            f"The {side.title} with its {kind} heatmap, {side.caption(kind)}: {side.evidence(kind)}",
        )
        for kind in KINDS
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
    return f"data:image/{format_.lower()};base64,{base64.b64encode(encoded(image, format_)).decode('ascii')}"
