"""Which worker embeds which content: each once, however many files have it and however many workers there are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from threading import Lock

import numpy as np

from indexes.catalogue.catalogue import Catalogue
from indexes.catalogue.records import FailedFile, KnownContent
from retrieval.model.head import Array
from retrieval.model.preprocessing import PictureInfo
from retrieval.sources.entries import PictureFile
from retrieval.store.indexing.pipeline import Batch, ReadFile, info_of
from retrieval.store.indexing.ray.messages import Block, Embedded, Failed

_REMEMBERED = 1024  # contents that came back, and are perhaps not yet in the catalogue

Outcome = tuple[PictureInfo, Array] | str
"""What became of a content: what is known of the picture and its descriptor (C,); or why it cannot be used."""


class Deduplicator:
    """Answers workers what to embed, and joins what they bring back with what was known.

    A content that the catalogue knows is embedded by nobody; of blocks with one content the first to ask embeds it,
    and the files of the others wait for its outcome. Any thread may call.
    """

    def __init__(self, catalogue: Catalogue, fingerprint: str) -> None:
        self._catalogue = catalogue
        self._fingerprint = fingerprint
        self._lock = Lock()
        self._claims: dict[bytes, int] = {}  # by content, the block that embeds it
        self._waiting_blocks: dict[bytes, set[int]] = {}  # by content, the blocks that were told that another one does
        self._known: dict[int, dict[bytes, Outcome]] = {}  # by block that has asked
        self._recent: dict[bytes, Outcome] = {}
        self._waiting: dict[bytes, list[PictureFile]] = {}

    def ask(self, block: int, contents: Sequence[bytes]) -> list[bool]:
        """Of each of these contents of a block, whether it is the block's to embed."""
        twins = self._catalogue.find_by_content(list(dict.fromkeys(contents)), self._fingerprint)
        with self._lock:
            known = self._known.setdefault(block, {})
            return [self._should_embed(block, content, known, twins) for content in contents]

    def _should_embed(
        self, block: int, content: bytes, known: dict[bytes, Outcome], twins: dict[bytes, KnownContent]
    ) -> bool:
        twin, recent = twins.get(content), self._recent.get(content)
        if twin is not None:
            known[content] = (info_of(twin), twin.vector)
        elif recent is not None:
            known[content] = recent
        elif self._claims.setdefault(content, block) != block:
            self._waiting_blocks.setdefault(content, set()).add(block)
        return content not in known and self._claims.get(content) == block

    def complete(self, block: Block, answers: Sequence[Embedded | Failed]) -> Batch:
        """What is to be recorded now that a block has come back, also of other blocks' files that waited for it."""
        with self._lock:
            batch = Batch()
            known = self._known.pop(block.number, {})
            files = block.files
            for found, answer in zip(files, answers, strict=True):
                if isinstance(answer, Embedded) and answer.vector is None:
                    self._join(batch, found, answer.hash, known.get(answer.hash))
            for found, answer in zip(files, answers, strict=True):
                if isinstance(answer, Failed):
                    batch.failures.append(FailedFile(found.path, answer.reason, answer.is_transient))
                    if answer.hash is not None:
                        self._resolve(batch, answer.hash, answer.reason)
                elif answer.info is not None and answer.vector is not None:
                    outcome = answer.info, answer.vector.astype(np.float32)
                    self._join(batch, found, answer.hash, outcome)
                    batch.embedded += 1
                    self._resolve(batch, answer.hash, outcome)
            return batch

    def _join(self, batch: Batch, found: PictureFile, content: bytes, outcome: Outcome | None) -> None:
        if outcome is None:
            self._waiting.setdefault(content, []).append(found)
        elif isinstance(outcome, str):
            batch.failures.append(FailedFile(found.path, outcome))
        else:
            batch.read.append(ReadFile(found, content, *outcome))

    def _resolve(self, batch: Batch, content: bytes, outcome: Outcome) -> None:
        """Tell all who wait for it what became of a content."""
        self._claims.pop(content, None)
        for block in self._waiting_blocks.pop(content, ()):
            if block in self._known:
                self._known[block][content] = outcome
        for found in self._waiting.pop(content, ()):
            self._join(batch, found, content, outcome)
        self._recent[content] = outcome
        for old in list(self._recent)[:-_REMEMBERED]:
            del self._recent[old]

    def blocks_in_progress(self) -> list[int]:
        """The blocks that have asked and have not come back, in the order in which they first asked."""
        with self._lock:
            return list(self._known)

    def reset(self) -> Iterator[PictureFile]:
        """Forget what was claimed and has not come back: gives the files that wait for it, to be done themselves."""
        with self._lock:
            self._claims, self._waiting_blocks, self._known = {}, {}, {}
            waiting, self._waiting = self._waiting, {}
        return (found for files in waiting.values() for found in files)
