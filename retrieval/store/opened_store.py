"""A store and its model opened together, or made: the index as the catalogue is now, the calibration."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

from indexes.catalogue.catalogue import Catalogue
from indexes.catalogue.open_database import is_store
from indexes.errors import StoreError
from indexes.vectors.base import TunedIndex
from indexes.vectors.storage import set_storage
from retrieval.common.errors import ModelError
from retrieval.common.progress import SILENT, Progress
from retrieval.model.bundle import Bundle, find_bundle
from retrieval.model.encoder import Encoder
from retrieval.model.head import Head
from retrieval.store.maintenance.calibration import Calibration, read_calibration
from retrieval.store.maintenance.index_sync import open_index_state

_LONG, _REUSE_FACTOR = 0.5, 10  # an index that took more seconds to open is kept for so many times as long
_RETRY_SECONDS = 1.0  # seconds until one that was not of now is opened anew


class OpenedStore:
    """Opened with `open` or `create`. Raises StoreError, ModelError."""

    def __init__(self, catalogue: Catalogue, encoder: Encoder) -> None:
        self.catalogue = catalogue
        self.bundle = encoder.bundle
        self.encoder = encoder
        self._open_index: tuple[str, TunedIndex] | None = None  # the index, with its generation
        self._recheck_at = 0.0

    @classmethod
    def open(
        cls,
        store: str | os.PathLike[str],
        model: str | None = None,
        device: str = "auto",
        progress: Progress = SILENT,
    ) -> Self:
        """The engine of an existing store, with its own model or another head on the same backbone."""
        return cls._of(Catalogue(Path(store)), model, device, progress)

    @classmethod
    def create(
        cls,
        store: str | os.PathLike[str],
        model: str | None = None,
        device: str = "auto",
        progress: Progress = SILENT,
        address: str | None = None,
        embeds_locally: bool = True,
    ) -> Self:
        """The engine of a new store, with the model `default` where none is named; an existing one is opened.

        The network of a new store is opened at once, unless pictures are to be embedded elsewhere (not `is_here`).

        With the address of a PostgreSQL database, a new store's catalogue lies there, and may have been begun by
        another store; an existing store's must lie there already.
        """
        if _is_initialized(Path(store), address):
            return cls._of(Catalogue(Path(store), create=True, address=address), model, device, progress)
        comparer = Encoder(find_bundle(model or "default"), device, progress)
        name = _stored_name(comparer.bundle, model or "default")
        if embeds_locally:
            comparer.load()  # a model that cannot run leaves no store behind
        catalogue = Catalogue(Path(store), create=True, address=address)
        with _close_on_error(catalogue):
            catalogue.set_defaults(model=name, fingerprint=comparer.bundle.fingerprint)
            _check_model(catalogue, comparer.bundle)
        return cls(catalogue, comparer)

    @classmethod
    def _of(cls, catalogue: Catalogue, model: str | None, device: str, progress: Progress) -> Self:
        with _close_on_error(catalogue):
            kept = catalogue.setting("model")
            if kept is None:
                raise StoreError(f"{catalogue.folder} has nothing indexed yet: run `retrieve index GALLERY`")
            bundle = find_bundle(model or kept)
            _check_model(catalogue, bundle)
        return cls(catalogue, Encoder(bundle, device, progress))

    def set_index_address(self, address: str) -> None:
        """Keep the store's index there from the next `index` on: `faiss`, or the address of a Milvus.

        Raises StoreError where it cannot be kept there.
        """
        set_storage(self.catalogue, self.bundle.fingerprint, address)
        self.use_index(None)

    def use_index(self, opened: tuple[str, TunedIndex] | None) -> None:
        """Search this index from now on, and give back the one before."""
        before, self._open_index = self._open_index, opened
        if before is not None:
            before[1].close()

    def current_index(self) -> TunedIndex:
        """The index of the catalogue as it is now; another process may have changed it since the last call.

        Where it takes long to follow, as that of a large gallery that is being indexed, it is followed now and then.
        """
        generation = self.catalogue.generation
        if self._open_index is None or (self._open_index[0] != generation and time.monotonic() >= self._recheck_at):
            started = time.monotonic()
            index, is_now = open_index_state(self.catalogue, self.bundle.fingerprint)
            self.use_index((generation if is_now else "", index))
            took = time.monotonic() - started
            self._recheck_at = (
                started + took * (_REUSE_FACTOR if took > _LONG else 1) + (0.0 if is_now else _RETRY_SECONDS)
            )
        assert self._open_index is not None
        return self._open_index[1]

    @property
    def calibration(self) -> Calibration | None:
        """What the store's similarity is calibrated by; None where it is not, or is for another head than this one."""
        kept = read_calibration(self.catalogue)
        return kept if kept and kept.digest == self.bundle.head.digest else None

    @property
    def head(self) -> Head:
        """The model's head, as the store is calibrated now: another process may change that at any time."""
        head, calibration = self.bundle.head, self.calibration
        return head.calibrated(calibration.slope, calibration.intercept) if calibration else head

    def load(self) -> None:
        """Open the network now, not on first use."""
        self.encoder.load()

    def close(self) -> None:
        """Give back the store's files, and its index."""
        self.use_index(None)
        self.catalogue.close()


@contextmanager
def _close_on_error(catalogue: Catalogue) -> Iterator[None]:
    try:
        yield
    except BaseException:
        catalogue.close()
        raise


def _is_initialized(store: Path, address: str | None) -> bool:
    if address is None and not is_store(store):
        return False
    catalogue = Catalogue(store, address=address)
    try:
        return catalogue.setting("model") is not None
    finally:
        catalogue.close()


def _check_model(catalogue: Catalogue, bundle: Bundle) -> None:
    """Vectors of two models never meet in one search."""
    if catalogue.setting("fingerprint") != bundle.fingerprint:
        raise StoreError(
            f"{catalogue.folder} was indexed with another model ({catalogue.setting('model')}) than"
            f" {bundle.card.name}: give that model with --model, or index the gallery again into another --store"
        )


def _stored_name(bundle: Bundle, name: str) -> str:
    """By what a store finds its model again: its name, or its folder where it does not come with the package."""
    kept = name if bundle.is_shipped else str(bundle.folder)
    try:
        kept.encode()
    except UnicodeEncodeError as error:
        raise ModelError(f"{bundle.folder} has a name that is no UTF-8: give the model's folder another") from error
    return kept
