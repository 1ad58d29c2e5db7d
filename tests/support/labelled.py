"""Stores of made-up descriptors in class folders, and a head that is wrong about them."""

import os
from dataclasses import replace
from pathlib import Path

import numpy as np

from indexes.arrays import Vectors
from indexes.catalogue.catalogue import Catalogue
from indexes.catalogue.records import NewPicture
from retrieval.common.settings import Preprocessing
from retrieval.model.bundle import Bundle, ModelCard
from retrieval.model.gallery_neuron import GalleryNeuron
from retrieval.model.head import Head

MODEL = "0123456789abcdef"
CHANNELS = 8
NEURON = GalleryNeuron(centre=0.5, slope=(10.0, 1.0), intercept=(-12.0, -2.0), hit=(2.0, 1.0))


def classes(count: int, each: int, spread: float = 0.25, seed: int = 0) -> dict[str, Vectors]:
    """Descriptors (each, CHANNELS) by class, around centres that overlap as `spread` grows."""
    random = np.random.default_rng(seed)
    return {
        f"class-{number}": np.abs(random.random(CHANNELS) + spread * random.normal(size=(each, CHANNELS)))
        for number in range(count)
    }


def a_catalogue(folder: Path, descriptors: dict[str, Vectors]) -> Catalogue:
    """Make a store of pictures with these descriptors, by class; those of the class "" lie in no class folder."""
    catalogue = Catalogue(folder, create=True)
    catalogue.settings.set(model="default", fingerprint=MODEL)
    for label, vectors in descriptors.items():
        pictures = [
            NewPicture(os.path.join("/g", label, str(place)).encode(), 1, 2, f"{label}{place}".encode(), vector, 3, 4)
            for place, vector in enumerate(vectors.astype(np.float32))
        ]
        catalogue.scans.record(b"/g", MODEL, pictures)
    return catalogue


def a_bundle(slope: float = 40.0, intercept: float = -10.0) -> Bundle:
    """Return a model whose head compares raw descriptors and is far too confident that pictures differ."""
    card = ModelCard("tiny", "none", Preprocessing(8, (0, 0, 0), (1, 1, 1)), CHANNELS, False, {}, {})
    bundle = Bundle(Path("nowhere"), card)
    head = Head(np.eye(CHANNELS, dtype=np.float32), np.zeros(CHANNELS, np.float32), slope, intercept, normalize=False)
    bundle.__dict__.update(head=head, fingerprint=MODEL)
    return bundle


def a_gallery_bundle() -> Bundle:
    """Return a model that judges pairs by the gallery's statistics."""
    made = a_bundle()
    bundle = Bundle(made.folder, replace(made.card, normalize=True, gallery_neuron=NEURON))
    bundle.__dict__.update(head=replace(made.head, normalize=True), fingerprint=MODEL)
    return bundle
