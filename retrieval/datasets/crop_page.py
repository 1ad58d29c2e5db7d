"""The page of a cropped data set, as in the paper's Figure 5: pictures, the boxes of their focus, and the crops."""

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from retrieval.common.errors import PictureError
from retrieval.datasets.crop import CropReport
from retrieval.datasets.crop_files import Crop
from retrieval.explain.focus_box import PixelBox
from retrieval.model.head import Array
from retrieval.model.preprocessing import read_image
from retrieval.rendering.html import render
from retrieval.rendering.overlay import display_picture, overlay

MAX_SHOWN = 12
_LINE, _EDGE = 3, 1  # pixels of the box's white line, and of the dark ones that keep it visible on white


def sample_crops(report: CropReport, count: int = MAX_SHOWN) -> list[Crop]:
    """Draw at most `count` of the crops by the report's seed, in their order."""
    random = np.random.default_rng(report.rules.seed or 0)
    drawn = random.choice(len(report.crops), min(count, len(report.crops)), replace=False)
    return [report.crops[row] for row in sorted(drawn)]


def crop_page(report: CropReport, crops: Sequence[Crop]) -> str:
    """Return one HTML page, whole in itself, that shows these crops of the report."""
    return render("crops.html", report=report, crops=crops, draw_crop=draw_crop)


def draw_crop(crop: Crop) -> tuple[Image.Image, Image.Image, Image.Image] | None:
    """Return a picture as it is, with the box of its focus, and its crop; None if it cannot be read any more."""
    try:
        image = read_image(crop.source)[0]
        picture = display_picture(image)
        return picture, draw_box(picture, crop.heatmap, crop.size, crop.box), display_picture(image.crop(crop.box))
    except PictureError:  # gone or changed since
        return None


def draw_box(picture: Image.Image, heatmap: Array, size: tuple[int, int], box: PixelBox) -> Image.Image:
    """Draw a heatmap and a box over a display picture; `box` is in pixels of a picture of `size`."""
    image = overlay(picture, heatmap, "factual")
    across, down = image.width / size[0], image.height / size[1]
    left, top, right, bottom = (round(side * scale) for side, scale in zip(box, (across, down) * 2, strict=True))
    right, bottom = max(left, right - 1), max(top, bottom - 1)  # Pillow draws the last two too
    pen = ImageDraw.Draw(image)
    pen.rectangle((left, top, right, bottom), outline="black", width=_LINE + 2 * _EDGE)
    if min(right - left, bottom - top) > 2 * _EDGE:
        pen.rectangle((left + _EDGE, top + _EDGE, right - _EDGE, bottom - _EDGE), outline="white", width=_LINE)
    return image
