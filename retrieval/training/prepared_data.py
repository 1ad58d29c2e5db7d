"""The data of a training: split, decoded, and checked."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from retrieval.common.atomic_files import write_atomically
from retrieval.common.errors import GalleryError, SettingError
from retrieval.common.progress import Progress
from retrieval.datasets.class_folders import DataSet, find_samples, read_pixels
from retrieval.datasets.near_duplicates import near_duplicates
from retrieval.datasets.pair_sampling import can_make_pairs
from retrieval.datasets.split import PART_NAMES, TEST, TRAIN, VALIDATION, Parts, Split, assign_parts, read_split
from retrieval.model.preprocessing import Pixels
from retrieval.training.presets import Preset
from retrieval.training.trainer import Subset

_PIXELS, _PLAN, _CHECKPOINT = "pixels.npy", "plan.json", "checkpoint.safetensors"


@dataclass(frozen=True)
class Recipe:
    """What is trained on what. `weights` is a file of the backbone's weights."""

    dataset: Path
    preset: Preset
    seed: int = 0
    weights: Path | None = None

    def as_json(self) -> dict[str, Any]:
        """Plain values, to keep with a training and to compare with."""
        weights = str(self.weights.resolve()) if self.weights else None
        preset = json.loads(json.dumps(asdict(self.preset)))
        return {"dataset": str(self.dataset.resolve()), "preset": preset, "seed": self.seed, "weights": weights}


@dataclass(frozen=True)
class PreparedData:
    """A data set to train on: its pixels uint8 (N, size, size, 3) and the part of each sample, (N,).

    Where it is too small for a validation part, epochs are judged by the training part. `given` is the split that the
    data set came with, which the parts follow.
    """

    dataset: DataSet
    pixels: Pixels
    parts: Parts
    given_split: Split | None

    def subset(self, *parts: int) -> Subset:
        """The pictures of these parts."""
        rows = np.flatnonzero(np.isin(self.parts, parts))
        return Subset(rows, self.dataset.codes[rows])

    @property
    def can_validate(self) -> bool:
        """Whether the validation part makes pairs of both kinds."""
        return can_make_pairs(self.subset(VALIDATION).codes)

    @property
    def can_measure(self) -> bool:
        """Whether the test part makes pairs of both kinds."""
        return can_make_pairs(self.subset(TEST).codes)

    @property
    def tested_classes(self) -> set[str]:
        """The labels that the test part has."""
        return {self.dataset.samples[row].label for row in self.subset(TEST).rows}

    @property
    def counts(self) -> dict[str, int]:
        """How many pictures each part has, by its name."""
        return {name: int(np.sum(self.parts == number)) for number, name in enumerate(PART_NAMES)}


def prepare_data(recipe: Recipe, work: Path, size: int, progress: Progress) -> PreparedData:
    """Decode and split the data set; of an unfinished training, what it had."""
    dataset = find_samples(recipe.dataset, progress)
    if (work / _PLAN).exists():
        return _resume_data(recipe, dataset, work)
    work.mkdir(parents=True, exist_ok=True)
    dataset, pixels = read_pixels(dataset, size, work / _PIXELS, progress)
    given = read_split(recipe.dataset)
    parts = given.parts_of(dataset) if given else assign_parts(dataset, near_duplicates(pixels), recipe.seed)
    data = PreparedData(dataset, pixels, parts, given)
    if not data.can_validate:
        parts[parts == VALIDATION] = TRAIN
    _check_classes(data)
    plan = {
        "recipe": recipe.as_json(),
        "samples": [[sample.hash, sample.label] for sample in dataset.samples],
        "parts": data.parts.tolist(),
        "left_out": [[str(path), reason] for path, reason in dataset.left_out],
    }
    write_atomically(work / _PLAN, json.dumps(plan))
    return data


def _resume_data(recipe: Recipe, dataset: DataSet, work: Path) -> PreparedData:
    try:
        plan = json.loads((work / _PLAN).read_text("utf-8"))
        pixels = np.load(work / _PIXELS, mmap_mode="r")[: len(plan["samples"])]
    except (OSError, ValueError, KeyError) as error:
        raise SettingError(f"{work} is damaged ({error}): remove it, and train anew") from error
    if plan["recipe"] != recipe.as_json():
        raise SettingError(f"{work.parent} was begun with other options: resume with those, or give another folder")
    known = {(sample.hash, sample.label): sample for sample in dataset.samples}
    wanted = [(content, label) for content, label in plan["samples"]]
    if lacking := [each for each in wanted if each not in known]:
        raise GalleryError(
            f"{recipe.dataset} lacks {len(lacking)} pictures that the training began with: bring them back, or give"
            " --out another folder"
        )
    samples = tuple(known[each] for each in wanted)
    left_out = tuple((Path(path), reason) for path, reason in plan["left_out"])
    parts = np.array(plan["parts"], np.int8)
    return PreparedData(DataSet(recipe.dataset, samples, left_out), pixels, parts, read_split(recipe.dataset))


def _check_classes(data: PreparedData) -> None:
    codes = data.subset(TRAIN).codes
    if not can_make_pairs(codes):
        sizes = np.bincount(codes)
        raise GalleryError(
            f"{data.dataset.folder} has {np.sum(sizes > 0)} classes to train on and at most {sizes.max(initial=0)}"
            " pictures in one: give at least two class folders, one of them with two pictures"
        )
