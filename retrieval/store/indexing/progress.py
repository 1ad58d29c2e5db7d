"""The progress of an indexing, recorded in the store while it runs, so that any process can read it."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from threading import Lock

from indexes.catalogue.catalogue import Catalogue
from indexes.errors import StoreError
from retrieval.common.jsonable import from_json
from retrieval.common.progress import SILENT_STAGE, Total, WorkStage

WRITE_INTERVAL = 1.0
"""Seconds between two writes; an indexing that takes less writes nothing."""

STALE_AFTER = 60.0
"""Seconds without a write after which an indexing is taken for dead: a batch of 32 huge pictures takes less."""

_SETTING = "under_way"


@dataclass(frozen=True)
class IndexingProgress:
    """Files done, of how many (None until all are walked), when it began, and when this was written (Unix time)."""

    done: int
    total: int | None
    began: float
    noted: float


def read_progress(catalogue: Catalogue) -> IndexingProgress | None:
    """Return the progress of the store's indexing; None if none is running. Raises StoreError."""
    stored = catalogue.settings.get(_SETTING)
    try:
        progress: IndexingProgress | None = from_json(IndexingProgress, json.loads(stored)) if stored else None
    except (ValueError, RecursionError):  # of another version
        return None
    return progress if progress and time.time() - progress.noted < STALE_AFTER else None


@contextmanager
def recorded_progress(catalogue: Catalogue, stage: WorkStage = SILENT_STAGE) -> Iterator[WorkStage]:
    """Record the progress of an indexing in the store until it ends; the yielded stage reports to `stage` too."""
    writer = _ProgressWriter(catalogue, stage)
    try:
        yield writer
    finally:
        writer.clear()


class _ProgressWriter(WorkStage):
    def __init__(self, catalogue: Catalogue, stage: WorkStage) -> None:
        self._catalogue = catalogue
        self._stage = stage
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
            if now - self._written_at >= WRITE_INTERVAL:
                self._is_written = True
                self._written_at = now
                self._write(json.dumps(asdict(IndexingProgress(self._done, self._total, self._began, now))))

    def expect(self, total: Total) -> None:
        self._stage.expect(total)
        self._total = total() if callable(total) else total

    def clear(self) -> None:
        if self._is_written:
            self._write("")

    def _write(self, value: str) -> None:
        with suppress(StoreError):  # the batches report it
            self._catalogue.settings.set(**{_SETTING: value})
