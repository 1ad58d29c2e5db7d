"""The vector index kept in step with the catalogue: loaded, updated or rebuilt."""

import contextlib
from dataclasses import dataclass
from itertools import chain

from indexes.arrays import Vectors
from indexes.catalogue.catalogue import Catalogue
from indexes.errors import StoreError
from indexes.vectors.base import IndexStorage, TunedIndex
from indexes.vectors.faiss_index import FaissIndex
from indexes.vectors.sizing import still_suits
from indexes.vectors.storage import index_address, open_storage
from retrieval.common.progress import SILENT, Progress
from retrieval.store.maintenance.tuning import read_tuning


def open_index(
    catalogue: Catalogue, fingerprint: str, must_save: bool = False, progress: Progress = SILENT
) -> TunedIndex:
    """Return the index of `open_index_state` alone."""
    return open_index_state(catalogue, fingerprint, must_save, progress)[0]


def open_index_state(
    catalogue: Catalogue, fingerprint: str, must_save: bool = False, progress: Progress = SILENT
) -> tuple[TunedIndex, str | None]:
    """Return the catalogue's vector index, for the caller to close, and its generation; None: it is not current.

    The index is loaded from its storage. If that is of an earlier generation, what has changed since is removed and
    added; if there is none, or it is damaged or of the wrong size, the index is rebuilt. Either is saved for the next
    time if the store is writable; a failure to save is an error only with `must_save`. If an index is updated in place
    and another process is updating it, or that fails, or the store is read-only, it is returned as it is, unless
    `must_save`. Raises StoreError.
    """
    storage = open_storage(catalogue, fingerprint)
    try:
        index, generation = _IndexSync(catalogue, storage, fingerprint, must_save, progress).open()
    finally:
        storage.close()
    tuning = read_tuning(catalogue)
    if tuning and tuning.kind == index.kind:
        index.probes = tuning.probes
    return index, generation


@dataclass(frozen=True)
class _IndexSync:
    catalogue: Catalogue
    storage: IndexStorage
    fingerprint: str
    must_save: bool
    progress: Progress

    def open(self) -> tuple[TunedIndex, str | None]:
        """Return the index and its generation, or None for that if the index is not current."""
        generation = self.catalogue.generation  # read before the index: another process may commit meanwhile
        index = self.storage.load(generation)
        if index is not None:
            return index, generation
        if self.storage.updates_in_place and not self.catalogue.writable and not self.must_save:
            index = self.storage.load_any()
        if index is None:
            with self.storage.index_lock(self.must_save) as granted:
                try:
                    if granted:
                        return self._make_current()
                except StoreError:
                    index = None if self.must_save else self.storage.load_any()
                    if index is None:
                        raise
                else:
                    index = self.storage.load_any()
        if index is None:
            raise StoreError(f"{index_address(self.catalogue)} holds no index yet: run `retrieve index`")
        return index, None

    def _make_current(self) -> tuple[TunedIndex, str]:
        """Return the index of the catalogue's present generation, saved if it can be, and that generation."""
        generation = self.catalogue.generation
        index = self.storage.load(generation)  # another process may have made it meanwhile
        if index is not None:
            return index, generation
        index, generation = self._update() or self._build()
        if self.catalogue.writable and (self.storage.updates_in_place or self.catalogue.generation == generation):
            with contextlib.nullcontext() if self.must_save else contextlib.suppress(StoreError):
                index = self._save(index, generation)
        return index, generation

    def _save(self, index: TunedIndex, generation: str) -> TunedIndex:
        """Save the index, and return it; one in a file is mapped from there, so that processes share its memory."""
        if isinstance(index, FaissIndex) and not len(index):  # nothing must be left of what it held
            self.storage.clear()
            return index
        self.storage.save(index, generation)
        self.catalogue.journal.forget_changes(generation)
        mapped = None if self.storage.updates_in_place else self.storage.load(generation)
        if mapped is None:
            return index
        index.close()
        return mapped

    def _update(self) -> tuple[TunedIndex, str] | None:
        """Apply to an index of an earlier generation what has changed since; returns it with its new generation."""
        count, journal = self.catalogue.pictures.count(), self.catalogue.journal
        for earlier, reached in self.storage.list_generations():
            changes = journal.changes_since(earlier)
            if not count or changes is None or journal.changes_since(reached) is None:
                continue
            generation, touched = changes
            index = self.storage.open_for_update(earlier, generation)
            if index is None:
                continue
            with contextlib.ExitStack() as unless_current:
                unless_current.callback(index.close)
                if still_suits(count, index.lists):
                    index.remove(touched)
                    for ids, vectors in self.catalogue.descriptors.of(touched, self.fingerprint):
                        index.add(ids, vectors)
                    if self._is_complete(index, generation):
                        unless_current.pop_all()
                        return index, generation
        return None

    def _build(self) -> tuple[TunedIndex, str]:
        """Build an index of all pictures; returns it with its generation."""
        generation, count = self.catalogue.generation, self.catalogue.pictures.count()
        chunks = self.catalogue.descriptors.all(self.fingerprint)
        first = next(chunks, None)
        if first is None:
            return FaissIndex.empty(1), generation
        with contextlib.ExitStack() as learning:

            def sample(most: int) -> Vectors:
                learning.enter_context(self.progress.stage("Learning the index"))
                return self.catalogue.descriptors.sample(self.fingerprint, most)[1]

            index = self.storage.create(first[1].shape[1], count, sample)
        is_slow = self.storage.updates_in_place or not index.is_exact
        with contextlib.ExitStack() as on_error:
            on_error.callback(index.close)
            with (self.progress if is_slow else SILENT).stage("Making the index", count) as stage:
                for ids, vectors in chain([first], chunks):
                    index.add(ids, vectors)
                    stage.advance(len(ids))
            if self.storage.updates_in_place and not self._is_complete(index, generation):
                raise StoreError(
                    f"{index_address(self.catalogue)} has not taken all pictures: run `retrieve index` again"
                )
            on_error.pop_all()
        return index, generation

    def _is_complete(self, index: TunedIndex, generation: str) -> bool:
        """Return whether the index has as many pictures as the catalogue, unless others change that meanwhile."""
        return self.catalogue.generation != generation or len(index) == self.catalogue.pictures.count()
