"""The engine: a store, a model and a network together. What the command line and other programs use."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace

from indexes.vectors.storage import clear_old_storages
from retrieval.common.errors import GalleryError
from retrieval.common.progress import SILENT, Progress
from retrieval.common.settings import RECALL, IndexingBackend
from retrieval.sources.gallery import count_gallery_files, resolve_gallery
from retrieval.sources.location import PictureLocation, gallery_name, parse_location
from retrieval.store.duplicates.groups import Duplicates
from retrieval.store.duplicates.search import DEFAULT_RULES, DuplicateRules, find_duplicates
from retrieval.store.indexing.pipeline import LocalPipeline, Pipeline
from retrieval.store.indexing.progress import recorded_progress
from retrieval.store.indexing.run import IndexReport, index_galleries, outermost
from retrieval.store.indexing.shards import WHOLE, Shard
from retrieval.store.maintenance.index_sync import open_index
from retrieval.store.maintenance.removal import remove_path
from retrieval.store.maintenance.tuning import Tuning, read_tuning, save_tuning, tune
from retrieval.store.query import Queries

INDEX_DEFERRED = "the index was left alone: it follows at the next query or `retrieve index`"
NO_GALLERY = "the store knows no gallery yet: give a folder of pictures"


class Engine(Queries):
    """Index folders of pictures and ask them with a picture.

    Opened with `Engine.open` or `Engine.create`. Raises StoreError, ModelError, PictureError, GalleryError.
    """

    def index(
        self,
        *galleries: str | os.PathLike[str],
        progress: Progress = SILENT,
        shard: Shard = WHOLE,
        backend: IndexingBackend = IndexingBackend.local,
        workers: int | None = None,
    ) -> IndexReport:
        """Bring these galleries (all known ones where none is given) up to date in the store.

        Where one of these is gone nothing is done at all, and one without pictures loses none. A known gallery that
        is gone is told in the report and loses none either, unless all are: then nothing is done. An index of a new
        kind or size is tuned.

        On Ray, files are read and embedded by the `workers` of a cluster (None: all that it has room for). A shard
        of the galleries' files leaves the index as it is, for a run without one or a query to follow.
        """
        absent: list[PictureLocation] = []
        if galleries:
            folders = outermost([resolve_gallery(gallery) for gallery in galleries])
        else:
            folders, absent = _reachable_roots(self.catalogue.roots())
        if not folders:
            raise GalleryError(NO_GALLERY)
        with progress.one_line():
            report = self._index(folders, progress, shard, backend, workers)
        return replace(report, kept_roots=(*absent, *report.kept_roots))

    def _index(
        self, folders: list[bytes], progress: Progress, shard: Shard, backend: IndexingBackend, workers: int | None
    ) -> IndexReport:
        fingerprint = self.bundle.fingerprint
        try:
            with (
                progress.stage("Indexing", lambda: count_gallery_files(folders)) as bar,
                recorded_progress(self.catalogue, folders, bar) as stage,
                self._pipeline(backend, workers) as pipeline,
            ):
                report = index_galleries(self.catalogue, pipeline, fingerprint, folders, stage, shard)
        finally:
            self.encoder.unload()  # the index needs the memory next
        if not shard.is_all:
            return replace(report, notes=(f"{shard} is done; {INDEX_DEFERRED}",))
        index = open_index(self.catalogue, fingerprint, must_save=True, progress=progress)
        self.use_index((self.catalogue.generation, index))
        left = clear_old_storages(self.catalogue, fingerprint)
        tuning = read_tuning(self.catalogue)
        if tuning is None or tuning.kind != index.kind:
            self.tune(progress=progress)
        return report if left is None else replace(report, notes=(left,))

    @contextmanager
    def _pipeline(self, backend: IndexingBackend, workers: int | None) -> Iterator[Pipeline]:
        bundle = self.bundle
        if backend is IndexingBackend.ray:
            from retrieval.store.indexing.ray.cluster import cluster_connection
            from retrieval.store.indexing.ray.pipeline import RayPipeline

            with (
                cluster_connection(),
                closing(RayPipeline(self.catalogue, bundle, self.encoder.device, workers)) as pipeline,
            ):
                yield pipeline
        else:
            size = bundle.card.preprocessing.size
            yield LocalPipeline(self.catalogue, self.encoder.network, bundle.fingerprint, size)

    def tune(self, recall: float = RECALL, progress: Progress = SILENT) -> list[Tuning]:
        """Search no further than this recall@10 takes, as measured on the gallery: each step, the last one kept."""
        index = self.current_index()
        steps = tune(self.catalogue, index, self.bundle.head, self.bundle.fingerprint, recall, progress)
        save_tuning(self.catalogue, steps[-1])
        return steps

    def remove(self, *paths: str | os.PathLike[str]) -> int:
        """Take pictures or whole folders out of the store; how many pictures there were. The files stay."""
        return sum(remove_path(self.catalogue, path).pictures for path in paths)

    def duplicates(self, rules: DuplicateRules = DEFAULT_RULES, progress: Progress = SILENT) -> Duplicates:
        """Groups of pictures that are the same, or alike, by these rules; nothing is deleted."""
        with progress.one_line():
            return find_duplicates(self.catalogue, self.current_index(), self.bundle.fingerprint, rules, progress)


def _reachable_roots(roots: list[bytes]) -> tuple[list[bytes], list[PictureLocation]]:
    """The known galleries that are there, and those that are not: one unmounted disk does not hold up the rest.

    Raises GalleryError where none is there.
    """
    folders: list[bytes] = []
    absent: list[PictureLocation] = []
    for root in roots:
        try:
            folders.append(resolve_gallery(gallery_name(root)))
        except GalleryError:
            absent.append(parse_location(root))
            if len(absent) == len(roots):
                raise
    return folders, absent
