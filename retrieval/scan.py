"""One pass over one gallery: what is new, changed, back or gone, brought into the catalogue as it is found."""

from __future__ import annotations

import os
from collections import Counter, deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from indexes.catalogue import Catalogue, holds
from indexes.records import KnownFile
from retrieval.pipeline import IN_WORK, Batch, Pipeline
from retrieval.shards import WHOLE, Shard
from retrieval.walk import Found, Unreadable, walk

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
    failures: list[tuple[bytes, str]] = field(default_factory=list)
    kept_roots: list[Path] = field(default_factory=list)
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
        self.catalogue.keep_failures(self.gallery, self.failed, self.shard.holds)

    def _changed(self) -> Iterator[Found | Unreadable]:
        """What is new, changed or broken; tells apart on the way what is unchanged, back or gone."""
        for found, known in _merged(walk(self.gallery, self.tally.passed_over), self._known()):
            if isinstance(found, Unreadable) and found.is_folder:
                self.closed_folders.append(found.path + b"/")
            if found is not None and not self.shard.holds(found.path):
                self.seen += isinstance(found, Found)  # the gallery is not empty, only this shard may be
                self.advance(1)
            elif isinstance(found, Unreadable):
                yield found
            elif found is None:
                assert known is not None
                seen = holds(self.gallery, known.path) and not known.path.startswith(tuple(self.closed_folders))
                if seen and not known.missing:
                    self.vanished.append(known.id)
            else:
                self.seen += 1
                if known is None or (known.size, known.mtime) != (found.size, found.mtime):
                    yield found
                elif known.missing:
                    self.returned.append(known.id)
                else:
                    self.tally.unchanged += 1
                    self.advance(1)

    def _known(self) -> Iterator[KnownFile]:
        return (known for known in self.catalogue.known_files(self.gallery) if self.shard.holds(known.path))

    def _commit(self, batch: Batch) -> None:
        pictures = [read.picture() for read in batch.read]
        self.catalogue.record(self.gallery, self.fingerprint, pictures, batch.failures)
        self.failed.update(path for path, _ in batch.failures)
        self.tally.failures.extend(batch.failures)
        self.tally.added += len(pictures)
        self.tally.embedded += batch.embedded
        self.tally.reused += len(pictures) - batch.embedded
        self.advance(len(batch))

    def _settle_vanished(self) -> None:
        if self.seen == 0 and self.vanished:
            self.tally.kept_roots.append(Path(os.fsdecode(self.gallery)))
            return
        if self.vanished:
            self.catalogue.set_missing(self.vanished, True)
            self.tally.missing += len(self.vanished)
        if self.returned:
            self.catalogue.set_missing(self.returned, False)
            self.tally.added += len(self.returned)
            self.tally.reused += len(self.returned)
            self.advance(len(self.returned))


def _merged(
    found: Iterator[Found | Unreadable], known: Iterator[KnownFile]
) -> Iterator[tuple[Found | Unreadable | None, KnownFile | None]]:
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
