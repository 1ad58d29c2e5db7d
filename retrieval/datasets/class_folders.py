"""A data set to learn from: class folders, each content once, with the reason for every file that is left out."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np

from retrieval.common.atomic_files import explain_write_errors
from retrieval.common.errors import GalleryError, PictureError
from retrieval.common.parallel import parallel_map
from retrieval.common.progress import SILENT, Progress
from retrieval.common.text import safe_name
from retrieval.datasets.pair_sampling import Codes
from retrieval.model.preprocessing import Pixels, read_at_size
from retrieval.sources.entries import PictureFile, Unreadable
from retrieval.sources.files import content_hash, open_file
from retrieval.sources.local import count_files, walk

LeftOut = tuple[tuple[Path, str], ...]

In = TypeVar("In")
Out = TypeVar("Out")

IN_TWO_CLASSES = "is in two classes"

_READERS = 2
_AHEAD = 64


@dataclass(frozen=True)
class Sample:
    """A labelled picture. `label` is the name of the folder that holds it, `hash` its content's SHA-256 (hex)."""

    path: Path
    label: str
    hash: str


@dataclass(frozen=True)
class DataSet:
    """The pictures of class folders, no content twice, and the files that are left out, each with its reason."""

    folder: Path
    samples: tuple[Sample, ...]
    left_out: LeftOut

    @property
    def classes(self) -> list[str]:
        """The labels, in order."""
        return sorted({sample.label for sample in self.samples})

    @property
    def codes(self) -> Codes:
        """The place of each sample's label among the classes, (N,)."""
        places = {label: place for place, label in enumerate(self.classes)}
        return np.array([places[sample.label] for sample in self.samples], np.int64)


def find_samples(folder: Path, progress: Progress = SILENT) -> DataSet:
    """Walk class folders and hash every picture. Of equal ones the first stays, of those in two classes none.

    Raises GalleryError where the folder cannot be read or holds no picture in a class folder.
    """
    if not folder.is_dir():
        raise GalleryError(f"{folder} is not a folder: give a folder of class folders")
    found: list[Sample] = []
    left_out: list[tuple[Path, str]] = []
    root = os.fsencode(os.path.abspath(folder))
    with progress.stage(f"Reading {safe_name(folder.name)}", lambda: count_files([root])) as stage:
        for entry in map_ahead(_hash_file, walk(root)):
            stage.advance()
            if isinstance(entry, Unreadable):
                left_out.append((Path(os.fsdecode(entry.path)), entry.reason))
            elif entry.path.parent == Path(os.path.abspath(folder)):
                left_out.append((entry.path, "lies in no class folder"))
            else:
                found.append(entry)
    held = {sample.path.relative_to(os.path.abspath(folder)).parts[0] for sample in found}
    for name in sorted(os.listdir(folder)):
        if (folder / name).is_dir() and not name.startswith(".") and name not in held:
            left_out.append((Path(os.path.abspath(folder)) / name, "holds no picture that can be used"))
    kept = _drop_repeats(found, left_out)
    if not kept:
        first = f" ({left_out[0][0].name} {left_out[0][1]})" if left_out else ""
        raise GalleryError(
            f"{folder} holds no picture in a class folder that can be used{first}: give a folder with a folder for each"
            " class"
        )
    return DataSet(folder, tuple(kept), tuple(left_out))


def check_outside(dataset: Path, out: Path) -> None:
    """Raises GalleryError where a folder to write lies in the data set, whose pictures it would join."""
    if out.resolve().is_relative_to(dataset.resolve()):
        raise GalleryError(f"{out} lies in {dataset}, whose pictures it would join: give a folder outside it")


def read_pixels(dataset: DataSet, size: int, out: Path, progress: Progress = SILENT) -> tuple[DataSet, Pixels]:
    """Decode every picture into the file `out` (.npy): the samples that could be read, uint8 (N, size, size, 3).

    The pixels are mapped from the file, so that a data set may be larger than the memory. Raises RetrievalError where
    it has no room.
    """
    part = out.with_name(out.name + ".part")
    with explain_write_errors(out):
        pixels = np.lib.format.open_memmap(part, "w+", np.uint8, (len(dataset.samples), size, size, 3))
        _allocate(part)
    kept: list[Sample] = []
    left_out = list(dataset.left_out)
    pictures = map_ahead(lambda sample: decode_or_reason(sample.path, size), dataset.samples)
    with progress.stage("Decoding", len(dataset.samples)) as stage:
        for sample, result in zip(dataset.samples, pictures, strict=True):
            stage.advance()
            if isinstance(result, str):
                left_out.append((sample.path, result))
            else:
                pixels[len(kept)] = result
                kept.append(sample)
    if not kept:
        raise GalleryError(f"{dataset.folder} holds no picture that can be read: give a folder of class folders")
    pixels.flush()
    del pixels  # some systems rename no file that is mapped
    os.replace(part, out)
    return DataSet(dataset.folder, tuple(kept), tuple(left_out)), np.load(out, mmap_mode="r")[: len(kept)]


def _allocate(file: Path) -> None:
    """Give a sparse file its place on the disk now: a full disk is an error here, but a crash when it is mapped."""
    if hasattr(os, "posix_fallocate"):
        with open(file, "r+b") as opened:
            os.posix_fallocate(opened.fileno(), 0, os.fstat(opened.fileno()).st_size)


def _drop_repeats(found: list[Sample], left_out: list[tuple[Path, str]]) -> list[Sample]:
    by_hash: dict[str, list[Sample]] = defaultdict(list)
    for sample in found:
        by_hash[sample.hash].append(sample)
    kept = []
    for samples in by_hash.values():
        first, *others = samples
        other = next((each for each in others if each.label != first.label), None)
        if other is not None:
            left_out += [(each.path, f"{IN_TWO_CLASSES}: {first.label} and {other.label}") for each in samples]
        else:
            kept.append(first)
            left_out += [(each.path, f"has the same content as {first.path.name}") for each in others]
    return kept


def _hash_file(entry: PictureFile | Unreadable) -> Sample | Unreadable:
    if isinstance(entry, Unreadable):
        return entry
    path = Path(os.fsdecode(entry.path))
    label = os.fsencode(path.parent.name).decode("utf-8", "replace")
    try:
        with open_file(path) as file:
            return Sample(path, label, content_hash(file).hex())
    except PictureError as error:
        return Unreadable(entry.path, error.reason)


def decode_or_reason(path: Path, size: int) -> Pixels | str:
    """The pixels, uint8 (size, size, 3), or why there are none."""
    try:
        return read_at_size(path, size)[0]
    except PictureError as error:
        return error.reason


def map_ahead(work: Callable[[In], Out], items: Iterable[In]) -> Iterator[Out]:
    """Map on threads, a bounded number ahead of what is asked for, in order."""
    return parallel_map(work, items, _READERS, _AHEAD)
