"""The split of a data set into three parts: to train on, to choose the best epoch by, and to test on."""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from retrieval.common.atomic_files import write_atomically
from retrieval.common.errors import ModelError
from retrieval.common.grouping import Indices
from retrieval.datasets.class_folders import PART_NAMES, DataSet

Parts = NDArray[np.int8]

TRAIN, VALIDATION, TEST = range(3)
TEST_SHARE = 0.2  # of each class
VALIDATION_SHARE = 0.1  # of what is left of it
SPLIT_FILE = "split.json"


@dataclass(frozen=True)
class Split:
    """Which contents (SHA-256, hex) of a data set are in which part; kept in a bundle as `split.json`."""

    dataset: str
    seed: int
    parts: dict[str, tuple[str, ...]]

    @cached_property
    def learnt(self) -> frozenset[str]:
        """The contents that the model has seen in training or validation."""
        return frozenset(self.parts["train"]) | frozenset(self.parts["validation"])

    @cached_property
    def part_by_hash(self) -> dict[str, str]:
        """The name of the part of each content."""
        return {content: name for name in PART_NAMES for content in self.parts[name]}

    def parts_of(self, dataset: DataSet) -> Parts:
        """Return the part of each sample, (N,); contents that the split does not name are trained on."""
        names = (self.part_by_hash.get(sample.hash, PART_NAMES[TRAIN]) for sample in dataset.samples)
        return np.array([PART_NAMES.index(name) for name in names], np.int8)

    def for_folder(self, folder: Path, part_by_hash: dict[str, str]) -> Split:
        """Return the split of another folder with these contents; those of this one keep their parts in it."""
        merged = part_by_hash | self.part_by_hash | part_by_hash  # the new ones first, with their new parts
        parts = {name: tuple(each for each, part in merged.items() if part == name) for name in PART_NAMES}
        return Split(str(folder.resolve()), self.seed, parts)

    def write(self, folder: Path) -> None:
        """Write the split into the folder of a bundle or of a data set. Raises RetrievalError."""
        values = {"dataset": self.dataset, "seed": self.seed, "parts": self.parts}
        write_atomically(folder / SPLIT_FILE, json.dumps(values, indent=1) + "\n")


def read_split(folder: Path) -> Split | None:
    """Read the split in a bundle's folder; None for a bundle that was not trained. Raises ModelError."""
    file = folder / SPLIT_FILE
    try:
        values = json.loads(file.read_text("utf-8"))
        parts = {name: tuple(str(content) for content in values["parts"][name]) for name in PART_NAMES}
        return Split(str(values["dataset"]), int(values["seed"]), parts)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(
            f"{file} is not the split of a data set ({error!r}): remove it, or get the model again"
        ) from error


def find_split(dataset: DataSet) -> Split | None:
    """Return a data set's own split: that of its `split.json`, else that of its folders. Raises ModelError."""
    given = read_split(dataset.folder)
    if given or not dataset.folder_parts:
        return given
    parts = {
        name: tuple(content for content, part in dataset.folder_parts.items() if part == name) for name in PART_NAMES
    }
    return Split(str(dataset.folder.resolve()), 0, parts)


def unseen_part(dataset: DataSet) -> DataSet:
    """Return the test part of a data set that is split by its folders, or what is not trained on; else all of it."""
    for part in reversed(PART_NAMES[1:]):
        samples = tuple(each for each in dataset.samples if dataset.folder_parts.get(each.hash) == part)
        if samples:
            return replace(dataset, samples=samples)
    return dataset


def assign_parts(dataset: DataSet, groups: Indices, seed: int) -> Parts:
    """Return the part of each sample, (N,): 20 % of each class to test, 10 % of the rest to validate (section 4).

    A group is never divided; it counts in the class of its first picture. The order is that of a hash of seed and
    content, so that names do not matter. A class that is too small for shares is trained on as a whole.
    """
    codes = dataset.codes
    keys = [hashlib.sha256(f"{seed} {sample.hash}".encode()).digest() for sample in dataset.samples]
    members: dict[int, list[int]] = defaultdict(list)
    for row in sorted(range(len(keys)), key=keys.__getitem__):
        members[int(groups[row])].append(row)
    by_class: dict[int, list[list[int]]] = defaultdict(list)
    for rows in members.values():
        by_class[int(codes[rows[0]])].append(rows)
    parts = np.full(len(keys), TRAIN, np.int8)
    for class_groups in by_class.values():
        total = sum(map(len, class_groups))
        test_quota = round(total * TEST_SHARE)
        rest = _fill_part(parts, class_groups, TEST, test_quota)
        _fill_part(parts, rest, VALIDATION, round((total - test_quota) * VALIDATION_SHARE))
    return parts


def record_split(dataset: DataSet, parts: Parts, seed: int, previous: Split | None = None) -> Split:
    """Return the record of a split, by content. Contents of the `previous` one that are gone keep their parts."""
    part_by_hash = {sample.hash: PART_NAMES[part] for sample, part in zip(dataset.samples, parts, strict=True)}
    before = previous or Split("", seed, dict.fromkeys(PART_NAMES, ()))
    return before.for_folder(dataset.folder, part_by_hash)


def _fill_part(parts: Parts, groups: list[list[int]], part: int, quota: int) -> list[list[int]]:
    """Assign groups to a part, in their order, up to its quota of pictures; return the groups that do not fit."""
    count, rest = 0, []
    for rows in groups:
        if count + len(rows) <= quota:
            parts[rows] = part
            count += len(rows)
        else:
            rest.append(rows)
    return rest
