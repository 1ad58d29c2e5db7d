"""How far an indexing is, kept in the store while it goes on, so that any process can tell."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from threading import Lock, Thread

from indexes.catalogue.catalogue import Catalogue
from indexes.errors import StoreError
from retrieval.common.errors import RetrievalError
from retrieval.common.progress import SILENT_STAGE, WorkStage
from retrieval.sources.gallery import count_gallery_files

WRITE_INTERVAL = 1.0
"""Seconds between two notes; an indexing that is done within the first leaves none."""

STALE_AFTER = 60.0
"""Seconds after which an indexing that has noted nothing more is taken for dead: 32 huge pictures take less."""

_SETTING = "under_way"


@dataclass(frozen=True)
class IndexingProgress:
    """Files dealt with, of how many (None until they are counted), and when it began and noted this (Unix time)."""

    done: int
    total: int | None
    began: float
    noted: float


def read_progress(catalogue: Catalogue) -> IndexingProgress | None:
    """How far an indexing of the store is; None where none goes on. Raises StoreError."""
    kept = catalogue.settings.get(_SETTING)
    try:
        found = IndexingProgress(**json.loads(kept)) if kept else None
    except (ValueError, TypeError):  # of another version
        return None
    return found if found and time.time() - found.noted < STALE_AFTER else None


@contextmanager
def recorded_progress(
    catalogue: Catalogue, folders: list[bytes], stage: WorkStage = SILENT_STAGE
) -> Iterator[WorkStage]:
    """Record how far an indexing of these folders is, until this ends: what is yielded advances `stage` too."""
    notes = _ProgressWriter(catalogue, folders, stage)
    try:
        yield notes
    finally:
        notes.clear()


class _ProgressWriter(WorkStage):
    def __init__(self, catalogue: Catalogue, folders: list[bytes], stage: WorkStage) -> None:
        self._stage = stage
        self._catalogue = catalogue
        self._folders = folders
        self._lock = Lock()
        self._done = 0
        self._total: int | None = None
        self._began = self._written_at = time.time()
        self._is_written = False

    def advance(self, count: int = 1) -> None:
        self._stage.advance(count)
        with self._lock:
            self._done += count
            now = time.time()
            if now - self._written_at < WRITE_INTERVAL:
                return
            if not self._is_written:  # it takes long enough to be counted
                self._is_written = True
                Thread(target=self._count, name="counter", daemon=True).start()
            self._written_at = now
            self._write(json.dumps(asdict(IndexingProgress(self._done, self._total, self._began, now))))

    def clear(self) -> None:
        if self._is_written:
            self._write("")

    def _count(self) -> None:
        with suppress(RetrievalError):  # which the indexing itself will tell
            self._total = count_gallery_files(self._folders)

    def _write(self, value: str) -> None:
        with suppress(StoreError):  # the batches tell of it themselves
            self._catalogue.settings.set(**{_SETTING: value})
