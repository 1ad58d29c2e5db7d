"""How far an indexing is, kept in the store while it goes on, so that any process can tell."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from threading import Lock, Thread

from indexes.catalogue.catalogue import Catalogue
from indexes.errors import StoreError
from retrieval.common.errors import RetrievalError
from retrieval.sources.gallery import count_met

EVERY = 1.0
"""Seconds between two notes; an indexing that is done within the first leaves none."""

STALE = 60.0
"""Seconds after which an indexing that has noted nothing more is taken for dead: 32 huge pictures take less."""

_NAME = "under_way"


@dataclass(frozen=True)
class UnderWay:
    """Files dealt with, of how many (None until they are counted), and when it began and noted this (Unix time)."""

    done: int
    total: int | None
    began: float
    noted: float


def read_under_way(catalogue: Catalogue) -> UnderWay | None:
    """How far an indexing of the store is; None where none goes on. Raises StoreError."""
    kept = catalogue.setting(_NAME)
    try:
        found = UnderWay(**json.loads(kept)) if kept else None
    except (ValueError, TypeError):  # of another version
        return None
    return found if found and time.time() - found.noted < STALE else None


@contextmanager
def noted(catalogue: Catalogue, folders: list[bytes]) -> Iterator[Callable[[int], None]]:
    """Note how far an indexing of these folders is, until this ends; called with the files dealt with since."""
    notes = _Notes(catalogue, folders)
    try:
        yield notes.advance
    finally:
        notes.end()


class _Notes:
    def __init__(self, catalogue: Catalogue, folders: list[bytes]) -> None:
        self._catalogue = catalogue
        self._folders = folders
        self._lock = Lock()
        self._done = 0
        self._total: int | None = None
        self._began = self._noted = time.time()
        self._is_noted = False

    def advance(self, files: int) -> None:
        with self._lock:
            self._done += files
            now = time.time()
            if now - self._noted < EVERY:
                return
            if not self._is_noted:  # it takes long enough to be counted
                self._is_noted = True
                Thread(target=self._count, name="counter", daemon=True).start()
            self._noted = now
            self._write(json.dumps(asdict(UnderWay(self._done, self._total, self._began, now))))

    def end(self) -> None:
        if self._is_noted:
            self._write("")

    def _count(self) -> None:
        with suppress(RetrievalError):  # which the indexing itself will tell
            self._total = count_met(self._folders)

    def _write(self, value: str) -> None:
        with suppress(StoreError):  # the batches tell of it themselves
            self._catalogue.set_settings(**{_NAME: value})
