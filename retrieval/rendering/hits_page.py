"""The page of a query: its hits with their heatmaps."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from retrieval.common.settings import THRESHOLD
from retrieval.common.text import percent
from retrieval.explain.verification import RANDOM_REGIONS
from retrieval.rendering.html import (
    facts_html,
    figure_html,
    heads_html,
    legend_html,
    limits_html,
    name_html,
    render_document,
    side_html,
    table_html,
)
from retrieval.rendering.presentation import NO_HITS, HitView, ResultView, draw_pair_matches, side_views
from retrieval.rendering.verification_text import VERIFICATION_HEADINGS, describe_support, verification_rows


def render_hits_page(results: Sequence[ResultView]) -> str:
    """One HTML page, whole in itself, of one or more queries. It asks no network and runs no script."""
    title = f"Most similar to {results[0].name}" if len(results) == 1 else f"The hits of {len(results)} queries"
    queries = "\n".join(_query_html(shown) for shown in results) or "<p>No queries.</p>"
    return render_document(title, f"<h1>The most similar pictures, and why</h1>\n{_reading_html(results)}", queries)


def _reading_html(results: Sequence[ResultView]) -> str:
    return f"""<section class="reading" aria-labelledby="reading">
<h2 id="reading">How to read this</h2>
{legend_html()}
<p>Each row shows the query and one hit: the picture as it is, then where the model found evidence <b>for</b> its
verdict (factual), then <b>against</b> it (counterfactual: what would have to weigh more for the verdict to turn).
“Similar” means a similarity above {percent(1 - THRESHOLD)}. All hits of a query share one scale, so faint evidence
looks faint. Select a picture to enlarge it.</p>
{limits_html(results)}
</section>"""


def _query_html(view: ResultView) -> str:
    hits = "\n".join(_hit_html(view, hit) for hit in view.hits) or f'<p class="empty">{NO_HITS}</p>'
    picture = figure_html(view.picture, "query, as it is", f"The query {view.name}") if not view.hits else ""
    doubt = f'<p class="doubt">{escape(view.doubt)}</p>\n' if view.doubt else ""
    return f"""<section class="query">
<h2>Query: {name_html(view.name)}</h2>
{doubt}{picture}{hits}
</section>"""


def _hit_html(view: ResultView, hit: HitView) -> str:
    label = f"<span>label <b>{name_html(hit.label)}</b></span>" if hit.label else ""
    index = f"<span>rank {hit.index_rank} in the index, before rescoring</span>" if hit.index_rank is not None else ""
    folder = f'<p class="folder">{name_html(hit.folder)}</p>' if hit.folder else ""
    pictures = "\n".join(side_html(side) for side in side_views(view, hit))
    return f"""<article>
<h3><span class="rank">{hit.rank}</span> {name_html(hit.name)}</h3>
{folder}{facts_html(hit, label + index)}
<div class="pair">
{pictures}
</div>{_verification_html(hit)}{_matches_html(view, hit)}
</article>"""


def _verification_html(hit: HitView) -> str:
    """What became of the similarity when the places that the heatmaps name were hidden."""
    verification = hit.explanation.verification if hit.explanation else None
    if verification is None:
        return ""
    table = table_html("", [heads_html(*VERIFICATION_HEADINGS[1:])], verification_rows(verification, ("query", "hit")))
    support = f'<b class="support {verification.support.name}">{escape(describe_support(verification))}</b>'
    return f"""
<details class="checked"><summary>{support}</summary>
<p class="note">A fifth of a picture is blurred: what the heatmap names most, or, as a yardstick, random regions of
the same area and shape (the mean of {RANDOM_REGIONS}). Blurring what speaks for the verdict should cost it more
than they do,
blurring what speaks against it less.</p>
{table}</details>"""


def _matches_html(view: ResultView, hit: HitView) -> str:
    """Which part of the query matches which part of the hit."""
    drawn = draw_pair_matches(view, hit)
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
