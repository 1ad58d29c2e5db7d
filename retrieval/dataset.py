"""Labelled pictures as descriptors: class folders embedded by way of a passing store."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from retrieval.common.errors import GalleryError
from retrieval.common.progress import Step
from retrieval.engine import Engine
from retrieval.model.head import Array
from retrieval.scan import Advance
from retrieval.sources.location import Place


@dataclass(frozen=True)
class Described:
    """Descriptors (N, C), labels (N,) (None for a picture outside class folders), and the files that failed."""

    descriptors: Array
    labels: list[str | None]
    failures: tuple[tuple[Place, str], ...]

    def labelled(self) -> tuple[Array, list[str]]:
        """Only the pictures that have a label."""
        places = [place for place, label in enumerate(self.labels) if label is not None]
        return self.descriptors[places], [label for label in self.labels if label is not None]


def describe(
    dataset: str | os.PathLike[str],
    model: str = "default",
    device: str = "auto",
    on_step: Step = lambda step: None,
    advance: Advance = lambda files: None,
    on_folders: Callable[[list[bytes]], None] = lambda folders: None,
) -> Described:
    """Embed a data set of class folders. Raises GalleryError where it holds no picture that can be read."""
    with tempfile.TemporaryDirectory(prefix="retrieve-") as folder:
        engine = Engine.create(folder, model, device, on_step)
        try:
            report = engine.index(dataset, advance=advance, on_folders=on_folders)
            chunks = list(engine.catalogue.vectors(engine.bundle.fingerprint))
            if not chunks:
                raise GalleryError(f"{dataset} holds no picture that can be read: give a folder of class folders")
            ids, vectors = (np.concatenate(parts) for parts in zip(*chunks, strict=True))
            pictures = engine.catalogue.candidates(ids)
        finally:
            engine.close()
    return Described(vectors, [picture.label for picture in pictures], report.failures)
