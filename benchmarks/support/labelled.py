"""Stores of labelled pictures, less some that are kept out to ask with."""

import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np

from indexes.arrays import Vectors
from retrieval.datasets.class_folders import Sample, find_samples
from retrieval.engine import Engine


def drawn(folders: Iterable[Path]) -> list[Sample]:
    """Return the pictures of class folders in a random order, each content once, with labels of their own."""
    samples = [
        replace(sample, label=f"{folder.name} {sample.label}".replace(os.sep, " "))
        for folder in folders
        for sample in find_samples(folder).samples
    ]
    return [samples[place] for place in np.random.default_rng(0).permutation(len(samples))]


def divided(samples: list[Sample], most: int, kept_out: int) -> tuple[list[Sample], list[Sample]]:
    """Return what asks and what is indexed, of at most so many pictures: no more than a quarter of all ask."""
    asking = min(kept_out, len(samples) // 4)
    return samples[:asking], samples[asking : asking + most]


@contextmanager
def indexed(samples: Iterable[Sample]) -> Iterator[Engine]:
    """Yield the engine of a temporary store of these pictures, in folders that bear their labels."""
    with tempfile.TemporaryDirectory() as made, tempfile.TemporaryDirectory() as store:
        place = Path(made).resolve()
        for number, sample in enumerate(samples):
            (place / sample.label).mkdir(exist_ok=True)
            (place / sample.label / f"{number:06}{sample.path.suffix}").symlink_to(sample.path.resolve())
        with Engine.create(store, device="cpu") as engine:
            engine.index(place)
            yield engine


def described(engine: Engine) -> tuple[Vectors, list[str]]:
    """Return the descriptors (N, C) and the labels (N,) of a store's pictures."""
    chunks = list(engine.catalogue.descriptors.all(engine.bundle.fingerprint))
    found = engine.catalogue.pictures.candidates(np.concatenate([ids for ids, _ in chunks]))
    return np.concatenate([vectors for _, vectors in chunks]), [str(picture.label) for picture in found]
