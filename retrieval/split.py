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
from PIL import Image

from retrieval.errors import ModelError
from retrieval.files import write_whole
from retrieval.pictures import Pixels
from retrieval.samples import DataSet

Parts = NDArray[np.int8]
Groups = NDArray[np.int64]

TRAIN, VALIDATION, TEST = range(3)
PART_NAMES = ("train", "validation", "test")
TEST_SHARE = 0.2  # of each class
VALIDATION_SHARE = 0.1  # of what is left of it
FILE = "split.json"

_ROWS, _COLUMNS = 16, 17  # of the grey picture whose neighbours are compared
_NEAR = 16  # bits of 256 by which near duplicates differ at most: a file saved anew, resized or slightly cropped
_BLOCK = 64


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

    def of(self, dataset: DataSet) -> Parts:
        """The part of each sample, (N,); contents that the split does not name are trained on."""
        part_of = {content: PART_NAMES.index(name) for name, contents in self.parts.items() for content in contents}
        return np.array([part_of.get(sample.hash, TRAIN) for sample in dataset.samples], np.int8)

    def write(self, folder: Path) -> None:
        """Write it into the folder of a bundle or of a data set. Raises RetrievalError."""
        values = {"dataset": self.dataset, "seed": self.seed, "parts": self.parts}
        write_whole(folder / FILE, json.dumps(values, indent=1) + "\n")


def read_split(folder: Path) -> Split | None:
    """The split of a bundle's folder; None for a bundle that was not trained. Raises ModelError."""
    file = folder / FILE
    try:
        values = json.loads(file.read_text("utf-8"))
        parts = {name: tuple(str(content) for content in values["parts"][name]) for name in PART_NAMES}
        return Split(str(values["dataset"]), int(values["seed"]), parts)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(f"{file} cannot be read ({error!r}): get the bundle anew") from error


def split(dataset: DataSet, groups: Groups, seed: int) -> Parts:
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
        rest = _assign(parts, own, TEST, wanted)
        _assign(parts, rest, VALIDATION, round((total - wanted) * VALIDATION_SHARE))
    return parts


def as_split(dataset: DataSet, parts: Parts, seed: int) -> Split:
    """The record of a split, by content."""
    hashes = [sample.hash for sample in dataset.samples]
    by_name = {
        name: tuple(content for content, part in zip(hashes, parts, strict=True) if part == number)
        for number, name in enumerate(PART_NAMES)
    }
    return Split(str(dataset.folder.resolve()), seed, by_name)


def near_duplicates(pixels: Pixels) -> Groups:
    """Groups (N,) of pictures that look the same at 17 x 16 grey values, by a difference hash of 256 bits.

    Equal numbers are one group, named by its first picture.
    """
    bits = np.stack([_difference_hash(picture) for picture in pixels])  # (N, 4) uint64
    groups = np.arange(len(bits))
    for start in range(0, len(bits), _BLOCK):
        block = bits[start : start + _BLOCK]
        differing = np.bitwise_count(block[:, None] ^ bits[None]).sum(axis=2)
        for one, other in np.argwhere(differing <= _NEAR):
            if start + one < other:
                names = groups[start + one], groups[other]
                groups[np.isin(groups, names)] = min(names)
    return groups


def _difference_hash(picture: Pixels) -> NDArray[np.uint64]:
    grey = Image.fromarray(picture).convert("L").resize((_COLUMNS, _ROWS), Image.Resampling.BOX)
    values = np.asarray(grey)
    return np.packbits(values[:, 1:] > values[:, :-1]).view(np.uint64)


def _assign(parts: Parts, groups: list[list[int]], part: int, wanted: int) -> list[list[int]]:
    """Give groups to a part, in their order, as long as it does not exceed what is wanted; those not given."""
    given, rest = 0, []
    for places in groups:
        if given + len(places) <= wanted:
            parts[places] = part
            given += len(places)
        else:
            rest.append(places)
    return rest
