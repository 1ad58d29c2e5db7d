"""Pixels of any mode in RGB: many bits, transparency, palettes, LAB."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms

from retrieval.common.errors import PictureError
from retrieval.model.decoding.strips import LARGE, convert_large, strips_of

_FULL_SCALES = (255, 1023, 4095, 16383, 65535)  # 8, 10, 12, 14 and 16 bits
_STRIP = 1 << 20  # samples converted at once, so that their float64 copies stay small beside the picture


def to_rgb(image: Image.Image, min_side: int | None = None) -> Image.Image:
    """Return a picture of any mode in RGB, on white where it is transparent; a large one reduced if `min_side` allows.

    Raises PictureError.
    """
    is_deep = image.mode in ("I", "F") or image.mode.startswith("I;16")
    converting = _conversion_of(image) if is_deep else convert
    return convert_large(image, converting, min_side) if image.width * image.height > LARGE else converting(image)


def _conversion_of(image: Image.Image) -> Callable[[Image.Image], Image.Image]:
    """Return what converts the parts of a grey picture of more than 8 bits, all by one scale."""
    ranges = [bounds(np.asarray(strip)) for strip in strips_of(image)]
    dtype = np.asarray(image.crop((0, 0, 1, 1))).dtype
    scale = Scale.of(min(least for least, _ in ranges), max(most for _, most in ranges), dtype)
    return lambda part: convert(Image.fromarray(scale.apply(np.asarray(part)), "L"))


def convert(image: Image.Image) -> Image.Image:
    """Return a picture of no more than 8 bits in RGB. Raises PictureError."""
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        layers = (image.convert("LA") if image.mode == "La" else image).convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", layers.size, "white"), layers).convert("RGB")
    if image.mode == "LAB":
        lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
        converted = ImageCms.profileToProfile(image, lab, srgb, outputMode="RGB")
        if converted is None:
            raise PictureError("has a LAB colour space that cannot be converted")
        return converted
    return image if image.mode == "RGB" else image.convert("RGB")


class Scale(NamedTuple):
    """How values become 8 bits: what is black, and how far above it white is."""

    black: float
    white: float

    @classmethod
    def of(cls, least: float, most: float, dtype: np.dtype[Any]) -> Self:
        """Return the full scale of the fewest bits that hold these values, so that 12 bits in 16 are not black.

        Floats from 0 to 1 are fractions; other ranges (negative, beyond 16 bits) are stretched from least to most.
        """
        if least < 0 or most > _FULL_SCALES[-1]:
            return cls(least, (most - least) or 1.0)
        if most <= 1 and not np.issubdtype(dtype, np.integer):
            return cls(0.0, 1.0)
        scale = next(scale for scale in _FULL_SCALES if most <= scale)
        return cls(0.0, float(min(scale, np.iinfo(dtype).max) if np.issubdtype(dtype, np.integer) else scale))

    def apply(self, values: NDArray[np.generic]) -> NDArray[np.uint8]:
        """Return values in 8 bits."""
        samples = values.reshape(-1)
        converted = np.empty(len(samples), np.uint8)
        for strip in _strips(samples):
            converted[strip] = np.round((_finite(samples[strip]) - self.black) * (255 / self.white))
        return converted.reshape(values.shape)


def bounds(values: NDArray[np.generic]) -> tuple[float, float]:
    """Return the least and the greatest of values, infinite and undefined ones taken as zero."""
    samples = values.reshape(-1)
    parts = [(float(part.min()), float(part.max())) for part in (_finite(samples[each]) for each in _strips(samples))]
    return min(least for least, _ in parts), max(most for _, most in parts)


def to_eight_bits(values: NDArray[np.generic]) -> NDArray[np.uint8]:
    """Return values of more than 8 bits in 8, all by the one scale that fits them."""
    return Scale.of(*bounds(values), values.dtype).apply(values)


def _strips(samples: NDArray[np.generic]) -> Iterator[slice]:
    return (slice(start, start + _STRIP) for start in range(0, len(samples), _STRIP))


def _finite(values: NDArray[np.generic]) -> NDArray[np.float64]:
    return np.nan_to_num(values.astype(np.float64), posinf=0.0, neginf=0.0)
