"""The vector index kept in step with the catalogue: mapped from its file, brought up to date, or made anew."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

from indexes import faiss_file
from indexes.catalogue import Catalogue
from indexes.errors import StoreError
from indexes.faiss_index import MOST_EXACT, FaissIndex, sample_size
from retrieval.tuning import read_tuning

Stage = Callable[[str, int], None]
"""Called with the title and the number of pictures of a stage that may take long, before it begins."""

Advance = Callable[[int], None]
"""Called with the number of pictures that were dealt with since the last call."""


def open_index(
    catalogue: Catalogue,
    fingerprint: str,
    must_save: bool = False,
    on_stage: Stage = lambda title, pictures: None,
    advance: Advance = lambda pictures: None,
) -> FaissIndex:
    """The catalogue's vector index as it is now.

    It comes from its file. Where that is of an earlier generation, what has changed since is taken out and added;
    where there is none, or it is damaged or of the wrong size, it is made anew. Either is written for the next time
    where the store can be written; a failure of that is an error only with `must_save`. Raises StoreError.
    """
    index = faiss_file.load(catalogue.folder, fingerprint, catalogue.generation)
    if index is None:
        index, generation = _followed(catalogue, fingerprint) or _built(catalogue, fingerprint, on_stage, advance)
        if catalogue.writable and catalogue.generation == generation:
            with contextlib.nullcontext() if must_save else contextlib.suppress(StoreError):
                _kept(catalogue, index, fingerprint, generation)
    tuning = read_tuning(catalogue)
    if tuning and tuning.kind == index.kind:
        index.probes = tuning.probes
    return index


def _kept(catalogue: Catalogue, index: FaissIndex, fingerprint: str, generation: str) -> None:
    if len(index):
        faiss_file.save(index, catalogue.folder, fingerprint, generation)
        catalogue.forget_changes(generation)
    else:  # nothing is left of what it held
        faiss_file.delete_files(catalogue.folder)


def _followed(catalogue: Catalogue, fingerprint: str) -> tuple[FaissIndex, str] | None:
    """An index of an earlier generation with what has changed since, and the generation that it is of now."""
    for earlier in faiss_file.generations(catalogue.folder, fingerprint):
        changes = catalogue.changes_since(earlier)
        if changes is None:
            continue
        index = faiss_file.load(catalogue.folder, fingerprint, earlier, changeable=True)
        if index is None or not index.suits(catalogue.count()):
            continue
        index.remove(changes.touched)
        for ids, vectors in catalogue.vectors_of(changes.touched, fingerprint):
            index.add(ids, vectors)
        return index, changes.generation
    return None


def _built(catalogue: Catalogue, fingerprint: str, on_stage: Stage, advance: Advance) -> tuple[FaissIndex, str]:
    generation, count = catalogue.generation, catalogue.count()
    built: FaissIndex | None = None
    if count > MOST_EXACT:
        on_stage("Learning the index", 0)
        built = FaissIndex.trained(catalogue.sample(fingerprint, sample_size(count))[1], count)
        on_stage("Making the index", count)
    for ids, vectors in catalogue.vectors(fingerprint):
        built = FaissIndex.empty(vectors.shape[1], count) if built is None else built
        built.add(ids, vectors)
        advance(len(ids))
    return FaissIndex.empty(1) if built is None else built, generation
