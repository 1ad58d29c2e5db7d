"""The scan of one gallery: new, changed, restored and missing files, recorded in the catalogue."""

import os
from bisect import bisect_right, insort
from collections import Counter, deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from threading import Event

from indexes.catalogue.catalogue import Catalogue
from indexes.catalogue.labels import label_text
from indexes.catalogue.paths import contains
from indexes.catalogue.records import KnownFile
from retrieval.common.progress import WorkStage
from retrieval.sources.entries import PictureFile, TarEnd, TarStart, UnchangedTar, Unreadable, WalkEvent
from retrieval.sources.gallery import walk_gallery
from retrieval.sources.location import LIST_PREFIX, CatalogueLocation, is_remote, parse_location
from retrieval.store.indexing.pipeline import MAX_IN_FLIGHT, Batch, Pipeline
from retrieval.store.indexing.report import IndexReport, keep_passed_over
from retrieval.store.indexing.shards import Shard
from retrieval.store.indexing.tar_tracking import TarTracker


@dataclass(eq=False)
class Scan:
    """One scan of one gallery, or of its files in a shard.

    `changed_files` walks the gallery, until `cancelled` is set, on one thread and ahead of `run`, which embeds and
    records what it yields. With `force`, unchanged files are read too.
    """

    catalogue: Catalogue
    pipeline: Pipeline
    fingerprint: str
    gallery: bytes
    report: IndexReport
    stage: WorkStage
    shard: Shard
    cancelled: Event
    force: bool = False

    def __post_init__(self) -> None:
        self.catalogue.scans.ensure_root(self.gallery)  # a gallery without pictures is known too
        self.failed: set[bytes] = set()
        self.tars = TarTracker(self.catalogue, self.gallery)
        # Written by the walk, and read when it has ended:
        self.vanished: list[int] = []
        self.returned: list[int] = []
        self.closed_folders = _Containers()
        self.unchanged_tars = _Containers()  # which need not be read again
        self.passed_over: Counter[str] = Counter()
        self.change_times: dict[int, int] = {}  # of pictures that were recorded before these were kept
        self.seen = 0
        self.walked = 0  # files that are to be reported as done in the end

    def run(self, changed: Iterator[PictureFile | Unreadable]) -> None:
        """Embed the changed files and record them, batch by batch on one thread; then record what has vanished."""
        with (
            ThreadPoolExecutor(1, thread_name_prefix="writer") as writer,
            closing(self.pipeline.batches(changed)) as batches,
        ):
            in_flight: deque[Future[None]] = deque()
            for batch in batches:
                in_flight.append(writer.submit(self._commit, batch))
                if len(in_flight) > MAX_IN_FLIGHT:
                    in_flight.popleft().result()
            while in_flight:
                in_flight.popleft().result()
        self._record_vanished()
        self.report.passed_over.update(self.passed_over)
        if self.shard.is_all:
            keep_passed_over(self.catalogue, self.gallery, self.passed_over)
        self.catalogue.scans.prune_failures(self.gallery, self.failed, self._is_of_scan)

    def changed_files(self) -> Iterator[PictureFile | Unreadable]:
        """Walk the gallery and yield new, changed and broken files; note unchanged, restored and vanished ones."""
        known_files = self.catalogue.scans.known_files(self.gallery)
        known_in_shard = (known for known in known_files if self._is_in_shard(known.path))
        events = walk_gallery(
            self.gallery,
            self.passed_over,
            lambda tar, version: not self._is_in_shard(tar) or (not self.force and self.tars.is_read(tar, version)),
            self.cancelled,
        )
        for event, known in _merge_by_path(events, known_in_shard):
            if self.cancelled.is_set():
                return
            if isinstance(event, Unreadable) and event.is_folder:
                self.closed_folders.add(event.path)
            if isinstance(event, UnchangedTar):
                self.unchanged_tars.add(event.path)
                self.seen += not self._is_in_shard(event.path)  # its members are of another shard
            elif isinstance(event, TarStart):
                self.tars.open(event)
            elif isinstance(event, TarEnd):
                self.tars.close(event)
            elif event is None:
                assert known is not None
                self._handle_unmatched(known)
            elif not self._is_in_shard(event.path):
                self.seen += isinstance(event, PictureFile)  # the gallery is not empty, only this shard may be
                self.walked += 1
                self.stage.advance()
            elif not self.force and isinstance(event, PictureFile) and known and is_unchanged(event, known):
                if event.ctime is not None and known.ctime is None:
                    self.change_times[known.id] = event.ctime
                self._count_unchanged(known)
            else:
                self.seen += isinstance(event, PictureFile)
                self.walked += 1
                self.tars.add_pending(event)
                yield event if isinstance(event, Unreadable) else _without_local_tar(event)

    def _handle_unmatched(self, known: KnownFile) -> None:
        """Handle a known file that the walk did not come to: it is in an unread tar, gone, or out of sight."""
        if self.unchanged_tars.contain(known.path):
            self._count_unchanged(known)
        elif not known.missing and self._is_reachable(known.path) and not self.closed_folders.contain(known.path):
            self.vanished.append(known.id)

    def _count_unchanged(self, known: KnownFile) -> None:
        self.seen += 1
        self.walked += 1
        if known.missing:
            self.returned.append(known.id)
        else:
            self.report.unchanged += 1
            self.stage.advance()

    def _is_in_shard(self, path: bytes) -> bool:
        """Return whether a file is of this run's shard; the members of a tar are in the tar's."""
        return self.shard.is_all or self.shard.holds(CatalogueLocation.parse(path).tar_path or path)

    def _is_reachable(self, path: bytes) -> bool:
        """Return whether a walk comes to a path below the gallery; a list names files with any names."""
        return self.gallery.startswith(os.fsencode(LIST_PREFIX)) or contains(self.gallery, path)

    def _is_of_scan(self, path: bytes) -> bool:
        """Return whether a file would have failed again in this scan."""
        is_walked = path == self.gallery or self._is_reachable(path)
        return is_walked and self._is_in_shard(path) and not self.unchanged_tars.contain(path)

    def _commit(self, batch: Batch) -> None:
        pictures = [read.to_record() for read in batch.read]
        self.catalogue.scans.record(self.gallery, self.fingerprint, pictures, batch.failures)
        self.failed.update(failed.path for failed in batch.failures)
        self.report.failures += [(parse_location(failed.path), failed.reason) for failed in batch.failures]
        self.report.added += len(pictures)
        self.report.embedded += batch.embedded
        self.report.reused += len(pictures) - batch.embedded
        self.tars.mark_recorded((read.file.path for read in batch.read), batch.failures)
        self.stage.advance(len(batch))

    def _record_vanished(self) -> None:
        self.catalogue.scans.set_change_times(self.change_times)
        if not self.seen and not self.vanished and not self.failed:
            self.report.empty_roots += (parse_location(self.gallery),)
        if self.seen == 0 and self.vanished:
            self.report.kept_roots += (parse_location(self.gallery),)
            return
        if self.vanished:
            self.catalogue.scans.set_missing(self.vanished, True)
            self.report.missing += len(self.vanished)
        if self.returned:
            self.catalogue.scans.set_missing(self.returned, False)
            self.report.added += len(self.returned)
            self.report.reused += len(self.returned)
            self.stage.advance(len(self.returned))


class _Containers:
    """Folders or tars, added in the order of their paths; finding the one that contains a path takes a bisection."""

    def __init__(self) -> None:
        self._prefixes: list[bytes] = []  # none of them begins with another

    def add(self, path: bytes) -> None:
        if not self.contain(path + b"/"):
            insort(self._prefixes, path + b"/")

    def contain(self, path: bytes) -> bool:
        row = bisect_right(self._prefixes, path)
        return row > 0 and path.startswith(self._prefixes[row - 1])


def is_unchanged(file: PictureFile, known: KnownFile) -> bool:
    """Return whether a file is as indexed: by its version if it has one, else by its times; and by any label."""
    if file.label is not None and (label_text(file.label) or None) != known.label:
        return False
    if file.version is None:
        is_touched = None not in (file.ctime, known.ctime) and file.ctime != known.ctime
        return (file.size, file.mtime) == (known.size, known.mtime) and not is_touched
    return file.version != "" and (file.size, file.version) == (known.size, known.version)


def _without_local_tar(file: PictureFile) -> PictureFile:
    """Close a local tar for its member, which is read by its offset: else all tars that are walked ahead stay open."""
    if file.read_content is None or is_remote(CatalogueLocation.parse(file.path).source):
        return file
    return file._replace(read_content=None)


def _merge_by_path(
    events: Iterator[WalkEvent], known_files: Iterator[KnownFile]
) -> Iterator[tuple[WalkEvent | None, KnownFile | None]]:
    """Join two streams that are both in the order of their paths."""
    event, known = next(events, None), next(known_files, None)
    while event is not None or known is not None:
        if known is None or (event is not None and event.path < known.path):
            yield event, None
            event = next(events, None)
        elif event is None or known.path < event.path:
            yield None, known
            known = next(known_files, None)
        else:
            yield event, known
            event, known = next(events, None), next(known_files, None)
