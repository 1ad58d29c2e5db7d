"""The pictures of a store looked at once, small, and laid over each other in pairs."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from indexes.arrays import Ids
from indexes.catalogue.catalogue import Catalogue
from indexes.catalogue.records import StoredFile
from retrieval.common.errors import PictureError
from retrieval.common.progress import WorkStage
from retrieval.model.head import Array
from retrieval.model.preprocessing import read_image
from retrieval.sources.location import PictureAddress, PictureLocation, parse_location
from retrieval.store.duplicates.alignment import SIDE, THUMBNAIL_SIZE, ThumbnailArray, agreements, make_thumbnail
from retrieval.store.duplicates.candidates import ContentPairs, Contents

_THREADS = 2
_IN_MEMORY = 20_000  # 100 MB
_CONTENTS = 1024  # looked at between two questions to the catalogue
_PAIRS = 256  # laid over each other at once: what stays in a core's cache, nearly
_CHANGED = "has changed since it was indexed: run `retrieve index`"


class ThumbnailSet:
    """Contents that were looked at, by their numbers.

    5 kB each; many are kept in a file without a name, of which the system holds in memory what it has room for.
    `unread` are the files that could not be looked at, with the reason.
    """

    def __init__(self) -> None:
        self._numbers: Ids = np.empty(0, np.int64)  # rising
        self._loaded: Ids = np.empty(0, np.int64)  # those of them that could be looked at
        self.unread: dict[PictureLocation, str] = {}
        self._thumbnails: ThumbnailArray = np.empty((0, THUMBNAIL_SIZE), np.uint8)

    def load(self, catalogue: Catalogue, contents: Contents, numbers: Ids, stage: WorkStage) -> None:
        """Look at these contents (U,), rising: at the first file of each that is there."""
        seen, smalls = np.zeros(len(numbers), bool), _allocate(len(numbers))
        with ThreadPoolExecutor(_THREADS) as readers:
            for start in range(0, len(numbers), _CONTENTS):
                files = files_of(catalogue, contents, numbers[start : start + _CONTENTS])
                for place, found in enumerate(readers.map(self._load_first, files), start):
                    if found is not None:
                        smalls[place], seen[place] = found, True
                stage.advance(len(files))
        self._numbers, self._loaded, self._thumbnails = numbers, numbers[seen], smalls

    def _load_first(self, files: Sequence[StoredFile]) -> ThumbnailArray | None:
        for file in files:
            path = parse_location(file.path)
            reason = file_problem(file)
            if reason is None:
                try:
                    return make_thumbnail(read_image(path, SIDE)[0])
                except PictureError as error:
                    reason = error.reason
            self.unread[path] = reason
        return None

    def agreements(self, pairs: ContentPairs) -> Array:
        """How well the contents of each pair (P, 2) agree, (P,); 0 where one was not looked at."""
        found = np.zeros(len(pairs), np.float32)
        there = np.flatnonzero(np.isin(pairs, self._loaded).all(axis=1))
        batches = [there[start : start + _PAIRS] for start in range(0, len(there), _PAIRS)]

        def judge(batch: Ids) -> Array:
            first, second = (self._thumbnails[np.searchsorted(self._numbers, side)] for side in pairs[batch].T)
            return agreements(first, second)

        with ThreadPoolExecutor(_THREADS) as judges:
            for batch, values in zip(batches, judges.map(judge, batches), strict=True):
                found[batch] = values
        return found

    def agreements_of(self, firsts: Ids, others: Ids) -> Array:
        """The same of each of the first with each of the second."""
        return self.agreements(np.stack([firsts, others], axis=1))


def _allocate(count: int) -> ThumbnailArray:
    """Room for so many small pictures. Raises OSError where the disk has none."""
    if count <= _IN_MEMORY:
        return np.empty((count, THUMBNAIL_SIZE), np.uint8)
    with tempfile.TemporaryFile() as file:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(
                file.fileno(), 0, count * THUMBNAIL_SIZE
            )  # a full disk is told now, and not by a signal later
        return np.memmap(
            file, np.uint8, "r+" if hasattr(os, "posix_fallocate") else "w+", shape=(count, THUMBNAIL_SIZE)
        )


def files_of(catalogue: Catalogue, contents: Contents, numbers: Ids) -> list[list[StoredFile]]:
    """The files of each of these contents, by id."""
    ids = contents.picture_ids(numbers)
    known = {file.id: file for file in catalogue.pictures.files(np.concatenate([*ids, np.empty(0, np.int64)]))}
    return [[known[id_] for id_ in each.tolist() if id_ in known] for each in ids]


def file_problem(file: StoredFile) -> str | None:
    """Why an indexed file is not to be counted on, or None: it is gone, closed, or another one than was indexed."""
    path = parse_location(file.path)
    if isinstance(path, PictureAddress):  # what its server says is seen as it is read
        return None
    try:
        now = os.stat(path)
    except FileNotFoundError:
        return "does not exist"
    except OSError as error:
        return f"cannot be read: {error.strerror or error}"
    return _CHANGED if (now.st_size, now.st_mtime_ns) != (file.size, file.mtime) else None
