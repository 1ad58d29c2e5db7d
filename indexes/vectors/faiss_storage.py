"""The files of FAISS indexes in a store's folder, as a home of indexes."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from indexes.arrays import Vectors
from indexes.vectors import faiss_file, sizing
from indexes.vectors.faiss_index import FaissIndex
from indexes.vectors.sizing import sample_size


class FaissHome:
    """An index is mapped from its file, changed in memory, and written anew."""

    in_place = False

    def __init__(self, folder: Path, fingerprint: str) -> None:
        self._folder = folder
        self._fingerprint = fingerprint

    def load(self, generation: str) -> FaissIndex | None:
        return faiss_file.load(self._folder, self._fingerprint, generation)

    def as_it_is(self) -> FaissIndex | None:
        """None: a reader brings it up to date in its own memory."""
        return None

    def earlier(self) -> list[tuple[str, str]]:
        return [(name, name) for name in faiss_file.generations(self._folder, self._fingerprint)]

    def change(self, generation: str, until: str) -> FaissIndex | None:
        return faiss_file.load(self._folder, self._fingerprint, generation, changeable=True)

    def new(self, channels: int, count: int, sample: Callable[[int], Vectors]) -> FaissIndex:
        if count > sizing.MOST_EXACT:
            return FaissIndex.trained(sample(sample_size(count)), count)
        return FaissIndex.empty(channels, count)

    def keep(self, index: FaissIndex, generation: str) -> None:
        faiss_file.save(index, self._folder, self._fingerprint, generation)

    def clear(self) -> None:
        faiss_file.delete_files(self._folder)

    def turn(self, must_wait: bool) -> AbstractContextManager[bool]:
        """Anyone's: each process changes its own memory, and files are put in place whole."""
        return nullcontext(True)

    def close(self) -> None:
        """Nothing."""
