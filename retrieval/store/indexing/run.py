"""One run over galleries: each is scanned, and the results are reported."""

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
    """The results of a run. `added` pictures are new, changed or restored; `reused` of them took a known descriptor.

    `embedded` went through the network, `unchanged` were skipped, `missing` vanished since the last run, and `failed`
    are broken, with the reasons in `failures`. `kept_roots` are galleries that seemed empty or were absent, so that
    nothing of them was marked missing. `passed_over` counts the files that are not named like pictures, by suffix.
    `notes` are sentences about other problems.
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
        """The number of broken files."""
        return len(self.failures)


def outermost(folders: Iterable[bytes]) -> list[bytes]:
    """Return each folder once, without those that lie in another one."""
    distinct = list(dict.fromkeys(folders))
    return [folder for folder in distinct if not any(contains(other, folder) for other in distinct)]


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
