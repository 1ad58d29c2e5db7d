"""One pass over one gallery: what is new, changed, back or gone, brought into the catalogue as it is found."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field

from indexes.catalogue.catalogue import Catalogue
from indexes.catalogue.paths import contains
from indexes.catalogue.records import FailedFile, KnownFile
from retrieval.common.progress import WorkStage
from retrieval.sources.entries import PictureFile, TarEnd, TarStart, UnchangedTar, Unreadable, WalkEvent
from retrieval.sources.gallery import walk_gallery
from retrieval.sources.location import CatalogueLocation, PictureLocation, parse_location
from retrieval.store.indexing.pipeline import MAX_IN_FLIGHT, Batch, Pipeline
from retrieval.store.indexing.shards import WHOLE, Shard
from retrieval.store.indexing.tar_tracking import TarTracker


@dataclass
class Tally:
    """What scans have done so far."""

    added: int = 0
    reused: int = 0
    embedded: int = 0
    unchanged: int = 0
    missing: int = 0
    failures: list[FailedFile] = field(default_factory=list)
    kept_roots: list[PictureLocation] = field(default_factory=list)
    passed_over: Counter[str] = field(default_factory=Counter)


class Scan:
    """One pass over one gallery, or over the files of it that are in a shard."""

    def __init__(
        self,
        catalogue: Catalogue,
        pipeline: Pipeline,
        fingerprint: str,
        gallery: bytes,
        tally: Tally,
        stage: WorkStage,
        shard: Shard = WHOLE,
    ) -> None:
        self.catalogue = catalogue
        self.pipeline = pipeline
        self.fingerprint = fingerprint
        self.gallery = gallery
        self.tally = tally
        self.stage = stage
        self.shard = shard
        catalogue.scans.ensure_root(gallery)  # a gallery without pictures is known too
        self.vanished: list[int] = []
        self.returned: list[int] = []
        self.closed_folders: list[bytes] = []
        self.failed: set[bytes] = set()
        self.tars = TarTracker(catalogue, gallery)
        self.unchanged_tars: list[bytes] = []  # the paths of tars that need not be read again
        self.seen = 0

    def run(self) -> None:
        """What the pipeline brings is committed by one writer, in turn."""
        with (
            ThreadPoolExecutor(1, thread_name_prefix="writer") as writer,
            closing(self.pipeline.batches(self._changed_files())) as batches,
        ):
            in_work: deque[Future[None]] = deque()
            for batch in batches:
                in_work.append(writer.submit(self._commit, batch))
                if len(in_work) > MAX_IN_FLIGHT:
                    in_work.popleft().result()
            while in_work:
                in_work.popleft().result()
        self._record_vanished()
        self.catalogue.scans.prune_failures(self.gallery, self.failed | self._unchanged_failures(), self._is_in_shard)

    def _changed_files(self) -> Iterator[PictureFile | Unreadable]:
        """What is new, changed or broken; tells apart on the way what is unchanged, back or gone."""
        known_files = (
            known for known in self.catalogue.scans.known_files(self.gallery) if self._is_in_shard(known.path)
        )
        met = walk_gallery(
            self.gallery,
            self.tally.passed_over,
            lambda tar, version: not self._is_in_shard(tar) or self.tars.is_read(tar, version),
        )
        for found, known in _merge_by_path(met, known_files):
            if isinstance(found, Unreadable) and found.is_folder:
                self.closed_folders.append(found.path + b"/")
            if isinstance(found, UnchangedTar):
                self.unchanged_tars.append(found.path + b"/")
                self.seen += not self._is_in_shard(found.path)  # its members are not this shard's to see
            elif isinstance(found, TarStart):
                self.tars.open(found)
            elif isinstance(found, TarEnd):
                self.tars.close(found)
            elif found is not None and not self._is_in_shard(found.path):
                self.seen += isinstance(found, PictureFile)  # the gallery is not empty, only this shard may be
                self.stage.advance()
            elif isinstance(found, Unreadable):
                yield self.tars.add_pending(found)
            elif found is None:
                assert known is not None
                self._handle_unmatched(known)
            elif known is None or not is_unchanged(found, known):
                self.seen += 1
                yield self.tars.add_pending(found)
            else:
                self._count_unchanged(known)

    def _handle_unmatched(self, known: KnownFile) -> None:
        """What is known and was not met: it stands in a tar that was not read, or it is gone, or it cannot be seen."""
        if known.path.startswith(tuple(self.unchanged_tars)):
            self._count_unchanged(known)
            return
        seen = contains(self.gallery, known.path) and not known.path.startswith(tuple(self.closed_folders))
        if seen and not known.missing:
            self.vanished.append(known.id)

    def _count_unchanged(self, known: KnownFile) -> None:
        """What is there as it was indexed."""
        self.seen += 1
        if known.missing:
            self.returned.append(known.id)
        else:
            self.tally.unchanged += 1
            self.stage.advance()

    def _unchanged_failures(self) -> set[bytes]:
        if not self.unchanged_tars:
            return set()
        return {path for path, _ in self.catalogue.scans.failures() if path.startswith(tuple(self.unchanged_tars))}

    def _is_in_shard(self, path: bytes) -> bool:
        """Whether a file is of this run's shard; the members of a tar are where it is."""
        return self.shard.is_all or self.shard.holds(CatalogueLocation.parse(path).tar_path or path)

    def _commit(self, batch: Batch) -> None:
        pictures = [read.to_record() for read in batch.read]
        self.catalogue.scans.record(self.gallery, self.fingerprint, pictures, batch.failures)
        self.failed.update(failed.path for failed in batch.failures)
        self.tally.failures.extend(batch.failures)
        self.tally.added += len(pictures)
        self.tally.embedded += batch.embedded
        self.tally.reused += len(pictures) - batch.embedded
        self.tars.mark_recorded((read.file.path for read in batch.read), batch.failures)
        self.stage.advance(len(batch))

    def _record_vanished(self) -> None:
        if self.seen == 0 and self.vanished:
            self.tally.kept_roots.append(parse_location(self.gallery))
            return
        if self.vanished:
            self.catalogue.scans.set_missing(self.vanished, True)
            self.tally.missing += len(self.vanished)
        if self.returned:
            self.catalogue.scans.set_missing(self.returned, False)
            self.tally.added += len(self.returned)
            self.tally.reused += len(self.returned)
            self.stage.advance(len(self.returned))


def is_unchanged(file: PictureFile, known: KnownFile) -> bool:
    """Whether a file is as it was indexed: by its version where it has one, else by its time; and by a label it has."""
    if file.label is not None and (file.label or None) != known.label:
        return False
    if file.version is None:
        return (file.size, file.mtime) == (known.size, known.mtime)
    return file.version != "" and (file.size, file.version) == (known.size, known.version)


def _merge_by_path(
    events: Iterator[WalkEvent], known: Iterator[KnownFile]
) -> Iterator[tuple[WalkEvent | None, KnownFile | None]]:
    """Join two streams that are both in the order of their paths."""
    here, there = next(events, None), next(known, None)
    while here is not None or there is not None:
        if there is None or (here is not None and here.path < there.path):
            yield here, None
            here = next(events, None)
        elif here is None or there.path < here.path:
            yield None, there
            there = next(known, None)
        else:
            yield here, there
            here, there = next(events, None), next(known, None)
