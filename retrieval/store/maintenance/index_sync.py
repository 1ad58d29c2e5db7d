"""The vector index kept in step with the catalogue: as it is kept, brought up to date, or made anew."""

from __future__ import annotations

import contextlib
from itertools import chain

from indexes.arrays import Vectors
from indexes.catalogue.catalogue import Catalogue
from indexes.errors import StoreError
from indexes.vectors.base import IndexStorage, TunedIndex
from indexes.vectors.faiss_index import FaissIndex
from indexes.vectors.storage import index_address, open_storage
from retrieval.common.closing import close_on_error
from retrieval.common.progress import SILENT, Progress
from retrieval.store.maintenance.tuning import read_tuning


def open_index(
    catalogue: Catalogue,
    fingerprint: str,
    must_save: bool = False,
    progress: Progress = SILENT,
) -> TunedIndex:
    """Return the index of `open_index_state` alone."""
    return open_index_state(catalogue, fingerprint, must_save, progress)[0]


def open_index_state(
    catalogue: Catalogue,
    fingerprint: str,
    must_save: bool = False,
    progress: Progress = SILENT,
) -> tuple[TunedIndex, str | None]:
    """Return the catalogue's vector index, for the caller to close, and its generation; None: it is not current.

    The index is loaded from its storage. If that is of an earlier generation, what has changed since is removed and
    added; if there is none, or it is damaged or of the wrong size, the index is rebuilt. Either is saved for the next
    time if the store is writable; a failure to save is an error only with `must_save`. If an index is updated in place
    and another process is updating it, or that fails, or the store is read-only, it is returned as it is, unless
    `must_save`. Raises StoreError.
    """
    home = open_storage(catalogue, fingerprint)
    try:
        generation: str | None = catalogue.generation  # read before the index: another process may commit meanwhile
        index = home.load(generation or "")
        if index is None:
            generation = None
            if home.updates_in_place and not catalogue.writable and not must_save:
                index = home.load_any()
        if index is None:
            with home.index_lock(must_save) as granted:
                if granted:
                    index, generation = _update_or_load_any(catalogue, home, fingerprint, must_save, progress)
                else:
                    index = home.load_any()
        if index is None:
            raise StoreError(f"{index_address(catalogue)} holds no index yet: run `retrieve index`")
    finally:
        home.close()
    tuning = read_tuning(catalogue)
    if tuning and tuning.kind == index.kind:
        index.probes = tuning.probes
    return index, generation


def _update_or_load_any(
    catalogue: Catalogue, home: IndexStorage, fingerprint: str, must_save: bool, progress: Progress
) -> tuple[TunedIndex, str | None]:
    try:
        return _make_current(catalogue, home, fingerprint, must_save, progress)
    except StoreError:
        index = None if must_save else home.load_any()
        if index is None:
            raise
        return index, None


def _make_current(
    catalogue: Catalogue, home: IndexStorage, fingerprint: str, must_save: bool, progress: Progress
) -> tuple[TunedIndex, str]:
    """Return the index of the catalogue's present generation, saved if it can be, and that generation."""
    generation = catalogue.generation
    index = home.load(generation)  # another process may have made it meanwhile
    if index is not None:
        return index, generation
    index, generation = _update(catalogue, home, fingerprint) or _build(catalogue, home, fingerprint, progress)
    if catalogue.writable and (home.updates_in_place or catalogue.generation == generation):
        with contextlib.nullcontext() if must_save else contextlib.suppress(StoreError):
            index = _save(catalogue, home, index, generation)
    return index, generation


def _save(catalogue: Catalogue, home: IndexStorage, index: TunedIndex, generation: str) -> TunedIndex:
    """The same index; one of a file as that has it, which other processes share."""
    if isinstance(index, FaissIndex) and not len(index):  # nothing is left of what it held
        home.clear()
        return index
    home.save(index, generation)
    catalogue.journal.forget_changes(generation)
    mapped = None if home.updates_in_place else home.load(generation)
    if mapped is None:
        return index
    index.close()
    return mapped


def _update(catalogue: Catalogue, home: IndexStorage, fingerprint: str) -> tuple[TunedIndex, str] | None:
    """An index of an earlier generation with what has changed since, and the generation that it is of now."""
    count = catalogue.pictures.count()
    for earlier, reached in home.list_generations():
        changes = catalogue.journal.changes_since(earlier)
        if not count or changes is None or catalogue.journal.changes_since(reached) is None:
            continue
        index = home.open_for_update(earlier, changes.generation)
        if index is None:
            continue
        with close_on_error(index):
            if index.suits(count):
                index.remove(changes.touched)
                for ids, vectors in catalogue.descriptors.of(changes.touched, fingerprint):
                    index.add(ids, vectors)
                if not home.updates_in_place or _is_complete(catalogue, index, changes.generation):
                    return index, changes.generation
        index.close()
    return None


def _build(catalogue: Catalogue, home: IndexStorage, fingerprint: str, progress: Progress) -> tuple[TunedIndex, str]:
    generation, count = catalogue.generation, catalogue.pictures.count()

    chunks = catalogue.descriptors.all(fingerprint)
    first = next(chunks, None)
    if first is None:
        return FaissIndex.empty(1), generation
    with contextlib.ExitStack() as learning:

        def sample(most: int) -> Vectors:
            learning.enter_context(progress.stage("Learning the index"))
            return catalogue.descriptors.sample(fingerprint, most)[1]

        index = home.create(first[1].shape[1], count, sample)
    is_slow = home.updates_in_place or not index.is_exact
    with close_on_error(index):
        with (progress if is_slow else SILENT).stage("Making the index", count) as stage:
            for ids, vectors in chain([first], chunks):
                index.add(ids, vectors)
                stage.advance(len(ids))
        if home.updates_in_place and not _is_complete(catalogue, index, generation):
            raise StoreError(f"{index_address(catalogue)} has not taken all pictures: run `retrieve index` again")
    return index, generation


def _is_complete(catalogue: Catalogue, index: TunedIndex, generation: str) -> bool:
    """Whether it holds as many pictures as it should, as far as that can be told while others change them."""
    return catalogue.generation != generation or len(index) == catalogue.pictures.count()
