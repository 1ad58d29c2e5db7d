"""The status of a store, as the command line and the server report it."""

from dataclasses import dataclass
from pathlib import Path

from indexes.catalogue.catalogue import Catalogue
from indexes.catalogue.records import RootCounts
from indexes.vectors.storage import index_address
from retrieval.store.indexing.progress import IndexingProgress, read_progress
from retrieval.store.maintenance.calibration import Calibration, is_in_use, read_calibration
from retrieval.store.maintenance.tuning import Tuning, read_tuning


@dataclass(frozen=True)
class StoreStatus:
    """What a store holds now.

    `address` is that of a catalogue on PostgreSQL. `model` and `fingerprint` are None if nothing is indexed yet.
    `is_calibrated` says whether the calibration is for the model's present head. `failed` files could not be indexed.
    `progress` is that of a running indexing.
    """

    folder: Path
    address: str | None
    model: str | None
    fingerprint: str | None
    generation: str
    index_address: str
    tuning: Tuning | None
    calibration: Calibration | None
    is_calibrated: bool
    galleries: list[RootCounts]
    labels: list[str]
    failed: int
    progress: IndexingProgress | None

    @property
    def pictures(self) -> int:
        """The number of pictures in all galleries, without missing ones."""
        return sum(gallery.pictures for gallery in self.galleries)


def read_status(catalogue: Catalogue, head_digest: str | None = None) -> StoreStatus:
    """Return the status of a store, searched with the head of this digest, or else its own. Raises StoreError."""
    calibration = read_calibration(catalogue)
    if calibration is None or head_digest is None:
        is_calibrated = calibration is not None and is_in_use(calibration, catalogue)
    else:
        is_calibrated = calibration.digest == head_digest
    return StoreStatus(
        folder=catalogue.folder,
        address=catalogue.address,
        model=catalogue.settings.get("model"),
        fingerprint=catalogue.settings.get("fingerprint"),
        generation=catalogue.generation,
        index_address=index_address(catalogue),
        tuning=read_tuning(catalogue),
        calibration=calibration,
        is_calibrated=is_calibrated,
        galleries=catalogue.scans.root_counts(),
        labels=catalogue.pictures.labels(),
        failed=catalogue.scans.count_failures(),
        progress=read_progress(catalogue),
    )
