"""Labelled pictures as descriptors."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import numpy as np

from indexes.catalogue.labels import folder_label
from retrieval.common.errors import GalleryError, PictureError
from retrieval.common.progress import SILENT, Progress
from retrieval.common.text import safe_name
from retrieval.datasets.class_folders import DataSet, Sample, map_ahead
from retrieval.model.encoder import Encoder
from retrieval.model.head import Array
from retrieval.model.preprocessing import Pixels, read_at_size
from retrieval.sources.entries import PictureFile
from retrieval.sources.files import open_picture, prefetch
from retrieval.sources.gallery import count_gallery_files, resolve_gallery, walk_gallery
from retrieval.sources.object_store import abort_if_unreachable

_BATCH = 32

PixelsBySize = dict[int, Pixels]


@dataclass(frozen=True)
class DescribedGallery:
    """Descriptors (N, C) and labels (N,); None for a picture outside class folders."""

    descriptors: Array
    labels: list[str | None]

    def labelled(self) -> tuple[Array, list[str]]:
        """Only the pictures that have a label."""
        places = [place for place, label in enumerate(self.labels) if label is not None]
        return self.descriptors[places], [label for label in self.labels if label is not None]


def describe_gallery(
    gallery: str | os.PathLike[str], encoder: Encoder, progress: Progress = SILENT
) -> DescribedGallery:
    """Embed the pictures of a gallery, those that cannot be read left out.

    Raises GalleryError if it holds no picture that can be read.
    """
    root, size = resolve_gallery(gallery), encoder.bundle.card.preprocessing.size

    def read(file: PictureFile) -> Pixels | None:
        try:
            with abort_if_unreachable(), open_picture(file) as content:
                return read_at_size(content, size)[0]
        except PictureError:
            return None

    def labelled(files: Iterator[PictureFile]) -> Iterator[PictureFile]:
        for file in files:
            labels.append((file.label or None) if file.label is not None else folder_label(file.path, root))
            yield file

    labels: list[str | None] = []
    entries = walk_gallery(root, Counter(), lambda tar, version: False)
    files = labelled(entry for entry in entries if isinstance(entry, PictureFile))
    pictures = map_ahead(read, prefetch(files))
    descriptors: list[Array] = []
    kept: list[str | None] = []
    with progress.stage(f"Embedding {safe_name(Path(gallery).name)}", lambda: count_gallery_files([root])) as stage:
        while batch := list(islice(pictures, _BATCH)):
            stage.advance(len(batch))
            own = labels[: len(batch)]
            del labels[: len(batch)]
            usable = [(pixels, label) for pixels, label in zip(batch, own, strict=True) if pixels is not None]
            if usable:
                descriptors.append(encoder.describe([pixels for pixels, _ in usable]))
                kept += [label for _, label in usable]
    if not kept:
        raise GalleryError(f"{gallery} holds no picture that can be read: give a folder of class folders")
    return DescribedGallery(np.concatenate(descriptors), kept)


def describe_samples(
    dataset: DataSet,
    encoders: Sequence[Encoder],
    progress: Progress = SILENT,
    on_pixels: Callable[[Pixels], None] = lambda pixels: None,
) -> tuple[DataSet, list[Array]]:
    """The samples that could be read, and their descriptors (N, C), as a store keeps them, by each model.

    Pictures are decoded on threads, a bounded number ahead; `look` is shown each one that could be read, in their
    order, as the first model sees it. Raises GalleryError where none can be read.
    """
    sizes = [comparer.bundle.card.preprocessing.size for comparer in encoders]
    kept: list[Sample] = []
    left_out = list(dataset.left_out)
    parts: list[list[Array]] = [[] for _ in encoders]
    with progress.stage(f"Embedding {safe_name(dataset.folder.name)}", len(dataset.samples)) as stage:
        for batch, read in _in_batches(dataset.samples, lambda sample: _read(sample, sizes)):
            stage.advance(len(batch))
            usable = [pixels for pixels in read if not isinstance(pixels, str)]
            for sample, pixels in zip(batch, read, strict=True):
                if isinstance(pixels, str):
                    left_out.append((sample.path, pixels))
                else:
                    kept.append(sample)
                    on_pixels(pixels[sizes[0]])
            for comparer, size, own in zip(encoders, sizes, parts, strict=True):
                if usable:
                    own.append(comparer.describe([pixels[size] for pixels in usable]))
    if not kept:
        raise GalleryError(f"{dataset.folder} holds no picture that can be read: give a folder of class folders")
    described = [np.concatenate(own) for own in parts]
    return replace(dataset, samples=tuple(kept), left_out=tuple(left_out)), described


def _read(sample: Sample, sizes: Sequence[int]) -> PixelsBySize | str:
    """The picture at each size, or why there is none."""
    try:
        return {size: read_at_size(sample.path, size)[0] for size in set(sizes)}
    except PictureError as error:
        return error.reason


def _in_batches(
    samples: Sequence[Sample], read: Callable[[Sample], PixelsBySize | str]
) -> Iterator[tuple[Sequence[Sample], list[PixelsBySize | str]]]:
    """Batches of samples with what was read of them."""
    pictures = map_ahead(read, samples)
    for start in range(0, len(samples), _BATCH):
        batch = samples[start : start + _BATCH]
        yield batch, list(islice(pictures, len(batch)))
