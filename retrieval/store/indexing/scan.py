"""One pass over one gallery: what is new, changed, back or gone, brought into the catalogue as it is found."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field

from indexes.catalogue.catalogue import Catalogue
from indexes.catalogue.paths import holds
from indexes.catalogue.records import Failed, KnownFile
from retrieval.sources.entries import Closed, Found, Met, Opened, Unchanged, Unreadable
from retrieval.sources.gallery import walk_gallery
from retrieval.sources.location import Place, located, tar_of
from retrieval.store.indexing.pipeline import IN_WORK, Batch, Pipeline
from retrieval.store.indexing.shards import WHOLE, Shard
from retrieval.store.indexing.tar_tracking import TarsRead

Advance = Callable[[int], None]
"""Called with the number of files that were dealt with since the last call."""


@dataclass
class Tally:
    """What scans have done so far."""

    added: int = 0
    reused: int = 0
    embedded: int = 0
    unchanged: int = 0
    missing: int = 0
    failures: list[Failed] = field(default_factory=list)
    kept_roots: list[Place] = field(default_factory=list)
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
        advance: Advance,
        shard: Shard = WHOLE,
    ) -> None:
        self.catalogue = catalogue
        self.pipeline = pipeline
        self.fingerprint = fingerprint
        self.gallery = gallery
        self.tally = tally
        self.advance = advance
        self.shard = shard
        catalogue.root_of(gallery)  # a gallery without pictures is known too
        self.vanished: list[int] = []
        self.returned: list[int] = []
        self.closed_folders: list[bytes] = []
        self.failed: set[bytes] = set()
        self.tars = TarsRead(catalogue, gallery)
        self.standing: list[bytes] = []  # the paths of tars that need not be read again
        self.seen = 0

    def run(self) -> None:
        """What the pipeline brings is committed by one writer, in turn."""
        with (
            ThreadPoolExecutor(1, thread_name_prefix="writer") as writer,
            closing(self.pipeline.batches(self._changed())) as batches,
        ):
            in_work: deque[Future[None]] = deque()
            for batch in batches:
                in_work.append(writer.submit(self._commit, batch))
                if len(in_work) > IN_WORK:
                    in_work.popleft().result()
            while in_work:
                in_work.popleft().result()
        self._settle_vanished()
        self.catalogue.keep_failures(self.gallery, self.failed | self._standing_failures(), self._is_mine)

    def _changed(self) -> Iterator[Found | Unreadable]:
        """What is new, changed or broken; tells apart on the way what is unchanged, back or gone."""
        known_files = (known for known in self.catalogue.known_files(self.gallery) if self._is_mine(known.path))
        met = walk_gallery(
            self.gallery,
            self.tally.passed_over,
            lambda tar, version: not self._is_mine(tar) or self.tars.is_read(tar, version),
        )
        for found, known in _merged(met, known_files):
            if isinstance(found, Unreadable) and found.is_folder:
                self.closed_folders.append(found.path + b"/")
            if isinstance(found, Unchanged):
                self.standing.append(found.path + b"/")
                self.seen += not self._is_mine(found.path)  # its members are not this shard's to see
            elif isinstance(found, Opened):
                self.tars.open(found)
            elif isinstance(found, Closed):
                self.tars.close(found)
            elif found is not None and not self._is_mine(found.path):
                self.seen += isinstance(found, Found)  # the gallery is not empty, only this shard may be
                self.advance(1)
            elif isinstance(found, Unreadable):
                yield self.tars.given(found)
            elif found is None:
                assert known is not None
                self._settle(known)
            elif known is None or not is_still(found, known):
                self.seen += 1
                yield self.tars.given(found)
            else:
                self._stands(known)

    def _settle(self, known: KnownFile) -> None:
        """What is known and was not met: it stands in a tar that was not read, or it is gone, or it cannot be seen."""
        if known.path.startswith(tuple(self.standing)):
            self._stands(known)
            return
        seen = holds(self.gallery, known.path) and not known.path.startswith(tuple(self.closed_folders))
        if seen and not known.missing:
            self.vanished.append(known.id)

    def _stands(self, known: KnownFile) -> None:
        """What is there as it was indexed."""
        self.seen += 1
        if known.missing:
            self.returned.append(known.id)
        else:
            self.tally.unchanged += 1
            self.advance(1)

    def _standing_failures(self) -> set[bytes]:
        if not self.standing:
            return set()
        return {path for path, _ in self.catalogue.failures() if path.startswith(tuple(self.standing))}

    def _is_mine(self, path: bytes) -> bool:
        """Whether a file is of this run's shard; the members of a tar are where it is."""
        return self.shard.is_all or self.shard.holds(tar_of(path) or path)

    def _commit(self, batch: Batch) -> None:
        pictures = [read.picture() for read in batch.read]
        self.catalogue.record(self.gallery, self.fingerprint, pictures, batch.failures)
        self.failed.update(failed.path for failed in batch.failures)
        self.tally.failures.extend(batch.failures)
        self.tally.added += len(pictures)
        self.tally.embedded += batch.embedded
        self.tally.reused += len(pictures) - batch.embedded
        self.tars.done((read.found.path for read in batch.read), batch.failures)
        self.advance(len(batch))

    def _settle_vanished(self) -> None:
        if self.seen == 0 and self.vanished:
            self.tally.kept_roots.append(located(self.gallery))
            return
        if self.vanished:
            self.catalogue.set_missing(self.vanished, True)
            self.tally.missing += len(self.vanished)
        if self.returned:
            self.catalogue.set_missing(self.returned, False)
            self.tally.added += len(self.returned)
            self.tally.reused += len(self.returned)
            self.advance(len(self.returned))


def is_still(found: Found, known: KnownFile) -> bool:
    """Whether a file is as it was indexed: by its version where it has one, else by its time; and by a label it has."""
    if found.label is not None and (found.label or None) != known.label:
        return False
    if found.version is None:
        return (found.size, found.mtime) == (known.size, known.mtime)
    return found.version != "" and (found.size, found.version) == (known.size, known.version)


def _merged(found: Iterator[Met], known: Iterator[KnownFile]) -> Iterator[tuple[Met | None, KnownFile | None]]:
    """Join two streams that are both in the order of their paths."""
    here, there = next(found, None), next(known, None)
    while here is not None or there is not None:
        if there is None or (here is not None and here.path < there.path):
            yield here, None
            here = next(found, None)
        elif here is None or there.path < here.path:
            yield None, there
            there = next(known, None)
        else:
            yield here, there
            here, there = next(found, None), next(known, None)
