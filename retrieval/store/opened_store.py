"""A store opened together with its model: catalogue, encoder, current index and calibration."""

import logging
import time
from pathlib import Path

from indexes.catalogue.catalogue import Catalogue
from indexes.catalogue.open_database import is_store
from indexes.errors import StoreError
from indexes.vectors.base import TunedIndex
from retrieval.common.errors import ModelError
from retrieval.common.progress import SILENT, Progress
from retrieval.model.bundle import Bundle, find_bundle
from retrieval.model.encoder import Encoder
from retrieval.model.head import Head
from retrieval.store.maintenance.calibration import Calibration, read_calibration
from retrieval.store.maintenance.index_sync import open_index_state

_LOGGER = logging.getLogger(__name__)
_LONG, _REUSE_FACTOR = 0.5, 10  # an index that took more seconds to open is kept for that many times as long
_RETRY_SECONDS = 1.0  # until an index that was not current is opened anew


class OpenedStore:
    """The opened parts of a store, until `close`. Methods raise StoreError and ModelError."""

    def __init__(self, catalogue: Catalogue, encoder: Encoder) -> None:
        self.catalogue = catalogue
        self.bundle = encoder.bundle
        self.encoder = encoder
        self._index: TunedIndex | None = None
        self._index_generation: str | None = None  # the catalogue's generation of that index; None: not current
        self._recheck_at = 0.0
        _LOGGER.info("store %s with the model %s", catalogue.folder, encoder.bundle.card.name)

    def current_index(self) -> TunedIndex:
        """Return the index of the catalogue as it is now; another process may have changed it since the last call.

        If it takes long to bring up to date, as that of a large gallery that is being indexed, an older index is
        returned for a while.
        """
        is_stale = self._index_generation is None or self._index_generation != self.catalogue.generation
        if self._index is None or (is_stale and time.monotonic() >= self._recheck_at):
            started = time.monotonic()
            self._replace_index(*open_index_state(self.catalogue, self.bundle.fingerprint))
            seconds = time.monotonic() - started
            self._recheck_at = started + seconds * (_REUSE_FACTOR if seconds > _LONG else 1)
            if self._index_generation is None:
                self._recheck_at += _RETRY_SECONDS
        assert self._index is not None
        return self._index

    def update_index(self, progress: Progress = SILENT) -> TunedIndex:
        """Bring the index up to date with the catalogue and save it; return it. Raises StoreError if that fails."""
        index, generation = open_index_state(self.catalogue, self.bundle.fingerprint, must_save=True, progress=progress)
        self._replace_index(index, generation)
        return index

    def release_index(self) -> None:
        """Close the index; it is opened again on its next use."""
        self._replace_index(None, None)

    def _replace_index(self, index: TunedIndex | None, generation: str | None) -> None:
        previous, self._index, self._index_generation = self._index, index, generation
        if previous is not None:
            previous.close()

    @property
    def calibration(self) -> Calibration | None:
        """The store's calibration; None if it has none, or one for another head than this one."""
        calibration = read_calibration(self.catalogue)
        return calibration if calibration and calibration.digest == self.bundle.head.digest else None

    @property
    def head(self) -> Head:
        """The model's head as the store is calibrated now; another process may change that at any time."""
        head, calibration = self.bundle.head, self.calibration
        return head.calibrated(calibration.slope, calibration.intercept) if calibration else head

    def close(self) -> None:
        """Close the store's files and its index."""
        self.release_index()
        self.catalogue.close()


def is_initialized(store: Path, address: str | None) -> bool:
    """Return whether the store has a model, so that it must be opened, not made."""
    if address is None and not is_store(store):
        return False
    with Catalogue(store, address=address) as catalogue:
        return catalogue.settings.get("model") is not None


def open_encoder(catalogue: Catalogue, model: str | None, device: str, progress: Progress) -> Encoder:
    """Return the encoder of a store's own model, or of another one if that fits the store."""
    stored_name = catalogue.settings.get("model")
    if stored_name is None:
        raise StoreError(f"{catalogue.folder} has nothing indexed yet: run `retrieve index GALLERY`")
    bundle = find_bundle(model or stored_name)
    check_model(catalogue, bundle)
    return Encoder(bundle, device, progress)


def check_model(catalogue: Catalogue, bundle: Bundle) -> None:
    """Raise StoreError if the store holds another model's vectors: no search may mix the vectors of two models."""
    if catalogue.settings.get("fingerprint") != bundle.fingerprint:
        raise StoreError(
            f"{catalogue.folder} was indexed with another model ({catalogue.settings.get('model')}) than"
            f" {bundle.card.name}: give that model with --model, or index the gallery again into another --store"
        )


def stored_name(bundle: Bundle, name: str) -> str:
    """Return the name by which a store finds its model again: the folder if it is not shipped with the package."""
    stored = name if bundle.is_shipped else str(bundle.folder)
    try:
        stored.encode()
    except UnicodeEncodeError as error:
        raise ModelError(f"the model's folder {bundle.folder} has a name that is not UTF-8: rename it") from error
    return stored
