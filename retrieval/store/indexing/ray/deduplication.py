"""Reuse of known descriptors: the driver keeps one result of each content, whichever worker embedded it."""

from collections.abc import Sequence

import numpy as np

from indexes.catalogue.catalogue import Catalogue
from indexes.catalogue.records import FailedFile
from retrieval.model.head import Array
from retrieval.model.preprocessing import PictureInfo
from retrieval.sources.entries import PictureFile
from retrieval.store.indexing.pipeline import Batch, ReadFile, info_of
from retrieval.store.indexing.ray.messages import Embedded, Failed

_MAX_RECENT = 1024  # contents whose results are perhaps not yet in the catalogue

Outcome = tuple[PictureInfo, Array] | str
"""The properties and the descriptor (C,) of a content, or the reason why it cannot be used."""


class Deduplicator:
    """Joins workers' results with the contents that the catalogue, or an earlier block, already has."""

    def __init__(self, catalogue: Catalogue, fingerprint: str) -> None:
        self._catalogue = catalogue
        self._fingerprint = fingerprint
        self._recent: dict[bytes, Outcome] = {}

    def merge(
        self, files: Sequence[PictureFile], results: Sequence[Embedded | Failed]
    ) -> tuple[Batch, list[PictureFile]]:
        """Return what to record of a block, and the files that a worker wrongly took for known.

        Only contents that are new count as embedded, so that the counts equal those of a run without Ray.
        """
        contents = list(dict.fromkeys(result.hash for result in results if result.hash is not None))
        twins = self._catalogue.scans.find_by_content(contents, self._fingerprint)
        batch, unresolved = Batch(), list[PictureFile]()
        for file, result in zip(files, results, strict=True):
            if result.hash is None:
                assert isinstance(result, Failed)
                batch.failures.append(FailedFile(file.path, result.reason, result.is_transient))
                continue
            outcome = self._recent.get(result.hash)
            if outcome is None and (twin := twins.get(result.hash)) is not None:
                outcome = info_of(twin), twin.vector
            if outcome is None and (outcome := _outcome_of(result)) is not None:
                batch.embedded += isinstance(result, Embedded)
                self._recent[result.hash] = outcome
            if outcome is None:
                unresolved.append(file)
            elif isinstance(outcome, str):
                batch.failures.append(FailedFile(file.path, outcome))
            else:
                batch.read.append(ReadFile(file, result.hash, *outcome))
        for content in list(self._recent)[:-_MAX_RECENT]:
            del self._recent[content]
        return batch, unresolved


def _outcome_of(result: Embedded | Failed) -> Outcome | None:
    if isinstance(result, Failed):
        return result.reason
    if result.info is None or result.vector is None:
        return None
    return result.info, result.vector.astype(np.float32)
