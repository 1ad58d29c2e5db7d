"""The engine: a store, a model and a network together. What the command line and other programs use."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from indexes.base import VectorIndex
from indexes.catalogue import Catalogue
from indexes.errors import StoreError
from retrieval.bundle import Bundle, find_bundle
from retrieval.compare import Comparer
from retrieval.errors import GalleryError, PictureError
from retrieval.explain import Explanation, explain_pairs
from retrieval.indexing import Advance, IndexReport, index_galleries, resolve_gallery
from retrieval.network import Features, Step
from retrieval.pictures import Pixels, Source
from retrieval.search import Hit, open_index, rescored
from retrieval.settings import POOL


@dataclass(frozen=True)
class Result:
    """A query's hits, how many candidates were rescored, and the seconds of each stage."""

    hits: list[Hit]
    pool: int
    seconds: dict[str, float]


class Engine:
    """Index folders of pictures and ask them with a picture.

    Opened with `Engine.open` or `Engine.create`. Raises StoreError, ModelError, PictureError, GalleryError.
    """

    def __init__(self, catalogue: Catalogue, bundle: Bundle, device: str = "auto", on_step: Step = lambda step: None):
        self.catalogue = catalogue
        self.bundle = bundle
        self._comparer = Comparer(bundle, device, on_step)

    @classmethod
    def open(
        cls,
        store: str | os.PathLike[str],
        model: str | None = None,
        device: str = "auto",
        on_step: Step = lambda step: None,
    ) -> Engine:
        """The engine of an existing store, with its own model or another head on the same backbone."""
        catalogue = Catalogue(Path(store))
        kept, made_with = catalogue.setting("model"), catalogue.setting("fingerprint")
        if kept is None or made_with is None:
            raise StoreError(f"{store} has nothing indexed yet: run `retrieve index GALLERY`")
        bundle = find_bundle(model or kept)
        if bundle.fingerprint != made_with:
            raise StoreError(
                f"{store} was indexed with another model ({kept}) than {bundle.card.name}: give that model with"
                " --model, or index the gallery again into another --store"
            )
        return cls(catalogue, bundle, device, on_step)

    @classmethod
    def create(
        cls,
        store: str | os.PathLike[str],
        model: str | None = None,
        device: str = "auto",
        on_step: Step = lambda step: None,
    ) -> Engine:
        """The engine of a new store, with the model `default` where none is named; an existing one is opened."""
        catalogue = Catalogue(Path(store), create=True)
        if catalogue.setting("model") is None:
            bundle = find_bundle(model or "default")
            name = model or "default" if bundle.is_shipped else str(bundle.folder)
            catalogue.set_settings(model=name, fingerprint=bundle.fingerprint)
        catalogue.close()
        return cls.open(store, model, device, on_step)

    @cached_property
    def _index(self) -> VectorIndex:
        return open_index(self.catalogue, self.bundle.fingerprint)

    def load(self) -> None:
        """Open the network now, not on first use."""
        self._comparer.load()

    def close(self) -> None:
        """Give back the store's files."""
        self.catalogue.close()

    def index(
        self,
        *galleries: str | os.PathLike[str],
        advance: Advance = lambda files: None,
        on_folders: Callable[[list[bytes]], None] = lambda folders: None,
    ) -> IndexReport:
        """Bring these galleries (all known ones where none is given) up to date in the store.

        Where a folder is gone nothing is done at all, and a folder without pictures loses none.
        """
        folders = [resolve_gallery(gallery) for gallery in galleries or map(os.fsdecode, self.catalogue.roots())]
        if not folders:
            raise GalleryError("the store knows no gallery yet: give a folder of pictures")
        on_folders(folders)
        fingerprint, size = self.bundle.fingerprint, self.bundle.card.preprocessing.size
        self.__dict__.pop("_index", None)
        report = index_galleries(self.catalogue, self._comparer.network, fingerprint, size, folders, advance)
        _ = self._index  # writes its file
        return report

    def query(self, source: Source, top: int = 5, explain: bool = True) -> list[Hit]:
        """The `top` most similar pictures of the store, best first, each with its explanation."""
        return self.search(source, top, explain=explain).hits

    def search(
        self,
        source: Source,
        top: int = 5,
        pool: int = POOL,
        label: str | None = None,
        min_similarity: float = 0.0,
        explain: bool = True,
    ) -> Result:
        """A query with its figures. `label` and `min_similarity` (0 to 1) keep only such hits."""
        if not 1 <= top <= pool:
            raise ValueError(f"top must be from 1 to the pool of {pool}, not {top}")
        watch = _Watch()
        with watch("load"):
            index, head, _ = self._index, self.bundle.head, self._comparer.network
        with watch("embed"):
            features = self._comparer.features([self._comparer.pixels(source)])
        descriptor = features.descriptors[0]
        with watch("search"):
            among = self.catalogue.labelled(label) if label is not None else None
            index_distances, ids = index.search(descriptor[None], pool, among)
        with watch("rescore"):
            ranked = rescored(self.catalogue, head, self.bundle.fingerprint, descriptor, ids[0], index_distances[0])
            hits = _present([hit for hit in ranked if hit.similarity >= min_similarity], top)
        if explain:
            with watch("explain"):
                hits = self._explained(features, hits)
        return Result(hits, len(ranked), watch.seconds)

    def explain(self, a: Source, b: Source) -> Explanation:
        """Why two pictures are similar or different: `a` in the place of the query, `b` of the hit."""
        return self._comparer.explain(a, b)

    def preprocess(self, source: Source) -> NDArray[np.float32]:
        """What the network sees of a picture: float32 (3, size, size)."""
        return self._comparer.preprocess(source)

    def _explained(self, query: Features, hits: list[Hit]) -> list[Hit]:
        """The hits, and only those, go through the network again for their activations, in batches."""
        pixels: dict[int, Pixels] = {}
        notes: dict[int, str] = {}
        for hit in hits:
            try:
                pixels[hit.rank] = self._comparer.pixels(hit.path)
            except PictureError as error:
                notes[hit.rank] = f"cannot be explained: the file {error.reason}"
        explanations: dict[int, Explanation] = {}
        if pixels:
            pairs = explain_pairs(self.bundle.head, query, self._comparer.features(list(pixels.values())))
            explanations = dict(zip(pixels, pairs, strict=True))
        return [replace(hit, explanation=explanations.get(hit.rank), note=notes.get(hit.rank)) for hit in hits]


def _present(ranked: list[Hit], top: int) -> list[Hit]:
    """The first `top` whose files are there; a file deleted since it was indexed is no result."""
    hits: list[Hit] = []
    for hit in ranked:
        if len(hits) == top:
            break
        if hit.path.exists() or not hit.path.parent.exists():  # an unmounted disk is not a deleted file
            hits.append(replace(hit, rank=len(hits) + 1))
    return hits


class _Watch:
    """Seconds by stage."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        started = time.perf_counter()
        yield
        self.seconds[stage] = self.seconds.get(stage, 0.0) + time.perf_counter() - started
