"""A store opened together with its model: catalogue, encoder, current index and calibration."""

import logging
import time
from contextlib import suppress

from indexes.catalogue.catalogue import Catalogue
from indexes.errors import StoreError
from indexes.vectors.base import TunedIndex
from retrieval.common.progress import SILENT, Progress
from retrieval.common.text import safe_name
from retrieval.model.encoder import Encoder
from retrieval.model.head import Head
from retrieval.store.maintenance.calibration import Calibration, read_calibration, shown_similarity
from retrieval.store.maintenance.coverage import CoverageRule, require_rule
from retrieval.store.maintenance.gallery_statistics import has_statistics, learn_statistics
from retrieval.store.maintenance.index_sync import open_index_state
from retrieval.store.maintenance.tuning import read_tuning
from retrieval.store.similarity import StoreSimilarity

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
        _LOGGER.info("store %s with the model %s", safe_name(catalogue.folder), encoder.bundle.card.name)

    def current_index(self) -> TunedIndex:
        """Return the index of the catalogue as it is now; another process may have changed it since the last call.

        If it takes long to bring up to date, as that of a large gallery that is being indexed, an older index is
        returned for a while.
        """
        is_stale = self._index_generation is None or self._index_generation != self.catalogue.generation
        if self._index is None or (is_stale and time.monotonic() >= self._recheck_at):
            started = time.monotonic()
            self._replace_index(*open_index_state(self.catalogue, self.bundle.fingerprint))
            self._refresh_statistics()
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
        learn_statistics(self.catalogue, index, self.bundle)
        return index

    def release_index(self) -> None:
        """Close the index; it is opened again on its next use."""
        self._replace_index(None, None)

    def _refresh_statistics(self) -> None:
        """Let the gallery's statistics follow the index, in a store that has them or whose shards left them to this."""
        if self._index and self._index_generation and self.catalogue.writable and has_statistics(self.catalogue):
            with suppress(StoreError):  # another process may be writing; a later query or indexing does it
                learn_statistics(self.catalogue, self._index, self.bundle)

    def _replace_index(self, index: TunedIndex | None, generation: str | None) -> None:
        previous, self._index, self._index_generation = self._index, index, generation
        if previous is not None:
            previous.close()

    @property
    def index_generation(self) -> str | None:
        """The generation of the catalogue that the opened index is of; None if it is not current."""
        return self._index_generation

    @property
    def rescoring_step(self) -> int | None:
        """How many of a query's candidates hold its ten best hits, as measured for this index and head; None: all."""
        tuning = read_tuning(self.catalogue)
        if tuning and self._index and tuning.kind == self._index.kind and tuning.suits(self.ordering_head):
            return tuning.step
        return None

    @property
    def ordering_head(self) -> Head:
        """The head that orders hits now, whatever their similarity is calibrated to."""
        return self.bundle.head.centred(self.head.centre)

    @property
    def calibration(self) -> Calibration | None:
        """The store's calibration; None if it has none, or one for another head than this one."""
        calibration = read_calibration(self.catalogue)
        return calibration if calibration and calibration.digest == self.bundle.head.digest else None

    def coverage_rule(self, coverage: float) -> CoverageRule:
        """Return which hits are needed for this coverage (0 to 1). Raises GalleryError if the labels do not say."""
        return require_rule(self.catalogue, coverage, self.similarity.is_calibrated)

    @property
    def similarity(self) -> StoreSimilarity:
        """How pairs are judged now: by the gallery's statistics and the calibration; another process may change it."""
        return shown_similarity(self.catalogue, self.bundle)

    @property
    def head(self) -> Head:
        """The head that judges pairs now."""
        return self.similarity.head

    def close(self) -> None:
        """Close the store's files and its index."""
        self.release_index()
        self.catalogue.close()
