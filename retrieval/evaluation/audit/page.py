"""The page of an audit: recommendations with their pictures, where the model looks, and what it confuses."""

from __future__ import annotations

import re
from collections.abc import Iterable
from html import escape

from PIL import Image

from retrieval.common.errors import PictureError
from retrieval.common.text import percent, safe_name
from retrieval.evaluation.audit.attention import AttentionShares, Corner
from retrieval.evaluation.audit.findings import Advice, Audit, ConfusedClasses, Evidence, Example, PartFindings
from retrieval.evaluation.audit.wording import count_noun
from retrieval.rendering.html import figure_html, heads_html, legend_html, name_html, render_document, table_html
from retrieval.rendering.overlay import HeatmapKind, display_picture, overlay
from retrieval.rendering.presentation import HEATMAP_KINDS

_TILE = 240  # pixels of a picture's long side
_TILES = 8  # pictures of a recommendation; all are listed
_EDGE = "—"


def audit_page(audit: Audit) -> str:
    """One HTML page, whole in itself."""
    model, dataset = (safe_name(each) for each in (audit.model, audit.dataset.name))
    main = audit.findings.main
    sections = (
        _section_html("What to do", "".join(_advice_html(rank, each) for rank, each in enumerate(audit.advice, 1))),
        _section_html("How it does", f'<div class="measures">{_parts_html(audit)}{_sizes_html(audit)}</div>'),
        _section_html(f"Where it looks, class by class ({main.name})", _attention_html(main)),
        _section_html("What it confuses, and on what evidence", _confused_html(main)),
    )
    header = f"<h1>What {name_html(model)} looks at in {name_html(dataset)}</h1>\n{_reading_html(audit)}"
    return render_document(f"An audit of {model} on {dataset}", header, "\n".join(sections))


def mean_overlay(evidence: Evidence, kind: HeatmapKind) -> Image.Image:
    """The mean heatmap of a class over the mean of its pictures: RGB, square."""
    ground = Image.fromarray(evidence.mean_picture).resize((_TILE, _TILE), Image.Resampling.BICUBIC)
    return overlay(ground, evidence.mean(kind), kind)


def _reading_html(audit: Audit) -> str:
    pairs = sum(part.explained_pairs for part in audit.findings.parts)
    return f"""<section class="reading" aria-labelledby="reading">
<h2 id="reading">How to read this</h2>
{legend_html()}
<p>{pairs:,} random pairs, about half of one class and half of two, were explained by the method
{escape(audit.options.method)} (seed {audit.options.seed}). <b>Evidence</b> is what supports the verdict, “similar” or
“different”. Where most of it lies in one place in all pictures of a class, the model may go by something that is not
what the pictures are of: a watermark, a frame, a background. The <b>focus</b> of a class is the places that hold two
thirds of what makes its pictures similar. A mean heatmap is scaled to its own strongest place. Select a picture to
enlarge it.</p>
<p>The limits: a heatmap is a few places, enlarged, and shows what this model’s verdicts rest on, not what is true of
the pictures. A recommendation is a reason to look, not a proof.</p>
</section>"""


def _section_html(title: str, body: str) -> str:
    return f'<section class="query">\n<h2>{escape(title)}</h2>\n{body}\n</section>'


# Recommendations


def _advice_html(rank: int, advice: Advice) -> str:
    tiles = _tiles_html(_example_html(each) for each in advice.examples[:_TILES])
    return f"""<article class="advice {advice.severity}">
<h3><span class="rank">{rank}</span> {escape(safe_name(advice.finding))}</h3>
<p class="facts"><b class="verdict severity">{advice.severity}</b><span>{_code_html(advice.remedy)}</span></p>
{tiles}{_listed_html(advice)}
</article>"""


def _code_html(text: str) -> str:
    """A sentence of ours, with its `commands` as such."""
    return re.sub("`([^`]+)`", r"<code>\1</code>", escape(text))


def _listed_html(advice: Advice) -> str:
    """The paths of all the examples, folded up."""
    if not advice.examples:
        return ""
    rows = "".join(
        f"<li>{name_html(safe_name(each.path))} <small>{name_html(safe_name(each.note))}</small></li>"
        for each in advice.examples
    )
    return f'<details><summary>The files ({len(advice.examples)})</summary><ul class="files">{rows}</ul></details>'


def _example_html(example: Example) -> str:
    name, note = safe_name(example.path.name), safe_name(example.note)
    caption = f"{name_html(name)}<br>{name_html(note)}"
    return figure_html(_picture(example), caption, f"The picture {name}, {note}")


def _picture(example: Example) -> Image.Image | None:
    try:
        picture = display_picture(example.path)
    except PictureError:  # gone or changed since
        return None
    if example.heatmap is not None:
        picture = overlay(picture, example.heatmap, "factual")
    picture.thumbnail((_TILE, _TILE))
    return picture


def _tiles_html(figures: Iterable[str]) -> str:
    joined = "\n".join(figures)
    return f'<div class="tiles">\n{joined}\n</div>' if joined else ""


# Figures


def _parts_html(audit: Audit) -> str:
    parts = audit.findings.parts

    def beside(share: float, area: float) -> str:
        return f"{percent(share)} <small>of {percent(area)} of the area</small>"

    rows = [
        ["Pictures", *(f"{part.pictures:,}" for part in parts)],
        ["Pairs explained", *(f"{part.explained_pairs:,}" for part in parts)],
        ["Accuracy of verdicts", *(f"{part.verdicts.accuracy:.4f}" for part in parts)],
        ["ROC AUC of distances", *(f"{part.verdicts.roc_auc:.4f}" for part in parts)],
        ["Evidence at the border", *(beside(each.attention.border, each.uniform.border) for each in _overall(parts))],
        [
            "Evidence outside the focus",
            *(beside(each.attention.outside, each.uniform.outside) for each in _overall(parts)),
        ],
        ["Half of the evidence lies in", *(percent(each.attention.spread) for each in _overall(parts))],
    ]
    learnt = "train: learnt from; test: not" if len(parts) > 1 else ""
    table = table_html(learnt, [heads_html(*(part.name for part in parts))], rows)
    return f"<article><h3>Verdicts and looks</h3>{table}</article>"


def _overall(parts: Iterable[PartFindings]) -> list[Evidence]:
    return [part.overall for part in parts]


def _sizes_html(audit: Audit) -> str:
    sizes, parts = sorted(audit.findings.sizes.items()), audit.findings.parts
    counts = [{each.label: each.pictures for each in part.classes} for part in parts]
    heads = ["pictures", *(part.name for part in parts if len(parts) > 1)]
    rows = [
        [name_html(safe_name(label)), f"{size:,}", *(f"{own.get(label, 0):,}" for own in counts if len(parts) > 1)]
        for label, size in sizes
    ]
    table = table_html("", [heads_html(*heads)], rows)
    left = len(audit.findings.left_out)
    note = f'<p class="note">Files that repeat others or cannot be used: {left:,}.</p>' if left else ""
    return f"<article><h3>Classes</h3>{table}{note}</article>"


def _attention_html(part: PartFindings) -> str:
    head = heads_html("pictures", "border", *(each.value for each in Corner), "outside focus", "half lies in")
    rows = [
        [name_html(safe_name(each.label)), f"{each.explained_pictures:,}", *_cells(each.attention, each.uniform)]
        for each in part.classes
    ]
    even = part.overall.uniform
    rows.append(["<b>share of the area</b>", _EDGE, *_cells(even, even)[:5], _EDGE, percent(even.spread)])
    table = table_html("Shares of the evidence; bold: twice the share of the area and more", [head], rows)
    cards = "\n".join(_class_html(each) for each in part.classes)
    return f'<article><div class="wide whole">{table}</div></article>\n<div class="cards">\n{cards}\n</div>'


def _cells(attention: AttentionShares, uniform: AttentionShares) -> list[str]:
    pairs = (
        (attention.border, uniform.border),
        *((share, uniform.corners[each]) for each, share in attention.corners.items()),
    )
    outside = f"{_highlight_share(attention.outside, uniform.outside)} <small>of {percent(uniform.outside)}</small>"
    return [*(_highlight_share(share, area) for share, area in pairs), outside, percent(attention.spread)]


def _highlight_share(share: float, area: float) -> str:
    return f"<b>{percent(share)}</b>" if share >= 2 * area else percent(share)


def _class_html(evidence: Evidence) -> str:
    name = safe_name(evidence.label)
    figures = "\n".join(
        figure_html(
            mean_overlay(evidence, kind),
            f'<i class="{kind}"></i>{_kind_caption(kind)}',
            f"The mean {kind} heatmap of {name} over the mean of its pictures",
        )
        for kind in HEATMAP_KINDS
    )
    return f"""<article><h3>{name_html(name)}</h3>
<p class="folder">{count_noun(len(evidence.normalised), "heatmap")} of
{count_noun(evidence.explained_pictures, "picture")}</p>
<div class="two">{figures}</div></article>"""


def _kind_caption(kind: HeatmapKind) -> str:
    return "for the verdicts" if kind == "factual" else "against them"


# Confusions


def _confused_html(part: PartFindings) -> str:
    shown = "\n".join(_pair_html(each) for each in part.confused_classes)
    return shown or '<p class="empty">No pair of two classes is said to be similar.</p>'


def _pair_html(confused: ConfusedClasses) -> str:
    first, second = (name_html(safe_name(each.label)) for each in confused.sides)
    means = (
        figure_html(
            mean_overlay(side, "factual"),
            f'<i class="factual"></i>{name_html(safe_name(side.label))}, mean of {confused.explained}',
            f"The mean evidence in {safe_name(side.label)} that makes it similar",
        )
        for side in confused.sides
    )
    examples = (_example_html(each) for pair in confused.examples for each in pair)
    return f"""<article>
<h3>{first} and {second}</h3>
<p class="facts"><b class="percent">{percent(confused.confusion.wrong)}</b>
<span>of {confused.confusion.pairs:,} pairs are said to be similar. The mean evidence for it in
{confused.explained} of them, and the pairs that are said to be most similar:</span></p>
{_tiles_html([*means, *examples])}
</article>"""
