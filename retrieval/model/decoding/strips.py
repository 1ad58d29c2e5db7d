"""Conversion of large pictures strip by strip, so that no second copy of their full size is made."""

from collections.abc import Callable, Iterator

from PIL import Image

LARGE = 2**24
"""Pixels of a picture that is converted in strips, and reduced on the way."""

_STRIP = 2**22  # pixels
_FINER = 4  # times the size that is needed, which a reduced picture has at least


def strips_of(image: Image.Image) -> Iterator[Image.Image]:
    """Yield a loaded picture from top to bottom, in strips that take little memory."""
    rows = max(1, _STRIP // image.width)
    for top in range(0, image.height, rows):
        bottom = min(top + rows, image.height)
        yield image if rows >= image.height else image.crop((0, top, image.width, bottom))


def convert_large(
    image: Image.Image, convert: Callable[[Image.Image], Image.Image], min_side: int | None
) -> Image.Image:
    """Convert a large picture to RGB; with `min_side`, reduce it so that both sides have at least four times as much.

    Pixels are reduced by their mean over squares.
    """
    width, height = image.size
    factor = max(1, min(width, height) // (_FINER * min_side)) if min_side else 1
    if image.mode == "RGB" and "transparency" not in image.info:
        return image.reduce(factor) if factor > 1 else image
    rows = max(1, _STRIP // (width * factor)) * factor
    converted = Image.new("RGB", (-(-width // factor), -(-height // factor)))
    for top in range(0, height, rows):
        strip = convert(image.crop((0, top, width, min(top + rows, height))))
        converted.paste(strip.reduce(factor) if factor > 1 else strip, (0, top // factor))
    return converted
