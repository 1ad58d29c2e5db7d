"""The status of a store, as the command line and the server report it."""

import os
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from indexes.catalogue.catalogue import Catalogue
from indexes.catalogue.records import RootCounts
from indexes.vectors.storage import index_address
from retrieval.common.errors import ModelError
from retrieval.common.text import count_noun
from retrieval.model.bundle import Bundle, find_bundle
from retrieval.sources.location import gallery_name, is_address
from retrieval.store.indexing.progress import IndexingProgress, read_progress
from retrieval.store.indexing.report import read_passed_over
from retrieval.store.maintenance.calibration import Calibration, read_calibration, shown_similarity
from retrieval.store.maintenance.tuning import Tuning, read_tuning
from retrieval.store.similarity import StoreSimilarity


@dataclass(frozen=True)
class StoreStatus:
    """What a store holds now.

    `address` is that of a catalogue on PostgreSQL. `model` and `fingerprint` are None if nothing is indexed yet.
    `similarity` is None as well if the model is gone; a calibration of another head is not in it. `failed` files could
    not be indexed. `progress` is that of a running indexing, `passed_over` what indexing has passed over.
    """

    folder: Path
    address: str | None
    model: str | None
    fingerprint: str | None
    generation: str
    index_address: str
    tuning: Tuning | None
    calibration: Calibration | None
    similarity: StoreSimilarity | None
    galleries: list[RootCounts]
    labels: list[str]
    failed: int
    progress: IndexingProgress | None
    passed_over: Counter[str]

    @property
    def is_calibrated(self) -> bool:
        """Whether similarity is calibrated to the gallery, for the model's present head."""
        return self.similarity is not None and self.similarity.is_calibrated

    @property
    def pictures(self) -> int:
        """The number of pictures in all galleries, without missing ones."""
        return sum(gallery.pictures for gallery in self.galleries)


def is_present(gallery: bytes) -> bool | None:
    """Return whether a gallery is where it was indexed; None if it is not on this machine, and so not looked up."""
    name = gallery_name(gallery)
    return None if is_address(name) else os.path.exists(name)


def absent_notes(galleries: Iterable[RootCounts]) -> Iterator[str]:
    """Yield what becomes of each gallery with pictures that is not there now."""
    for count in galleries:
        if count.pictures and is_present(count.root) is False:
            name = gallery_name(count.root)
            yield (
                f"{name} is not there now, so what it held ({count_noun(count.pictures, 'picture')}) yields to equal"
                f" files elsewhere; if it was moved for good: `retrieve remove {name}`"
            )


def read_status(catalogue: Catalogue, bundle: Bundle | None = None) -> StoreStatus:
    """Return the status of a store, searched with this model, or else its own. Raises StoreError."""
    name, similarity = catalogue.settings.get("model"), None
    if name or bundle:
        with suppress(ModelError):  # it is gone
            similarity = shown_similarity(catalogue, bundle or find_bundle(name or ""))
    return StoreStatus(
        folder=catalogue.folder,
        address=catalogue.address,
        model=name,
        fingerprint=catalogue.settings.get("fingerprint"),
        generation=catalogue.generation,
        index_address=index_address(catalogue),
        tuning=read_tuning(catalogue),
        calibration=read_calibration(catalogue),
        similarity=similarity,
        galleries=catalogue.scans.root_counts(),
        labels=catalogue.pictures.labels(),
        failed=catalogue.scans.count_failures(),
        progress=read_progress(catalogue),
        passed_over=read_passed_over(catalogue),
    )
