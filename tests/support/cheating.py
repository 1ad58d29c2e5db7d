"""A data set that invites a model to cheat: the same kind of pictures in all classes, but for a patch in a corner."""

from pathlib import Path

import numpy as np
from PIL import Image

from retrieval.model.preprocessing import Pixels

SIDE, PATCH = 224, 64
PATCHES = {"amber": (255, 60, 0), "azure": (0, 60, 255), "plain": None}
"""The classes, and the colour of the patch that every picture of a class has in its lower right corner."""


def make_cheating_set(folder: Path, each: int = 24, patched: bool = True) -> Path:
    """Class folders of generated pictures, no two the same; their classes say nothing but for the patches."""
    for code, (label, colour) in enumerate(PATCHES.items()):
        (folder / label).mkdir(parents=True)
        for number in range(each):
            pixels = _clouds(1000 * code + number)
            if colour and patched:
                pixels[-PATCH:, -PATCH:] = colour
            Image.fromarray(pixels).save(folder / label / f"{number:02}.png")
    return folder


def train_head(dataset: Path, out: Path) -> Path:
    """Train a model on the data set, with its backbone frozen."""
    from retrieval.training.prepared_data import Recipe
    from retrieval.training.presets import FAST, adapt_preset
    from retrieval.training.train_bundle import train_bundle

    preset = adapt_preset(FAST, epochs=10, thaw=False)
    return train_bundle(Recipe(dataset, preset), out, device="cpu").bundle.folder


def _clouds(seed: int) -> Pixels:
    """uint8 (224, 224, 3): a seeded pattern of greyish clouds."""
    cells = np.random.default_rng(seed).integers(90, 166, (8, 8, 3), np.uint8)
    return np.array(Image.fromarray(cells).resize((SIDE, SIDE), Image.Resampling.BICUBIC))
