"""Generated pictures, and class folders of them."""

from pathlib import Path

import numpy as np
from PIL import Image

from retrieval.model.preprocessing import Pixels

CLASSES = ("apples", "boats", "cats")
PICTURES_A_CLASS = 4


def blocks(seed: int, width: int = 96, height: int = 96, cells: int = 4) -> Pixels:
    """uint8 (height, width, 3): a seeded pattern of cells x cells coloured blocks."""
    colours = np.random.default_rng(seed).integers(0, 256, (cells, cells, 3), np.uint8)
    rows, columns = np.arange(height) * cells // height, np.arange(width) * cells // width
    pattern: Pixels = colours[rows][:, columns]
    return pattern


def picture(seed: int, tint: int = 0, side: int = 96) -> Pixels:
    """uint8 (side, side, 3): a smooth seeded pattern, with more of one colour for each tint from 0 to 5."""
    cells = np.random.default_rng(seed).integers(40, 160, (9, 8, 3)).astype(np.float64)
    cells[..., tint % 3] += 90 if tint < 3 else -40
    image = Image.fromarray(cells.clip(0, 255).astype(np.uint8))
    return np.asarray(image.resize((side, side), Image.Resampling.BICUBIC))


def make_set(folder: Path, classes: int = 4, each: int = 12, side: int = 64) -> Path:
    """Class folders `c0`, `c1` and so on of generated PNGs, distinguished by their colours."""
    for code in range(classes):
        (folder / f"c{code}").mkdir(parents=True)
        for number in range(each):
            Image.fromarray(picture(1000 * code + number, code, side)).save(folder / f"c{code}" / f"{number:02}.png")
    return folder
