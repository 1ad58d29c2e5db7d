"""One run over galleries: each is scanned, and the results are reported."""

import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import closing
from functools import partial
from threading import Event
from typing import cast

from indexes.catalogue.catalogue import Catalogue
from indexes.catalogue.paths import contains
from retrieval.common.parallel import iterate_ahead
from retrieval.common.progress import SILENT_STAGE, WorkStage
from retrieval.sources.entries import PictureFile, Unreadable
from retrieval.sources.files import MAX_WALKED_AHEAD, walk_weight
from retrieval.store.indexing.pipeline import Pipeline
from retrieval.store.indexing.report import IndexReport
from retrieval.store.indexing.scan import Scan
from retrieval.store.indexing.shards import WHOLE, Shard


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
    force: bool = False,
) -> IndexReport:
    """Bring the catalogue up to date with these galleries, or a shard of each. Each batch is committed when done.

    With `force`, unchanged files are read too. One thread walks them all, ahead of the pipeline; when it ends, `stage`
    gets its total.
    """
    started = time.perf_counter()
    report, cancelled = IndexReport(), Event()

    def walk() -> Iterator[Scan | PictureFile | Unreadable | None]:
        """Yield each gallery's scan, its changed files, and None."""
        walked_files = 0
        for gallery in galleries:
            scan = Scan(catalogue, pipeline, fingerprint, gallery, report, stage, shard, cancelled, force)
            yield scan
            yield from scan.changed_files()
            yield None
            walked_files += scan.walked
        stage.expect(walked_files)

    with closing(iterate_ahead(walk(), MAX_WALKED_AHEAD, walk_weight, cancelled)) as walked:
        for scan in walked:
            cast(Scan, scan).run(cast(Iterator[PictureFile | Unreadable], iter(partial(next, walked), None)))
    report.passed_over = Counter(dict(report.passed_over.most_common()))
    report.seconds = time.perf_counter() - started
    return report
