"""Descriptors of labelled pictures."""

import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from threading import Event

import numpy as np

from indexes.catalogue.labels import folder_label
from retrieval.common.errors import GalleryError, PictureError
from retrieval.common.parallel import batched, iterate_ahead
from retrieval.common.progress import SILENT, Progress
from retrieval.common.text import safe_name
from retrieval.datasets.class_folders import DataSet, Sample, read_ahead, require_pictures
from retrieval.model.encoder import Encoder
from retrieval.model.head import Array
from retrieval.model.preprocessing import Pixels, read_at_size
from retrieval.sources.entries import PictureFile
from retrieval.sources.files import MAX_WALKED_AHEAD, open_picture, prefetch, walk_weight
from retrieval.sources.gallery import resolve_gallery, walk_gallery
from retrieval.sources.object_store import abort_if_unreachable

_BATCH = 32


@dataclass(frozen=True)
class DescribedGallery:
    """Descriptors (N, C) and labels (N,); None for a picture outside class folders."""

    descriptors: Array
    labels: list[str | None]

    def labelled(self) -> tuple[Array, list[str]]:
        """Return only the pictures that have a label."""
        rows = [row for row, label in enumerate(self.labels) if label is not None]
        return self.descriptors[rows], [label for label in self.labels if label is not None]


def describe_gallery(
    gallery: str | os.PathLike[str], encoder: Encoder, progress: Progress = SILENT
) -> DescribedGallery:
    """Embed the pictures of a gallery, those that cannot be read left out.

    Raises GalleryError if it holds no picture that can be read.
    """
    root, size = resolve_gallery(gallery), encoder.bundle.card.preprocessing.size
    labels: list[str | None] = []
    cancelled = Event()

    def read(file: PictureFile) -> tuple[str | None, Pixels]:
        label = (file.label or None) if file.label is not None else folder_label(file.path, root)
        with abort_if_unreachable(), open_picture(file) as content:
            return label, read_at_size(content, size)[0]

    def walk() -> Iterator[PictureFile]:
        count = 0
        for entry in walk_gallery(root, Counter(), lambda tar, version: False, cancelled):
            if isinstance(entry, PictureFile):
                count += 1
                yield entry
        stage.expect(count)

    def readable() -> Iterator[Pixels]:
        with closing(iterate_ahead(walk(), MAX_WALKED_AHEAD, walk_weight, cancelled)) as files:
            for result in stage.track(read_ahead(read, prefetch(files))):
                if not isinstance(result, PictureError):
                    labels.append(result[0])
                    yield result[1]

    with progress.stage(f"Embedding {safe_name(Path(gallery).name)}") as stage:
        descriptors = encoder.describe(readable())
    if not labels:
        raise GalleryError(f"{gallery} holds no picture that can be read: give a folder of class folders")
    return DescribedGallery(descriptors, labels)


def describe_samples(
    dataset: DataSet,
    encoders: Sequence[Encoder],
    progress: Progress = SILENT,
    on_pixels: Callable[[Pixels], None] = lambda pixels: None,
) -> tuple[DataSet, list[Array]]:
    """Embed the samples that can be read by each model: descriptors (N, C), as a store keeps them.

    Pictures are decoded on threads, a bounded number ahead; `on_pixels` gets each readable one, in order, as the
    first model sees it. Raises GalleryError if none can be read.
    """
    sizes = [encoder.bundle.card.preprocessing.size for encoder in encoders]
    samples: list[Sample] = []
    left_out = list(dataset.left_out)

    def read(sample: Sample) -> dict[int, Pixels]:
        return {size: read_at_size(sample.path, size)[0] for size in set(sizes)}

    def readable() -> Iterator[dict[int, Pixels]]:
        results = read_ahead(read, dataset.samples)
        for sample, pixels in stage.track(zip(dataset.samples, results, strict=True)):
            if isinstance(pixels, PictureError):
                left_out.append((sample.path, pixels.reason))
            else:
                samples.append(sample)
                on_pixels(pixels[sizes[0]])
                yield pixels

    parts: list[list[Array]] = [[] for _ in encoders]
    with progress.stage(f"Embedding {safe_name(dataset.folder.name)}", len(dataset.samples)) as stage:
        for batch in batched(readable(), _BATCH):
            for encoder, size, descriptors in zip(encoders, sizes, parts, strict=True):
                descriptors.append(encoder.describe(pixels[size] for pixels in batch))
    return require_pictures(dataset, samples, left_out), [np.concatenate(each) for each in parts if each]
