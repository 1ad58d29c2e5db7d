"""The storage of FAISS indexes: files in the store's folder."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from indexes.arrays import Vectors
from indexes.vectors import faiss_file, sizing
from indexes.vectors.faiss_index import FaissIndex


class FaissStorage:
    """A storage whose indexes are mapped from a file, changed in memory, and written anew."""

    updates_in_place = False

    def __init__(self, folder: Path, fingerprint: str) -> None:
        self._folder = folder
        self._fingerprint = fingerprint

    def load(self, generation: str) -> FaissIndex | None:
        return faiss_file.load(self._folder, self._fingerprint, generation)

    def load_any(self) -> FaissIndex | None:
        """Return None: a reader updates an index in its own memory."""
        return None

    def list_generations(self) -> list[tuple[str, str]]:
        return [(name, name) for name in faiss_file.list_generations(self._folder, self._fingerprint)]

    def open_for_update(self, generation: str, target: str) -> FaissIndex | None:
        return faiss_file.load(self._folder, self._fingerprint, generation, writable=True)

    def create(self, channels: int, count: int, sample: Callable[[int], Vectors]) -> FaissIndex:
        if count > sizing.MOST_EXACT:
            return FaissIndex.train(sample(sizing.sample_size(count)), count)
        return FaissIndex.empty(channels, count)

    def save(self, index: FaissIndex, generation: str) -> None:
        faiss_file.save(index, self._folder, self._fingerprint, generation)

    def clear(self) -> None:
        faiss_file.delete_files(self._folder)

    def index_lock(self, blocking: bool) -> AbstractContextManager[bool]:
        """Return a lock that is always granted: processes change their own memory and write files atomically."""
        return nullcontext(True)

    def close(self) -> None:
        """Do nothing."""
