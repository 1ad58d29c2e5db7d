"""Batches of pictures to train on, augmented on worker processes; every draw is decided by seed, epoch and place."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2

from retrieval.pairs import Codes, all_pairs, class_batches, random_batches
from retrieval.pictures import Pixels
from retrieval.presets import Preset

_WORKERS = 2


@dataclass(frozen=True)
class Batch:
    """Places (B,) of pictures among those to train on; `first` and `second` (P,) pair them by their place in it."""

    places: Codes
    first: Codes
    second: Codes


def epoch_batches(preset: Preset, codes: Codes, seed: int, epoch: int) -> list[Batch]:
    """The batches of an epoch, as the preset pairs pictures."""
    random = np.random.default_rng([seed, epoch])
    if preset.pairing == "random":
        return [Batch(*each) for each in random_batches(codes, preset.batch, random)]
    return [Batch(each, *all_pairs(len(each))) for each in class_batches(codes, preset.chunk, preset.batch, random)]


def augmentation(size: int) -> v2.Transform:
    """Crop and zoom, mirror, turn, change of brightness, contrast and saturation: what section 4.2 recommends."""
    return v2.Compose(
        [
            v2.RandomResizedCrop(size, scale=(0.35, 1.0), ratio=(0.8, 1.25)),
            v2.RandomHorizontalFlip(),
            v2.RandomRotation(20, v2.InterpolationMode.BILINEAR),
            v2.ColorJitter(0.3, 0.3, 0.3),
        ]
    )


def load_batches(
    pixels: Pixels, rows: Codes, batches: Sequence[Batch], preset: Preset, seed: int, epoch: int
) -> Iterator[tuple[Batch, Tensor]]:
    """Each batch with its pictures, uint8 (B, 3, size, size). `rows` are the rows of pixels of the places."""
    augment = augmentation(preset.size or pixels.shape[1]) if preset.augment else None
    pictures = _Pictures(pixels, rows, augment, (seed, epoch))
    starts = np.cumsum([0, *(len(batch.places) for batch in batches)])
    numbered = [list(enumerate(batch.places, start)) for batch, start in zip(batches, starts, strict=False)]
    loader = DataLoader(pictures, batch_sampler=numbered, num_workers=_WORKERS if len(batches) > 1 else 0)
    return zip(batches, loader, strict=True)


class _Pictures(Dataset[Tensor]):
    """Picture number n of an epoch, at a place: what is drawn for it depends on nothing else."""

    def __init__(self, pixels: Pixels, rows: Codes, augment: v2.Transform | None, seed: tuple[int, int]) -> None:
        self.pixels = pixels
        self.rows = rows
        self.augment = augment
        self.seed = seed

    def __getstate__(self) -> dict[str, object]:
        """For a worker that shares no memory: the file that the pixels are mapped from, not what it holds."""
        state = dict(self.__dict__)
        if isinstance(self.pixels, np.memmap) and self.pixels.filename:
            state["pixels"] = self.pixels.filename
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        if not isinstance(self.pixels, np.ndarray):
            self.pixels = np.load(self.pixels, mmap_mode="r")

    def __getitem__(self, item: tuple[int, int]) -> Tensor:
        number, place = item
        picture = Image.fromarray(self.pixels[self.rows[place]])
        if self.augment is not None:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(int(np.random.SeedSequence([*self.seed, number]).generate_state(1)[0]))
                picture = self.augment(picture)
        return torch.from_numpy(np.array(picture)).permute(2, 0, 1)
