"""Batches of pictures to train on, augmented in worker processes; seed, epoch and position determine every draw."""

import itertools
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

_Item = tuple[int, int, int]  # a picture of an epoch: the epoch, its number in it, and the picture's index


@dataclass(frozen=True)
class PairBatch:
    """Indices (B,) of training pictures; `first` and `second` (P,) pair them by their positions in the batch."""

    indices: Codes
    first: Codes
    second: Codes


def epoch_batches(preset: Preset, codes: Codes, seed: int, epoch: int) -> list[PairBatch]:
    """Draw the batches of an epoch, paired as the preset says."""
    random = np.random.default_rng([seed, epoch])
    if preset.pairing == "random":
        return [PairBatch(*batch) for batch in random_batches(codes, preset.batch, random)]
    batches = class_batches(codes, preset.chunk, preset.batch, random)
    return [PairBatch(indices, *all_pairs(len(indices))) for indices in batches]


def augmentation(size: int) -> v2.Transform:
    """Crop and zoom, mirror, rotate, and vary brightness, contrast and saturation, as section 4.2 recommends."""
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

    `rows` are the rows of the pixels that hold the training pictures.
    """

    def __init__(self, pixels: Pixels, rows: Codes, preset: Preset, seed: int) -> None:
        augment = augmentation(preset.size or pixels.shape[1]) if preset.augment else None
        self._pictures = _PictureDataset(pixels, rows, augment, seed)
        self._items: list[list[_Item]] = []  # of the epoch, by batch
        self._loader: DataLoader[Tensor] | None = None

    def load(self, batches: Sequence[PairBatch], epoch: int) -> Iterator[tuple[PairBatch, Tensor]]:
        """Yield each batch of an epoch with its pictures, uint8 (B, 3, size, size)."""
        numbers = itertools.count()
        self._items[:] = [[(epoch, next(numbers), int(index)) for index in batch.indices] for batch in batches]
        if self._loader is None:
            workers = _WORKERS if len(batches) > 1 else 0
            self._loader = DataLoader(
                self._pictures,
                batch_sampler=self._items,
                num_workers=workers,
                persistent_workers=workers > 0,  # a start costs seconds, as the process's memory is copied when used
                generator=torch.Generator(),  # leaves the process's own random numbers alone
            )
        return zip(batches, self._loader, strict=True)

    def close(self) -> None:
        """Stop the worker processes; a later epoch would start new ones."""
        self._loader = None


class _PictureDataset(Dataset[Tensor]):
    """Pictures by epoch, number in it and index: the augmentation of one depends on nothing else."""

    def __init__(self, pixels: Pixels, rows: Codes, augment: v2.Transform | None, seed: int) -> None:
        self.pixels = pixels
        self.rows = rows
        self.augment = augment
        self.seed = seed

    def __getstate__(self) -> dict[str, object]:
        """Pickle mapped pixels as the name of their file, for a worker that shares no memory."""
        return vars(self) | {"pixels": getattr(self.pixels, "filename", None) or self.pixels}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        if not isinstance(self.pixels, np.ndarray):
            self.pixels = np.load(self.pixels, mmap_mode="r")

    def __getitem__(self, item: _Item) -> Tensor:
        epoch, number, index = item
        picture = Image.fromarray(self.pixels[self.rows[index]])
        if self.augment is not None:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(int(np.random.SeedSequence([self.seed, epoch, number]).generate_state(1)[0]))
                picture = self.augment(picture)
        return torch.from_numpy(np.array(picture)).permute(2, 0, 1)
