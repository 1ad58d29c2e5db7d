"""Generated pictures that have, as photographs do, details of every size; and copies of them."""

import numpy as np
from PIL import Image


def photograph(seed: int, width: int = 240, height: int = 180) -> Image.Image:
    """Coloured noise of several sizes, one over the other."""
    random = np.random.default_rng(seed)
    layers = [
        np.asarray(
            Image.fromarray(random.integers(0, 256, (cells * 3, cells * 4, 3), np.uint8)).resize(
                (width, height), Image.Resampling.BICUBIC
            ),
            np.float32,
        )
        for cells in (1, 3, 9)
    ]
    mixed = sum(weight * layer for weight, layer in zip((0.5, 0.3, 0.2), layers, strict=True))
    return Image.fromarray(np.clip(mixed, 0, 255).astype(np.uint8))


def cropped(image: Image.Image, left: float, top: float, right: float, bottom: float) -> Image.Image:
    """Less these shares of its sides."""
    width, height = image.size
    return image.crop(
        (round(left * width), round(top * height), round(width - right * width), round(height * (1 - bottom)))
    )


def halved(image: Image.Image) -> Image.Image:
    """At half its size."""
    return image.resize((image.width // 2, image.height // 2), Image.Resampling.LANCZOS)
