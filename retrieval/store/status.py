"""The status of a store, as the command line and the server report it."""

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from indexes.catalogue.catalogue import Catalogue
from indexes.catalogue.records import RootCounts
from indexes.vectors.storage import index_address
from retrieval.common.errors import ModelError
from retrieval.model.bundle import Bundle, find_bundle
from retrieval.store.indexing.progress import IndexingProgress, read_progress
from retrieval.store.maintenance.calibration import Calibration, read_calibration, shown_similarity
from retrieval.store.maintenance.tuning import Tuning, read_tuning
from retrieval.store.similarity import StoreSimilarity


@dataclass(frozen=True)
class StoreStatus:
    """What a store holds now.

    `address` is that of a catalogue on PostgreSQL. `model` and `fingerprint` are None if nothing is indexed yet.
    `similarity` is None as well if the model is gone; a calibration of another head is not in it. `failed` files could
    not be indexed. `progress` is that of a running indexing.
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

    @property
    def is_calibrated(self) -> bool:
        """Whether similarity is calibrated to the gallery, for the model's present head."""
        return self.similarity is not None and self.similarity.is_calibrated

    @property
    def pictures(self) -> int:
        """The number of pictures in all galleries, without missing ones."""
        return sum(gallery.pictures for gallery in self.galleries)


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
    )
