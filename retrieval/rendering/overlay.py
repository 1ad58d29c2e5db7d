"""Heatmaps drawn over pictures, in two perceptually uniform colour maps.

Both maps are lines through OKLab (Ottosson 2020, "A perceptual color space for image processing"): lightness rises
linearly with the evidence while the hue turns. Warm colours are evidence for the verdict, cool ones against it; the
two maps also differ for people who see no red, no green or no blue.
"""

import io
from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from retrieval.common.errors import PictureError
from retrieval.explain.illustrated import HeatmapKind
from retrieval.model.head import Array
from retrieval.model.preprocessing import Pixels, Source, input_box, read_image
from retrieval.sources.files import BinaryFile

_LONG_SIDE = 448  # the most pixels of a display picture's longer side
_MIN_LONG_SIDE, _MIN_SIDE = 224, 8  # tiny pictures are enlarged; a 30000 x 2 strip stays visible
_LEVELS = 256

# How heat changes the picture: chosen by eye on photographs of rooms, flowers and skin.
_SATURATION = 0.12  # of the picture's colour that remains
_DARKEST, _BRIGHTEST = 24, 190  # of 255: neither deep shadow nor white walls compete with the heat
_OPACITY, _OPACITY_EASE = 0.62, 0.75  # the strongest heat still lets the picture through

_TO_LMS = np.array(
    [[1, 0.3963377774, 0.2158037573], [1, -0.1055613458, -0.0638541728], [1, -0.0894841775, -1.2914855480]]
)
_LMS_TO_LINEAR = np.array(
    [
        [4.0767416621, -3.3077115913, 0.2309699292],
        [-1.2684380046, 2.6097574011, -0.3413193965],
        [-0.0041960863, -0.7034186147, 1.7076147010],
    ]
)
_UNSEEN = 0.5  # brightness of the edges that the network does not see, as a share of the rest's

# Paths through OKLCh: lightness from end to end, hue (degrees) and chroma through equally spaced points.
_RAMPS: dict[HeatmapKind, tuple[tuple[float, float], tuple[float, ...], tuple[float, ...]]] = {
    "factual": ((0.32, 0.92), (350, 385, 412, 440, 458), (0.13, 0.19, 0.19, 0.17, 0.13)),
    "counterfactual": ((0.32, 0.93), (272, 258, 232, 205, 190), (0.15, 0.15, 0.13, 0.12, 0.09)),
}


@cache
def colour_map(kind: HeatmapKind) -> Pixels:
    """Return the colours of no evidence (0) to the strongest (255): uint8 (256, 3), read-only.

    Where sRGB cannot show the ramp's chroma, the colour has the most that it can at that lightness and hue.
    """
    ends, hues, chromas = _RAMPS[kind]
    lightness, hue = np.linspace(*ends, _LEVELS), np.radians(_smooth(hues))

    def linear_srgb(chroma: NDArray[np.float64]) -> NDArray[np.float64]:
        lab = np.stack([lightness, chroma * np.cos(hue), chroma * np.sin(hue)], axis=-1)
        return np.asarray((lab @ _TO_LMS.T) ** 3 @ _LMS_TO_LINEAR.T)

    least, most = np.zeros(_LEVELS), _smooth(chromas)
    for _ in range(24):  # bisection
        middle = (least + most) / 2
        linear = linear_srgb(middle)
        inside = np.all((linear >= 0) & (linear <= 1), axis=-1)
        least, most = np.where(inside, middle, least), np.where(inside, most, middle)
    linear = np.clip(linear_srgb(least), 0, 1)  # of rounding only
    encoded = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    colours = np.round(255 * encoded).astype(np.uint8)
    colours.flags.writeable = False
    return colours


def overlay(image: Image.Image, heatmap: Array, kind: HeatmapKind, strength: float = 1.0) -> Image.Image:
    """Draw a heatmap, float32 (h, w) in [0, 1], over an RGB picture; return RGB of the picture's size.

    `strength`, 0 to 1, is the heatmap's magnitude over the largest of its query, so that faint evidence looks
    faint. Heat is colour and opacity: without heat the picture shows through, dimmed and nearly grey. The edges of an
    oblong picture, which the network does not see, are darker still.
    """
    box = input_box(*image.size)
    ground = _subdued(image)
    seen = ground.crop(box)
    heat = _upscale(np.clip(heatmap, 0, 1) * np.clip(strength, 0, 1), seen.size)
    whole = ground.point(lambda value: _UNSEEN * value)
    whole.paste(_blend_heat(seen, heat, kind), box)
    return whole


def _blend_heat(ground: Image.Image, heat: Image.Image, kind: HeatmapKind) -> Image.Image:
    colours = heat.copy()
    colours.putpalette(colour_map(kind).tobytes())
    opacity = heat.point(lambda level: 255 * _OPACITY * (level / 255) ** _OPACITY_EASE)
    return Image.composite(colours.convert("RGB"), ground, opacity)


def display_picture(source: Source | BinaryFile, long_side: int = _LONG_SIDE) -> Image.Image:
    """Return a picture for people: RGB, upright, in its proportions, its long side from 224 pixels to `long_side`.

    A side is at least 8 pixels, however thin the picture. Raises PictureError.
    """
    image = read_image(source, long_side)[0]
    size = fit_size(image.size, min(max(*image.size, _MIN_LONG_SIDE), long_side))
    return image.resize(size, Image.Resampling.LANCZOS, reducing_gap=3.0)


def fit_size(size: tuple[int, int], long_side: int) -> tuple[int, int]:
    """Return a size in the same proportions, its longer side so long; no side is shorter than 8 pixels."""
    scale = long_side / max(size)
    width, height = (max(_MIN_SIDE, round(side * scale)) for side in size)
    return width, height


def try_display(source: Source) -> Image.Image | None:
    """Return the display picture, or None if the file is gone or cannot be read any more."""
    try:
        return display_picture(source)
    except PictureError:
        return None


@cache
def legend_bar(kind: HeatmapKind, width: int, height: int, least: float = 0.0) -> Image.Image:
    """Draw evidence from `least` (0: none) to the strongest over mid grey, as an overlay does: RGB."""
    ramp = np.repeat(np.linspace(least, 1, width, dtype=np.float32)[None], height, axis=0)
    ground = _subdued(Image.new("RGB", (width, height), (150, 150, 150)))
    return _blend_heat(ground, _upscale(ramp, (width, height)), kind)


def encode_image(image: Image.Image, format_: str, quality: int = 85) -> bytes:
    """Return the bytes of a picture file in a format such as JPEG or PNG."""
    buffer = io.BytesIO()
    image.save(buffer, format_, quality=quality, subsampling=0, compress_level=4)
    return buffer.getvalue()


def _upscale(heat: Array, size: tuple[int, int]) -> Image.Image:
    """Return heat (h, w) in [0, 1] as a grey picture of `size`; each cell covers its share of the picture."""
    large = Image.fromarray(heat.astype(np.float32) * 255).resize(size, Image.Resampling.BICUBIC)
    return Image.fromarray(np.clip(np.round(np.asarray(large)), 0, 255).astype(np.uint8))


def _subdued(image: Image.Image) -> Image.Image:
    grey = image.convert("L").convert("RGB")
    return Image.blend(grey, image, _SATURATION).point(lambda value: _DARKEST + value * (_BRIGHTEST - _DARKEST) / 255)


def _smooth(targets: tuple[float, ...]) -> NDArray[np.float64]:
    """Return 256 values on straight lines between equally spaced points, rounded off at the corners."""
    straight = np.interp(np.linspace(0, 1, _LEVELS), np.linspace(0, 1, len(targets)), targets)
    padded = np.pad(straight, 24, mode="reflect", reflect_type="odd")
    window = np.hanning(51)[1:-1]
    return np.convolve(padded, window / window.sum(), mode="valid")
