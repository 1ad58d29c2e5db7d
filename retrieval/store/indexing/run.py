"""The flow of `retrieve index`: each gallery scanned; and pictures taken out again."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from threading import Event
from typing import cast

from indexes.catalogue.catalogue import Catalogue
from indexes.catalogue.paths import contains
from retrieval.common.parallel import iterate_ahead
from retrieval.common.progress import SILENT_STAGE, WorkStage
from retrieval.sources.entries import PictureFile, Unreadable
from retrieval.sources.files import MAX_WALKED_AHEAD, walk_weight
from retrieval.sources.location import PictureLocation, parse_location
from retrieval.store.indexing.pipeline import Pipeline
from retrieval.store.indexing.scan import Scan, Tally
from retrieval.store.indexing.shards import WHOLE, Shard


@dataclass(frozen=True)
class IndexReport:
    """What a run did. `added` pictures are new or changed; `reused` of them took a known descriptor.

    `embedded` went through the network; `unchanged` were skipped; `missing` vanished since the last run;
    `failed` are broken, each with its reason in `failures`; `kept_roots` are galleries that seemed empty, or known
    ones that were absent, of which nothing was marked missing; `passed_over` counts files that are named like no
    picture, by the endings of their names; `notes` are sentences on what else was not as it should be.
    """

    added: int
    reused: int
    embedded: int
    unchanged: int
    missing: int
    failures: tuple[tuple[PictureLocation, str], ...]
    kept_roots: tuple[PictureLocation, ...]
    passed_over: dict[str, int]
    seconds: float
    notes: tuple[str, ...] = ()

    @property
    def failed(self) -> int:
        return len(self.failures)


def outermost(folders: Iterable[bytes]) -> list[bytes]:
    """Each folder once, without those that a walk of another one comes to."""
    each = list(dict.fromkeys(folders))
    return [folder for folder in each if not any(contains(other, folder) for other in each)]


def index_galleries(
    catalogue: Catalogue,
    pipeline: Pipeline,
    fingerprint: str,
    galleries: Iterable[bytes],
    stage: WorkStage = SILENT_STAGE,
    shard: Shard = WHOLE,
) -> IndexReport:
    """Bring the catalogue up to date with these galleries, or a shard of each. Each batch is committed when done.

    One thread walks them all, ahead of the pipeline; when it ends, `stage` gets its total.
    """
    started = time.perf_counter()
    tally, cancelled = Tally(), Event()

    def walk() -> Iterator[Scan | PictureFile | Unreadable | None]:
        """Yield each gallery's scan, its changed files, and None."""
        for gallery in galleries:
            scan = Scan(catalogue, pipeline, fingerprint, gallery, tally, stage, shard, cancelled)
            yield scan
            yield from scan.changed_files()
            yield None
        stage.expect(tally.walked)

    with closing(iterate_ahead(walk(), MAX_WALKED_AHEAD, walk_weight, cancelled)) as walked:
        for scan in walked:
            cast(Scan, scan).run(cast(Iterator[PictureFile | Unreadable], iter(partial(next, walked), None)))
    return IndexReport(
        added=tally.added,
        reused=tally.reused,
        embedded=tally.embedded,
        unchanged=tally.unchanged,
        missing=tally.missing,
        failures=tuple((parse_location(failed.path), failed.reason) for failed in tally.failures),
        kept_roots=tuple(tally.kept_roots),
        passed_over=dict(tally.passed_over.most_common()),
        seconds=time.perf_counter() - started,
    )
