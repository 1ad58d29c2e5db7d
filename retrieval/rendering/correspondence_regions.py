"""Correspondences of two pictures, drawn as coloured, numbered regions on both."""

from PIL import Image, ImageDraw, ImageFont
from PIL.ImageColor import getrgb

from retrieval.explain.correspondence import Correspondence, GridCell
from retrieval.model.preprocessing import input_box

# People who see no red, no green or no blue can tell these apart too (Okabe and Ito).
_MATCH_COLOURS = ("#e69f00", "#56b4e9", "#cc79a7", "#f0e442", "#009e73")

Rectangle = tuple[float, float, float, float]

_GAP = 16  # pixels between pictures
_FILL = 64  # opacity, of 255: the picture stays visible below a region
_LINE = 3
_SUPERSAMPLING = 2  # Pillow draws hard edges: draw larger, then reduce
_DISC = 11  # radius of the disc behind a number


def draw_matches(image: Image.Image, correspondence: Correspondence, second: bool) -> Image.Image:
    """Draw the regions whose matches hold on the first picture of a pair, or on the `second`; returns RGB."""
    shape = correspondence.other_shape if second else correspondence.shape
    size = image.width * _SUPERSAMPLING, image.height * _SUPERSAMPLING
    drawn = image.convert("RGB").resize(size).convert("RGBA")
    regions = [match.second if second else match.first for match in correspondence.matches if match.holds]
    for number, (cells, colour) in reversed(list(enumerate(zip(regions, _MATCH_COLOURS, strict=False), 1))):
        layer = Image.new("RGBA", size)
        boxes = {cell: _box(cell, shape, image.size) for cell in sorted(cells)}
        _draw_region(ImageDraw.Draw(layer), boxes, colour)
        drawn = Image.alpha_composite(drawn, layer)
        _draw_number(ImageDraw.Draw(drawn), number, _label_position(boxes), colour)
    return drawn.convert("RGB").resize(image.size, Image.Resampling.LANCZOS)


def side_by_side(first: Image.Image, second: Image.Image) -> Image.Image:
    """Return two pictures on one sheet."""
    height = max(first.height, second.height)
    sheet = Image.new("RGB", (first.width + second.width + 3 * _GAP, height + 2 * _GAP), "#fbfbfa")
    sheet.paste(first, (_GAP, _GAP))
    sheet.paste(second, (first.width + 2 * _GAP, _GAP))
    return sheet


def _box(cell: GridCell, shape: tuple[int, int], size: tuple[int, int]) -> Rectangle:
    """Return a cell's left, top, right and bottom on the enlarged picture."""
    left, top, right, bottom = (_SUPERSAMPLING * edge for edge in input_box(*size))
    width, height = (right - left) / shape[1], (bottom - top) / shape[0]
    x, y = left + cell[1] * width, top + cell[0] * height
    return x, y, x + width, y + height


def _draw_region(draw: ImageDraw.ImageDraw, boxes: dict[GridCell, Rectangle], colour: str) -> None:
    """Fill cells lightly, with a line only at the edge of the region."""
    for (row, column), (left, top, right, bottom) in boxes.items():
        draw.rectangle((left, top, right - 1, bottom - 1), fill=(*getrgb(colour), _FILL))
        sides = {
            (row - 1, column): (left, top, right, top),
            (row + 1, column): (left, bottom - 1, right, bottom - 1),
            (row, column - 1): (left, top, left, bottom),
            (row, column + 1): (right - 1, top, right - 1, bottom),
        }
        for neighbour, line in sides.items():
            if neighbour not in boxes:
                draw.line(line, colour, _LINE * _SUPERSAMPLING)


def _label_position(boxes: dict[GridCell, Rectangle]) -> tuple[float, float]:
    """Return the middle of the cell nearest to the region's centre, so that the number lies within the region."""
    row, column = (sum(axis) / len(boxes) for axis in zip(*boxes, strict=True))
    nearest = min(boxes, key=lambda cell: (cell[0] - row) ** 2 + (cell[1] - column) ** 2)
    left, top, right, bottom = boxes[nearest]
    return (left + right) / 2, (top + bottom) / 2


def _draw_number(draw: ImageDraw.ImageDraw, number: int, at: tuple[float, float], colour: str) -> None:
    radius = _DISC * _SUPERSAMPLING
    box = (at[0] - radius, at[1] - radius, at[0] + radius, at[1] + radius)
    draw.ellipse(box, fill=colour, outline="#1b1d21", width=_SUPERSAMPLING)
    draw.text(at, str(number), "#1b1d21", ImageFont.load_default(14 * _SUPERSAMPLING), anchor="mm")
