"""Generated pictures."""

from typing import TYPE_CHECKING

import numpy as np

from retrieval.model.preprocessing import Pixels

if TYPE_CHECKING:
    pass

CLASSES = ("apples", "boats", "cats")
PICTURES_A_CLASS = 4


def blocks(seed: int, width: int = 96, height: int = 96, cells: int = 4) -> Pixels:
    """uint8 (height, width, 3): a seeded pattern of cells x cells coloured blocks."""
    colours = np.random.default_rng(seed).integers(0, 256, (cells, cells, 3), np.uint8)
    rows, columns = np.arange(height) * cells // height, np.arange(width) * cells // width
    pattern: Pixels = colours[rows][:, columns]
    return pattern
