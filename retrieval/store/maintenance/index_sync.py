"""The vector index kept in step with the catalogue: as it is kept, brought up to date, or made anew."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from itertools import chain

from indexes.arrays import Vectors
from indexes.catalogue.catalogue import Catalogue
from indexes.errors import StoreError
from indexes.vectors.base import IndexStorage, TunedIndex
from indexes.vectors.faiss_index import FaissIndex
from indexes.vectors.storage import index_address, open_storage
from retrieval.common.progress import SILENT, Progress
from retrieval.store.maintenance.tuning import read_tuning


def open_index(
    catalogue: Catalogue,
    fingerprint: str,
    must_save: bool = False,
    progress: Progress = SILENT,
) -> TunedIndex:
    """The catalogue's vector index, to be closed in the end: that of `opened_index`."""
    return open_index_state(catalogue, fingerprint, must_save, progress)[0]


def open_index_state(
    catalogue: Catalogue,
    fingerprint: str,
    must_save: bool = False,
    progress: Progress = SILENT,
) -> tuple[TunedIndex, bool]:
    """The catalogue's vector index, to be closed in the end, and whether it is of now.

    It comes from where it is kept. Where that is of an earlier generation, what has changed since is taken out and
    added; where there is none, or it is damaged or of the wrong size, it is made anew. Either is kept for the next time
    where the store can be written; a failure of that is an error only with `must_save`. Where an index is changed in
    its place and another process is at it, or that fails, or the store cannot be written, it is searched as it is,
    unless `must_save`. Raises StoreError.
    """
    home = open_storage(catalogue, fingerprint)
    try:
        index = home.load(catalogue.generation)
        is_now = index is not None
        if index is None and home.updates_in_place and not catalogue.writable and not must_save:
            index = home.load_any()
        if index is None:
            with home.index_lock(must_save) as granted:
                if granted:
                    index, is_now = _update_or_load_any(catalogue, home, fingerprint, must_save, progress)
                else:
                    index = home.load_any()
        if index is None:
            raise StoreError(f"{index_address(catalogue)} holds no index yet: run `retrieve index`")
    finally:
        home.close()
    tuning = read_tuning(catalogue)
    if tuning and tuning.kind == index.kind:
        index.probes = tuning.probes
    return index, is_now


def _update_or_load_any(
    catalogue: Catalogue, home: IndexStorage, fingerprint: str, must_save: bool, progress: Progress
) -> tuple[TunedIndex, bool]:
    try:
        return _make_current(catalogue, home, fingerprint, must_save, progress), True
    except StoreError:
        index = None if must_save else home.load_any()
        if index is None:
            raise
        return index, False


def _make_current(
    catalogue: Catalogue, home: IndexStorage, fingerprint: str, must_save: bool, progress: Progress
) -> TunedIndex:
    """The index of now, and kept as that where it can be."""
    index = home.load(catalogue.generation)  # another process may have made it meanwhile
    if index is not None:
        return index
    index, generation = _update(catalogue, home, fingerprint) or _build(catalogue, home, fingerprint, progress)
    if catalogue.writable and (home.updates_in_place or catalogue.generation == generation):
        with contextlib.nullcontext() if must_save else contextlib.suppress(StoreError):
            index = _save(catalogue, home, index, generation)
    return index


def _save(catalogue: Catalogue, home: IndexStorage, index: TunedIndex, generation: str) -> TunedIndex:
    """The same index; one of a file as that has it, which other processes share."""
    if isinstance(index, FaissIndex) and not len(index):  # nothing is left of what it held
        home.clear()
        return index
    home.save(index, generation)
    catalogue.forget_changes(generation)
    mapped = None if home.updates_in_place else home.load(generation)
    if mapped is None:
        return index
    index.close()
    return mapped


def _update(catalogue: Catalogue, home: IndexStorage, fingerprint: str) -> tuple[TunedIndex, str] | None:
    """An index of an earlier generation with what has changed since, and the generation that it is of now."""
    count = catalogue.count()
    for earlier, reached in home.list_generations():
        changes = catalogue.changes_since(earlier)
        if not count or changes is None or catalogue.changes_since(reached) is None:
            continue
        index = home.open_for_update(earlier, changes.generation)
        if index is None:
            continue
        with _close_on_error(index):
            if index.suits(count):
                index.remove(changes.touched)
                for ids, vectors in catalogue.vectors_of(changes.touched, fingerprint):
                    index.add(ids, vectors)
                if not home.updates_in_place or _is_complete(catalogue, index, changes.generation):
                    return index, changes.generation
        index.close()
    return None


def _build(catalogue: Catalogue, home: IndexStorage, fingerprint: str, progress: Progress) -> tuple[TunedIndex, str]:
    generation, count = catalogue.generation, catalogue.count()

    chunks = catalogue.vectors(fingerprint)
    first = next(chunks, None)
    if first is None:
        return FaissIndex.empty(1), generation
    with contextlib.ExitStack() as learning:

        def sample(most: int) -> Vectors:
            learning.enter_context(progress.stage("Learning the index"))
            return catalogue.sample(fingerprint, most)[1]

        index = home.create(first[1].shape[1], count, sample)
    is_slow = home.updates_in_place or not index.is_exact
    with _close_on_error(index):
        with (progress if is_slow else SILENT).stage("Making the index", count) as stage:
            for ids, vectors in chain([first], chunks):
                index.add(ids, vectors)
                stage.advance(len(ids))
        if home.updates_in_place and not _is_complete(catalogue, index, generation):
            raise StoreError(f"{index_address(catalogue)} has not taken all pictures: run `retrieve index` again")
    return index, generation


def _is_complete(catalogue: Catalogue, index: TunedIndex, generation: str) -> bool:
    """Whether it holds as many pictures as it should, as far as that can be told while others change them."""
    return catalogue.generation != generation or len(index) == catalogue.count()


@contextlib.contextmanager
def _close_on_error(index: TunedIndex) -> Iterator[None]:
    try:
        yield
    except BaseException:
        index.close()
        raise
