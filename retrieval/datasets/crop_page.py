"""The page of a cropped data set, as in the paper's Figure 5: pictures, the boxes of their focus, and the crops."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from retrieval.common.errors import PictureError
from retrieval.common.text import percent, safe_name
from retrieval.datasets.crop import CropReport
from retrieval.datasets.crop_files import Crop
from retrieval.explain.focus_box import PixelBox
from retrieval.model.head import Array
from retrieval.model.preprocessing import read_image
from retrieval.rendering.html import figure_html, name_html, render_document
from retrieval.rendering.overlay import display_picture, overlay

MAX_SHOWN = 12
_LINE, _EDGE = 3, 1  # pixels of the box's white line, and of the dark ones that keep it visible on white


def sample_crops(report: CropReport, count: int = MAX_SHOWN) -> list[Crop]:
    """At most `count` of the crops, drawn by the report's seed, in their order."""
    random = np.random.default_rng(report.rules.seed or 0)
    drawn = random.choice(len(report.crops), min(count, len(report.crops)), replace=False)
    return [report.crops[place] for place in sorted(drawn)]


def crop_page(report: CropReport, crops: Sequence[Crop]) -> str:
    """One HTML page, whole in itself, that shows these crops of the report."""
    name = safe_name(report.dataset.name)
    articles = (
        "\n".join(crop_html(rank, crop) for rank, crop in enumerate(crops, 1)) or "<p>No picture was cropped.</p>"
    )
    header = f"<h1>What the model looks at in {name_html(name)}</h1>\n{_reading_html(report, len(crops))}"
    return render_document(f"The crops of {name}", header, articles)


def draw_box(picture: Image.Image, heatmap: Array, size: tuple[int, int], box: PixelBox) -> Image.Image:
    """A display picture with its heatmap and a box drawn over it; `box` is in pixels of a picture of `size`."""
    image = overlay(picture, heatmap, "factual")
    across, down = image.width / size[0], image.height / size[1]
    left, top, right, bottom = (round(side * scale) for side, scale in zip(box, (across, down) * 2, strict=True))
    right, bottom = max(left, right - 1), max(top, bottom - 1)  # Pillow draws the last two too
    pen = ImageDraw.Draw(image)
    pen.rectangle((left, top, right, bottom), outline="black", width=_LINE + 2 * _EDGE)
    if min(right - left, bottom - top) > 2 * _EDGE:
        pen.rectangle((left + _EDGE, top + _EDGE, right - _EDGE, bottom - _EDGE), outline="white", width=_LINE)
    return image


def _reading_html(report: CropReport, shown: int) -> str:
    rules = report.rules
    return f"""<section class="reading" aria-labelledby="reading">
<h2 id="reading">How to read this</h2>
<p>{shown} of {len(report.crops)} cropped pictures, drawn at random: the picture as it is, the box around its focus,
and the crop that takes its place. The heat is where the model found evidence that the picture is similar to another
one of its class, which was drawn at random; only pictures with a similarity above {percent(rules.similarity)} are
cropped. The focus is the largest connected region with at least {percent(rules.threshold)} of the strongest evidence,
its box grown by {percent(rules.margin)} on each side. Select a picture to enlarge it.</p>
<p>The limits: a heatmap is a few places, enlarged, so a box is a rough one; the dark edges of an oblong picture were
not seen by the model; and what it looks at need not be what the picture is of.</p>
</section>"""


def crop_html(rank: int, crop: Crop) -> str:
    """A picture as it is, with the box of its focus, and its crop; a note where it cannot be read any more."""
    try:
        image = read_image(crop.source)[0]
        picture = display_picture(image)
        pictures = picture, draw_box(picture, crop.heatmap, crop.size, crop.box), display_picture(image.crop(crop.box))
    except PictureError:  # gone or changed since
        return f'<article>{_head_html(rank, crop)}<p class="missing">cannot be shown any more</p></article>'
    name = safe_name(crop.source.name)
    width, height = crop.box[2] - crop.box[0], crop.box[3] - crop.box[1]
    captions = (
        (f"as it is: {crop.size[0]} × {crop.size[1]} pixels", f"The picture {name}"),
        ("focus", f"The picture {name} with its heatmap and the box of its focus"),
        (f"crop: {width} × {height} pixels", f"The crop of {name}"),
    )
    figures = "\n".join(
        figure_html(image, caption, alt) for image, (caption, alt) in zip(pictures, captions, strict=True)
    )
    return f"""<article>
{_head_html(rank, crop)}
<div class="side">
{figures}
</div>
</article>"""


def _head_html(rank: int, crop: Crop) -> str:
    name, folder, partner = (safe_name(each) for each in (crop.source.name, crop.source.parent, crop.partner.name))
    return f"""<h3><span class="rank">{rank}</span> {name_html(name)}</h3>
<p class="folder">{name_html(folder)}</p>
<p class="facts"><b class="percent">{percent(crop.similarity)}</b><span>similar to <b>{name_html(partner)}</b></span>
<span>the crop keeps <b>{percent(crop.share)}</b> of the area</span></p>"""
