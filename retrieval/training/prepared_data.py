"""Data sets prepared for training: split, decoded, and checked."""

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from retrieval.common.atomic_files import write_atomically
from retrieval.common.errors import GalleryError, SettingError
from retrieval.common.progress import Progress
from retrieval.datasets.class_folders import PART_NAMES, DataSet, find_samples, read_pixels
from retrieval.datasets.near_duplicates import near_duplicates
from retrieval.datasets.pair_sampling import can_make_pairs, require_pairs
from retrieval.datasets.split import TEST, TRAIN, VALIDATION, Parts, Split, assign_parts, find_split
from retrieval.model.preprocessing import Pixels
from retrieval.training.presets import Preset
from retrieval.training.trainer import Subset

PLAN = "plan.json"
_PIXELS = "pixels.npy"


@dataclass(frozen=True)
class Recipe:
    """The settings of a training. `weights` is a file of the backbone's weights."""

    dataset: Path
    preset: Preset
    seed: int = 0
    weights: Path | None = None

    def as_json(self) -> dict[str, Any]:
        """Return plain values, to store with a training and to compare with."""
        dataset, weights = str(self.dataset.resolve()), str(self.weights.resolve()) if self.weights else None
        return {"dataset": dataset, "preset": asdict(self.preset), "seed": self.seed, "weights": weights}


@dataclass(frozen=True)
class PreparedData:
    """A data set to train on: its pixels uint8 (N, size, size, 3) and the part of each sample, (N,).

    If it is too small for a validation part, epochs are judged by the training part. `given_split` is the data set's
    own split, which the parts follow.
    """

    dataset: DataSet
    pixels: Pixels
    parts: Parts
    given_split: Split | None

    def subset(self, part: int) -> Subset:
        """Return the pictures of this part."""
        rows = np.flatnonzero(self.parts == part)
        return Subset(rows, self.dataset.codes[rows])

    @property
    def can_validate(self) -> bool:
        """Whether the validation part makes pairs of both kinds."""
        return can_make_pairs(self.subset(VALIDATION).codes)

    @property
    def tested_classes(self) -> set[str]:
        """The labels that the test part has."""
        return {self.dataset.samples[row].label for row in self.subset(TEST).rows}

    @property
    def counts(self) -> dict[str, int]:
        """The number of pictures in each part, by its name."""
        return {name: int(np.sum(self.parts == number)) for number, name in enumerate(PART_NAMES)}


def prepare_data(recipe: Recipe, work: Path, size: int, progress: Progress) -> PreparedData:
    """Decode and split the data set, or load that of an unfinished training from its folder `work`."""
    dataset = find_samples(recipe.dataset, progress)
    if (work / PLAN).exists():
        return _resume_data(recipe, dataset, work)
    work.mkdir(parents=True, exist_ok=True)
    dataset, pixels = read_pixels(dataset, size, work / _PIXELS, progress)
    given = find_split(dataset)
    parts = given.parts_of(dataset) if given else assign_parts(dataset, near_duplicates(pixels), recipe.seed)
    if dataset.folder_parts and not (parts == VALIDATION).any():  # folders rarely hold one: a part of `train` is it
        drawn = assign_parts(dataset, near_duplicates(pixels), recipe.seed)
        parts[(parts == TRAIN) & (drawn == VALIDATION)] = VALIDATION
    data = PreparedData(dataset, pixels, parts, given)
    if not data.can_validate:
        parts[parts == VALIDATION] = TRAIN
    require_pairs(data.subset(TRAIN).codes, f"the training part of {recipe.dataset}")
    plan = {
        "recipe": recipe.as_json(),
        "samples": [[sample.hash, sample.label] for sample in dataset.samples],
        "parts": data.parts.tolist(),
        "left_out": [[str(path), reason] for path, reason in dataset.left_out],
    }
    write_atomically(work / PLAN, json.dumps(plan))
    return data


def _resume_data(recipe: Recipe, dataset: DataSet, work: Path) -> PreparedData:
    try:
        plan = json.loads((work / PLAN).read_text("utf-8"))
        pixels = np.load(work / _PIXELS, mmap_mode="r")[: len(plan["samples"])]
    except (OSError, ValueError, KeyError) as error:
        raise SettingError(f"{work} is damaged ({error}): remove it, and train anew") from error
    if plan["recipe"] != recipe.as_json():
        raise SettingError(f"{work.parent} was started with other options: resume with those, or give another folder")
    samples = {(sample.hash, sample.label): sample for sample in dataset.samples}
    keys = [tuple(key) for key in plan["samples"]]
    if lacking := [key for key in keys if key not in samples]:
        raise GalleryError(
            f"{recipe.dataset} lacks {len(lacking)} pictures that the training began with: restore them, or give --out"
            " another folder"
        )
    left_out = tuple((Path(path), reason) for path, reason in plan["left_out"])
    dataset = replace(dataset, samples=tuple(samples[key] for key in keys), left_out=left_out)
    return PreparedData(dataset, pixels, np.array(plan["parts"], np.int8), find_split(dataset))
