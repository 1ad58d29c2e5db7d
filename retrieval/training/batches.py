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

from retrieval.datasets.pair_sampling import Codes, all_pairs, class_batches, random_batches
from retrieval.model.preprocessing import Pixels
from retrieval.training.presets import Preset

_WORKERS = 2

_Item = tuple[int, int, int]  # of a picture: the epoch, its number in it, and its place


@dataclass(frozen=True)
class PairBatch:
    """Places (B,) of pictures among those to train on; `first` and `second` (P,) pair them by their place in it."""

    indices: Codes
    first: Codes
    second: Codes


def epoch_batches(preset: Preset, codes: Codes, seed: int, epoch: int) -> list[PairBatch]:
    """The batches of an epoch, as the preset pairs pictures."""
    random = np.random.default_rng([seed, epoch])
    if preset.pairing == "random":
        return [PairBatch(*each) for each in random_batches(codes, preset.batch, random)]
    return [PairBatch(each, *all_pairs(len(each))) for each in class_batches(codes, preset.chunk, preset.batch, random)]


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


class Loader:
    """Loads pictures, augmented by the same worker processes from the first epoch to the last.

    `rows` are the rows of pixels of the places.
    """

    def __init__(self, pixels: Pixels, rows: Codes, preset: Preset, seed: int) -> None:
        augment = augmentation(preset.size or pixels.shape[1]) if preset.augment else None
        self._pictures = _PictureDataset(pixels, rows, augment, seed)
        self._items: list[list[_Item]] = []  # of the epoch, by batch
        self._loader: DataLoader[Tensor] | None = None

    def load(self, batches: Sequence[PairBatch], epoch: int) -> Iterator[tuple[PairBatch, Tensor]]:
        """Each batch of an epoch with its pictures, uint8 (B, 3, size, size)."""
        starts = np.cumsum([0, *(len(batch.indices) for batch in batches)])
        self._items[:] = [
            [(epoch, number, int(place)) for number, place in enumerate(batch.indices, start)]
            for batch, start in zip(batches, starts, strict=False)
        ]
        if self._loader is None:
            workers = _WORKERS if len(batches) > 1 else 0
            self._loader = DataLoader(
                self._pictures,
                batch_sampler=self._items,
                num_workers=workers,
                persistent_workers=workers > 0,  # a start costs seconds: the process's memory is copied as it is used
                generator=torch.Generator(),  # so that the process draws on as if nothing had been loaded
            )
        return zip(batches, self._loader, strict=True)

    def close(self) -> None:
        """Stop the worker processes; the next epoch would start others."""
        self._loader = None


class _PictureDataset(Dataset[Tensor]):
    """Pictures by epoch, number in it and place: what is drawn for one depends on nothing else."""

    def __init__(self, pixels: Pixels, rows: Codes, augment: v2.Transform | None, seed: int) -> None:
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

    def __getitem__(self, item: _Item) -> Tensor:
        epoch, number, place = item
        picture = Image.fromarray(self.pixels[self.rows[place]])
        if self.augment is not None:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(int(np.random.SeedSequence([self.seed, epoch, number]).generate_state(1)[0]))
                picture = self.augment(picture)
        return torch.from_numpy(np.array(picture)).permute(2, 0, 1)
