"""A data set in three parts: to train on, to choose the best epoch by, and to measure on what was never seen."""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from retrieval.common.atomic_files import write_atomically
from retrieval.common.errors import ModelError
from retrieval.datasets.class_folders import DataSet
from retrieval.datasets.near_duplicates import Groups

Parts = NDArray[np.int8]

TRAIN, VALIDATION, TEST = range(3)
PART_NAMES = ("train", "validation", "test")
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
        """The contents that the model has seen, to learn or to choose by."""
        return frozenset(self.parts["train"]) | frozenset(self.parts["validation"])

    def parts_of(self, dataset: DataSet) -> Parts:
        """The part of each sample, (N,); contents that the split does not name are trained on."""
        part_of = {content: PART_NAMES.index(name) for name, contents in self.parts.items() for content in contents}
        return np.array([part_of.get(sample.hash, TRAIN) for sample in dataset.samples], np.int8)

    def for_folder(self, folder: Path, part_by_hash: dict[str, str]) -> Split:
        """For another folder, whose contents are in the parts named; those of this one stay known in theirs."""
        by_name = {
            name: (
                *(content for content, part in part_by_hash.items() if part == name),
                *(content for content in self.parts[name] if content not in part_by_hash),
            )
            for name in PART_NAMES
        }
        return Split(str(folder.resolve()), self.seed, by_name)

    def write(self, folder: Path) -> None:
        """Write it into the folder of a bundle or of a data set. Raises RetrievalError."""
        values = {"dataset": self.dataset, "seed": self.seed, "parts": self.parts}
        write_atomically(folder / SPLIT_FILE, json.dumps(values, indent=1) + "\n")


def read_split(folder: Path) -> Split | None:
    """The split of a bundle's folder; None for a bundle that was not trained. Raises ModelError."""
    file = folder / SPLIT_FILE
    try:
        values = json.loads(file.read_text("utf-8"))
        parts = {name: tuple(str(content) for content in values["parts"][name]) for name in PART_NAMES}
        return Split(str(values["dataset"]), int(values["seed"]), parts)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(
            f"{file} is no split of a data set ({error!r}): remove it, or get what it came with anew"
        ) from error


def assign_parts(dataset: DataSet, groups: Groups, seed: int) -> Parts:
    """The part of each sample, (N,): 20 % of each class to test, 10 % of the rest to validate (section 4).

    A group is never divided; it counts in the class of its first picture. The order is that of a hash of seed and
    content, so that names do not matter. Of a class that is too small for shares, all is trained on.
    """
    codes = dataset.codes
    keys = [hashlib.sha256(f"{seed} {sample.hash}".encode()).digest() for sample in dataset.samples]
    members: dict[int, list[int]] = defaultdict(list)
    for place in sorted(range(len(keys)), key=keys.__getitem__):
        members[int(groups[place])].append(place)
    by_class: dict[int, list[list[int]]] = defaultdict(list)
    for places in members.values():
        by_class[int(codes[places[0]])].append(places)
    parts = np.full(len(keys), TRAIN, np.int8)
    for own in by_class.values():
        total = sum(len(places) for places in own)
        wanted = round(total * TEST_SHARE)
        rest = _fill_part(parts, own, TEST, wanted)
        _fill_part(parts, rest, VALIDATION, round((total - wanted) * VALIDATION_SHARE))
    return parts


def record_split(dataset: DataSet, parts: Parts, seed: int, previous: Split | None = None) -> Split:
    """The record of a split, by content; of a `given` one, which the parts follow, contents found no more are kept."""
    found = {sample.hash: PART_NAMES[part] for sample, part in zip(dataset.samples, parts, strict=True)}
    before = previous or Split("", seed, dict.fromkeys(PART_NAMES, ()))
    return before.for_folder(dataset.folder, found)


def _fill_part(parts: Parts, groups: list[list[int]], part: int, quota: int) -> list[list[int]]:
    """Give groups to a part, in their order, as long as it does not exceed what is wanted; those not given."""
    given, rest = 0, []
    for places in groups:
        if given + len(places) <= quota:
            parts[places] = part
            given += len(places)
        else:
            rest.append(places)
    return rest
