"""The engine: a store, its model and a network together, for the command line and other programs."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Self

import numpy as np
from numpy.typing import NDArray

from indexes.catalogue.catalogue import Catalogue
from indexes.catalogue.database.consent import OWN_FILE, agree
from indexes.vectors.storage import check_address, clear_old_storages, set_storage
from retrieval.common.errors import GalleryError, PictureError
from retrieval.common.progress import SILENT, Progress
from retrieval.common.settings import (
    DEFAULT_METHOD,
    DEFAULT_MODEL,
    POOL,
    RECALL,
    ExplainOptions,
    IndexingBackend,
    MethodName,
)
from retrieval.explain.explanation import Explanation
from retrieval.explain.pair_explainer import PairExplainer
from retrieval.model.bundle import find_bundle
from retrieval.model.encoder import Encoder
from retrieval.model.preprocessing import Source
from retrieval.sources.gallery import resolve_gallery
from retrieval.sources.location import PictureLocation, gallery_name, parse_location
from retrieval.sources.spelling import spelled_like
from retrieval.store.duplicates.groups import Duplicates
from retrieval.store.duplicates.search import DEFAULT_RULES, DuplicateRules, find_duplicates
from retrieval.store.filters import make_selection
from retrieval.store.indexing.pipeline import LocalPipeline, Pipeline
from retrieval.store.indexing.progress import recorded_progress
from retrieval.store.indexing.report import IndexReport
from retrieval.store.indexing.run import index_galleries, outermost
from retrieval.store.indexing.shards import WHOLE, Shard
from retrieval.store.maintenance.calibration import Calibration, CalibrationResult, calibrate
from retrieval.store.maintenance.gallery_statistics import expect_statistics
from retrieval.store.maintenance.removal import remove_paths
from retrieval.store.maintenance.tuning import Tuning, read_tuning, save_tuning, tune
from retrieval.store.opened_store import OpenedStore
from retrieval.store.query import Queries
from retrieval.store.similarity import set_plain
from retrieval.store.status import StoreStatus, absent_notes, read_status
from retrieval.store.store_model import (
    agree_to_galleries,
    check_model,
    is_initialized,
    open_catalogue,
    open_encoder,
    require_known_galleries,
    require_known_places,
    stored_name,
)

if TYPE_CHECKING:
    from retrieval.rendering.illustration import HitList

INDEX_DEFERRED = "the index was not updated: the next query or `retrieve index` does that"
NO_GALLERY = "the store has no gallery yet: give a folder of pictures"


class Engine:
    """A store's pictures, indexed and searched by similarity to a picture.

    Opened with `Engine.open` or `Engine.create`, closed by `close` or a `with` statement. Raises StoreError,
    ModelError, PictureError and GalleryError. The steps of a query are in `queries`, the parts of the store in `store`.
    """

    def __init__(self, catalogue: Catalogue, encoder: Encoder) -> None:
        self.store = OpenedStore(catalogue, encoder)
        self.queries = Queries(self.store)
        self.catalogue = catalogue
        self.bundle = encoder.bundle

    @classmethod
    def open(
        cls, store: str | os.PathLike[str], model: str | None = None, device: str = "auto", progress: Progress = SILENT
    ) -> Self:
        """Open an existing store, with its own model or another head on the same backbone."""
        return cls(*open_catalogue(Path(store), model, device, progress))

    @classmethod
    def create(
        cls,
        store: str | os.PathLike[str],
        model: str | None = None,
        device: str = "auto",
        progress: Progress = SILENT,
        address: str | None = None,
        embeds_locally: bool = True,
        index_address: str | None = None,
    ) -> Self:
        """Open a store, which is made, with the model `default` if none is named, unless it exists.

        The network is opened at once, unless pictures are to be embedded elsewhere: a model that cannot run leaves no
        store behind, and neither does an index that cannot be reached.

        `address` is a PostgreSQL database for a new store's catalogue, which another store may have begun; an existing
        store's catalogue must be there already. From the next update on, the index is at `index_address`: `faiss`, or
        the address of a Milvus. Raises ValueError if that is no address.
        """
        folder, encoder = Path(store), None
        if index_address is not None:
            check_address(index_address, folder)
        if not is_initialized(folder, address):
            encoder = Encoder(find_bundle(model or DEFAULT_MODEL), device, progress)
            name = stored_name(encoder.bundle, model or DEFAULT_MODEL)
            if embeds_locally:
                encoder.load()
        with ExitStack() as on_error:
            catalogue = on_error.enter_context(Catalogue(folder, create=True, address=address))
            require_known_places(catalogue)
            if encoder is None:
                encoder = open_encoder(catalogue, model, device, progress)
            else:
                agree(folder, OWN_FILE)
                catalogue.settings.set_defaults(model=name, fingerprint=encoder.bundle.fingerprint)
                check_model(catalogue, encoder.bundle)
            if index_address is not None:
                set_storage(catalogue, encoder.bundle.fingerprint, index_address)
            if embeds_locally:
                encoder.load()
            on_error.pop_all()
        return cls(catalogue, encoder)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()

    @property
    def calibration(self) -> Calibration | None:
        """The store's calibration; None if it has none, or one for another head than the model's."""
        return self.store.calibration

    def load(self) -> None:
        """Open the network now, not on its first use."""
        self.store.encoder.load()

    def close(self) -> None:
        """Close the store's files and its index."""
        self.store.close()

    def query(
        self,
        source: Source,
        top: int = 5,
        *,
        label: str | None = None,
        folder: str | os.PathLike[str] | None = None,
        since: str | None = None,
        until: str | None = None,
        min_similarity: float = 0.0,
        coverage: float | None = None,
        collapse: bool | None = None,
        pool: int = POOL,
        explain: bool = True,
        method: MethodName | str = DEFAULT_METHOD,
        size: int | None = None,
        verify: bool = False,
        correspond: bool = False,
        options: ExplainOptions | None = None,
    ) -> HitList:
        """Return the `top` most similar pictures of the store, best first: a list of `Hit`.

        `source` is a path, the bytes of a file, a PIL image, or an (H, W, 3) uint8 array. Only pictures of this
        `label`, below this `folder`, taken from `since` to `until` (ISO 8601, which may be shortened: "2024-05") and at
        least as similar as `min_similarity` (0 to 1) are hits. The head rescores the `pool` nearest of them. With a
        `coverage` (0 to 1) there are as many hits as are needed so that one shows the same kind with this probability,
        which holds without these filters; raises GalleryError if the store's labels do not tell. Files of one content
        are one hit, with the others as its `copies`; with `collapse` near-duplicates are too, and without (False) none.

        With `explain`, each hit has heatmaps by this `method`, of pictures of this `size` (None: the model's own).
        `verify` checks them by hiding what they mark, `correspond` finds the matching parts. `options` holds all four
        of these, in their place. Raises ValueError unless `top` is from 1 to `pool`, or for a `coverage` with filters.
        """
        from retrieval.rendering.illustration import HitList  # 10 ms that the command line and the server need not pay

        if not 1 <= top <= pool:
            raise ValueError(f"top must be from 1 to the pool of {pool}, not {top}")
        if coverage is not None and not 0 < coverage < 1:
            raise ValueError(f"coverage must lie between 0 and 1, not at {coverage:g}")
        if coverage is not None and (label or folder or since or until or min_similarity or collapse or pool != POOL):
            raise ValueError("coverage is of the whole store: leave out filters, min_similarity, collapse and pool")
        how = options or ExplainOptions(MethodName(method), size, verify, correspond)
        selection = make_selection(label, folder, since, until, self.catalogue)
        (prepared,) = self.queries.prepare([source], pool, selection)
        if isinstance(prepared, PictureError):
            raise prepared
        rule = None if coverage is None else self.store.coverage_rule(coverage)
        found = self.queries.finish(prepared, top, min_similarity, explain, how, rule, collapse)
        return HitList(source, found.hits, found.pool, found.seconds)

    def explain(
        self,
        a: Source,
        b: Source,
        *,
        method: MethodName | str = DEFAULT_METHOD,
        size: int | None = None,
        verify: bool = False,
        correspond: bool = False,
        options: ExplainOptions | None = None,
    ) -> Explanation:
        """Explain why two pictures are similar or different: `a` as the query, `b` as the hit; see `query`."""
        from retrieval.rendering.illustration import illustrate_pair

        how = options or ExplainOptions(MethodName(method), size, verify, correspond)
        return illustrate_pair(a, b, PairExplainer(self.store.encoder, self.store.head).explain(a, b, how))

    def preprocess(self, source: Source) -> NDArray[np.float32]:
        """Return what the network sees of a picture: float32 (3, size, size)."""
        return self.store.encoder.preprocess(source)

    def index(
        self,
        *galleries: str | os.PathLike[str],
        progress: Progress = SILENT,
        shard: Shard = WHOLE,
        backend: IndexingBackend = IndexingBackend.local,
        workers: int | None = None,
        plain_similarity: bool | None = None,
        force: bool = False,
    ) -> IndexReport:
        """Bring the store up to date with these galleries, or all known ones if none is given.

        If one of those given does not exist, nothing is done, and one without pictures loses none. A known gallery that
        is absent is reported and loses none either; if all are absent, nothing is done. An index of a new kind or size
        is tuned.

        On Ray, files are read and embedded by the `workers` of a cluster (None: as many as it has room for). A shard of
        the galleries' files leaves the index as it is, for a run without one or a query to update.

        With `force`, every file is read and embedded anew. With `plain_similarity` the store shows the model's own
        similarity from now on, as the paper does; False undoes that.
        """
        absent: list[PictureLocation] = []
        roots = self.catalogue.scans.roots()
        if galleries:
            folders = outermost([spelled_like(resolve_gallery(gallery), roots) for gallery in galleries])
        else:
            require_known_galleries(self.catalogue, roots)
            folders, absent = _reachable_roots(roots)
        if not folders:
            raise GalleryError(NO_GALLERY)
        agree_to_galleries(self.catalogue.folder, folders if galleries else ())
        if plain_similarity is not None:
            set_plain(self.catalogue, plain_similarity)
        with progress.one_line():
            report = self._index(folders, progress, shard, backend, workers, force)
        notes = (*report.notes, *absent_notes(self.catalogue.scans.root_counts())) if galleries else report.notes
        return replace(report, kept_roots=(*absent, *report.kept_roots), notes=notes)

    def _index(
        self,
        folders: list[bytes],
        progress: Progress,
        shard: Shard,
        backend: IndexingBackend,
        workers: int | None,
        force: bool,
    ) -> IndexReport:
        fingerprint = self.bundle.fingerprint
        with (
            progress.stage("Indexing") as bar,
            recorded_progress(self.catalogue, bar) as stage,
            self._pipeline(backend, workers, not force) as pipeline,
        ):
            report = index_galleries(self.catalogue, pipeline, fingerprint, folders, stage, shard, force)
        if not shard.is_all:
            expect_statistics(self.catalogue)
            return replace(report, notes=(f"{shard} is done; {INDEX_DEFERRED}",))
        index = self.store.update_index(progress)
        left = clear_old_storages(self.catalogue, fingerprint)
        self.catalogue.seal()
        tuning = read_tuning(self.catalogue)
        if tuning is None or tuning.kind != index.kind:
            self.tune(progress=progress)
        elif not tuning.suits(self.store.ordering_head):  # or it is of a version that did not measure rescoring
            self.tune(progress=progress, probes=tuning.probes)
        return report if left is None else replace(report, notes=(left,))

    @contextmanager
    def _pipeline(self, backend: IndexingBackend, workers: int | None, reuse: bool) -> Iterator[Pipeline]:
        bundle = self.bundle
        if backend is IndexingBackend.ray:
            from retrieval.store.indexing.ray.cluster import cluster_connection
            from retrieval.store.indexing.ray.pipeline import RayPipeline

            with (
                cluster_connection(),
                closing(RayPipeline(self.catalogue, bundle, self.store.encoder.device, workers)) as pipeline,
            ):
                yield pipeline
        else:
            try:
                size = bundle.card.preprocessing.size
                yield LocalPipeline(self.catalogue, self.store.encoder.network, bundle.fingerprint, size, reuse)
            finally:
                self.store.encoder.unload()  # the index needs its memory

    def tune(self, recall: float = RECALL, progress: Progress = SILENT, *, probes: int = 0) -> list[Tuning]:
        """Set how far queries look for this recall@10, as measured on the gallery: each step, the last one set.

        The first step searches at least `probes` lists of the index.
        """
        index = self.store.current_index()
        steps = tune(self.catalogue, index, self.store.ordering_head, self.bundle.fingerprint, recall, progress, probes)
        save_tuning(self.catalogue, steps[-1])
        return steps

    def calibrate(self, seed: int = 0) -> CalibrationResult:
        """Fit similarity, and the probability of a hit, to the gallery's class folders and save that in the store."""
        return calibrate(self.catalogue, self.bundle, seed, self.store.update_index())

    def status(self) -> StoreStatus:
        """Return what the store holds; its similarity is by this engine's model."""
        return read_status(self.catalogue, self.bundle)

    def remove(self, *paths: str | os.PathLike[str]) -> int:
        """Remove pictures or whole folders from the store; the files stay. Return the number of pictures removed."""
        return sum(counts.pictures for counts in remove_paths(self.catalogue, paths).values())

    def duplicates(self, rules: DuplicateRules = DEFAULT_RULES, progress: Progress = SILENT) -> Duplicates:
        """Find groups of pictures that are the same, or alike, by these rules; nothing is deleted."""
        with progress.one_line():
            return find_duplicates(self.catalogue, self.store.current_index(), self.bundle.fingerprint, rules, progress)


def _reachable_roots(roots: list[bytes]) -> tuple[list[bytes], list[PictureLocation]]:
    """Divide the known galleries into reachable and absent ones, so that an unmounted disk does not stop the rest.

    Raises GalleryError if none is reachable.
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
