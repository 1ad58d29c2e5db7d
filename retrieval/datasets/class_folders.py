"""Data sets of class folders: each content once, with the reason for every file that is left out."""

import os
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

import numpy as np

from indexes.atomic_files import move_into_place
from indexes.catalogue.labels import label_text
from retrieval.common.atomic_files import explain_write_errors
from retrieval.common.errors import GalleryError, PictureError
from retrieval.common.parallel import parallel_map
from retrieval.common.progress import SILENT, Progress
from retrieval.common.text import safe_name
from retrieval.datasets.pair_sampling import Codes
from retrieval.model.preprocessing import Pixels, read_at_size
from retrieval.sources.entries import PictureFile, Unreadable, passed_over_words
from retrieval.sources.files import content_hash, open_file
from retrieval.sources.local import walk

LeftOut = tuple[tuple[Path, str], ...]

T = TypeVar("T")
U = TypeVar("U")

PART_NAMES = ("train", "validation", "test")
"""The parts of a split, in the order of their numbers."""

IN_TWO_CLASSES, IN_TWO_PARTS = "is in two classes", "is in two parts of the data set"

_PART_FOLDERS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "validation"),
    **dict.fromkeys(("test", "testing", "eval", "evaluation", "holdout"), "test"),
}

_READERS = 2
_AHEAD = 64


@dataclass(frozen=True)
class Sample:
    """A labelled picture: the name of its folder as `label`, and its content's SHA-256 (hex) as `hash`."""

    path: Path
    label: str
    hash: str


@dataclass(frozen=True)
class DataSet:
    """The pictures of class folders, no content twice, and the files left out, each with its reason.

    `folder_parts` has the part of each content, `train`, `validation` or `test`, if the class folders lie in folders of
    such names; else it is empty.
    """

    folder: Path
    samples: tuple[Sample, ...]
    left_out: LeftOut
    folder_parts: dict[str, str] = field(default_factory=dict)

    @property
    def classes(self) -> list[str]:
        """The labels, sorted."""
        return sorted({sample.label for sample in self.samples})

    @property
    def codes(self) -> Codes:
        """The number of each sample's class in `classes`, (N,)."""
        return np.unique([sample.label for sample in self.samples], return_inverse=True)[1]


def find_samples(folder: Path, progress: Progress = SILENT) -> DataSet:
    """Walk class folders and hash every picture. Of equal pictures the first stays, of those in two classes none.

    Class folders in `train`, `val` and `test` make a split. Of equal pictures in two parts, that to train on stays.
    Raises GalleryError if the folder cannot be read or holds no picture in a class folder.
    """
    if not folder.is_dir():
        raise GalleryError(f"{folder} is not a folder: give a folder of class folders")
    samples: list[Sample] = []
    left_out: list[tuple[Path, str]] = []
    top = Path(os.path.abspath(folder))
    passed_over: Counter[str] = Counter()
    files = list(walk(os.fsencode(top), passed_over))
    passed_over.pop(".json", None)  # a split
    for words in passed_over_words(passed_over):
        progress.message(f"{folder}: {words}")
    with progress.stage(f"Reading {safe_name(folder.name)}", len(files)) as stage:
        for entry in stage.track(parallel_map(_hash_file, files, _READERS, _AHEAD)):
            if isinstance(entry, Unreadable):
                left_out.append((Path(os.fsdecode(entry.path)), entry.reason))
            elif entry.path.parent == top:
                left_out.append((entry.path, "lies in no class folder"))
            else:
                samples.append(entry)
    parts, places = _folder_parts(samples, top), {sample: place for place, sample in enumerate(samples)}
    samples.sort(key=lambda sample: PART_NAMES.index(parts.get(sample.path, "train")))
    used = {sample.path.relative_to(top).parts[0] for sample in samples}
    for name in sorted(os.listdir(folder)):
        if (folder / name).is_dir() and not name.startswith(".") and name not in used:
            left_out.append((top / name, "holds no picture that can be used"))
    distinct = sorted(_drop_repeats(samples, left_out, parts, top), key=places.__getitem__)
    if not distinct:
        first = f" ({left_out[0][0].name} {left_out[0][1]})" if left_out else ""
        raise GalleryError(
            f"{folder} holds no picture in a class folder that can be used{first}: give a folder with a folder for each"
            " class"
        )
    by_hash = {sample.hash: parts[sample.path] for sample in distinct if parts}
    if parts:
        counts = Counter(by_hash.values())
        named = ", ".join(f"{counts[part]:,} {part}" for part in PART_NAMES if counts[part])
        progress.message(f"{folder} is split by its folders: {named} pictures")
    return DataSet(folder, tuple(distinct), tuple(left_out), by_hash)


def check_outside(dataset: Path, out: Path) -> None:
    """Raise GalleryError if the folder `out`, which is to be written, lies in the data set."""
    if out.resolve().is_relative_to(dataset.resolve()):
        raise GalleryError(f"{out} lies in {dataset}, whose pictures it would join: give a folder outside it")


def read_ahead(read: Callable[[T], U], items: Iterable[T]) -> Iterator[U | PictureError]:
    """Read items on threads, in order, a bounded number ahead; yield a broken one's error in its place."""

    def attempt(item: T) -> U | PictureError:
        try:
            return read(item)
        except PictureError as error:
            return error

    return parallel_map(attempt, items, _READERS, _AHEAD)


def read_pixels(dataset: DataSet, size: int, out: Path, progress: Progress = SILENT) -> tuple[DataSet, Pixels]:
    """Decode every picture into the file `out` (.npy): the readable samples, uint8 (N, size, size, 3).

    The pixels are mapped from the file, so that a data set may be larger than the memory. Raises RetrievalError if
    there is no room for it.
    """
    part = out.with_name(out.name + ".part")
    with explain_write_errors(out):
        pixels = np.lib.format.open_memmap(part, "w+", np.uint8, (len(dataset.samples), size, size, 3))
        _allocate(part)
    samples: list[Sample] = []
    left_out = list(dataset.left_out)
    results = read_ahead(lambda sample: read_at_size(sample.path, size)[0], dataset.samples)
    with progress.stage("Decoding", len(dataset.samples)) as stage:
        for sample, picture in stage.track(zip(dataset.samples, results, strict=True)):
            if isinstance(picture, PictureError):
                left_out.append((sample.path, picture.reason))
            else:
                pixels[len(samples)] = picture
                samples.append(sample)
    readable = require_pictures(dataset, samples, left_out)
    pixels.flush()
    del pixels  # some systems cannot rename a file that is mapped
    with explain_write_errors(out):
        move_into_place(part, out)
    return readable, np.load(out, mmap_mode="r")[: len(samples)]


def require_pictures(dataset: DataSet, samples: list[Sample], left_out: list[tuple[Path, str]]) -> DataSet:
    """Return the data set with only these samples. Raises GalleryError if there are none."""
    if not samples:
        raise GalleryError(f"{dataset.folder} holds no picture that can be read: give a folder of class folders")
    return replace(dataset, samples=tuple(samples), left_out=tuple(left_out))


def _allocate(file: Path) -> None:
    """Allocate a sparse file's blocks: a full disk is an error now, but would be a crash once the file is mapped."""
    if hasattr(os, "posix_fallocate"):
        with open(file, "r+b") as opened:
            os.posix_fallocate(opened.fileno(), 0, os.fstat(opened.fileno()).st_size)


def _folder_parts(samples: list[Sample], top: Path) -> dict[Path, str]:
    """Return the part of each picture if all class folders lie in folders that are named like parts, else nothing."""
    names = {sample.path: sample.path.relative_to(top).parts for sample in samples}
    parts = {path: _PART_FOLDERS.get(name[0].casefold(), "") for path, name in names.items()}
    is_split = len(set(parts.values())) > 1 and all(parts.values()) and all(len(name) > 2 for name in names.values())
    return parts if is_split else {}


def _drop_repeats(
    samples: list[Sample], left_out: list[tuple[Path, str]], parts: dict[Path, str], top: Path
) -> list[Sample]:
    """Return the samples whose content is in one class only, each content once; note the others in `left_out`."""
    by_hash: dict[str, list[Sample]] = defaultdict(list)
    for sample in samples:
        by_hash[sample.hash].append(sample)
    distinct = []
    for first, *others in by_hash.values():
        name = safe_name(first.path.relative_to(top))
        other = next((each for each in others if each.label != first.label), None)
        if other is not None:
            reason = f"{IN_TWO_CLASSES}: {first.label} and {other.label}, as"
            for each in (first, *others):
                twin = other if each.label == first.label else first
                left_out.append((each.path, f"{reason} {safe_name(twin.path.relative_to(top))}"))
            continue
        distinct.append(first)
        for each in others:
            crosses = parts.get(each.path) != parts.get(first.path)
            reason = f"{IN_TWO_PARTS}, with the same content as" if crosses else "has the same content as"
            left_out.append((each.path, f"{reason} {name}"))
    return distinct


def _hash_file(entry: PictureFile | Unreadable) -> Sample | Unreadable:
    if isinstance(entry, Unreadable):
        return entry
    path = Path(os.fsdecode(entry.path))
    label = label_text(path.parent.name)
    try:
        with open_file(path) as file:
            return Sample(path, label, content_hash(file).hex())
    except PictureError as error:
        return Unreadable(entry.path, error.reason)
