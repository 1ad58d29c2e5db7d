"""Thumbnails of a store's pictures, and the agreement of pairs of them."""

import os
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import numpy as np

from indexes.arrays import Ids
from indexes.catalogue.catalogue import Catalogue
from indexes.catalogue.records import StoredFile
from retrieval.common.errors import PictureError
from retrieval.common.progress import WorkStage
from retrieval.model.head import Array
from retrieval.model.preprocessing import read_image
from retrieval.sources.entries import storable_time
from retrieval.sources.location import PictureAddress, PictureLocation, parse_location
from retrieval.store.duplicates.alignment import SIDE, THUMBNAIL_SIZE, ThumbnailArray, agreements, make_thumbnail
from retrieval.store.duplicates.candidates import ContentPairs, Contents

_THREADS = 2
_IN_MEMORY = 20_000  # 100 MB
_CONTENTS = 1024  # whose files are fetched from the catalogue at once
_PAIRS = 256  # aligned at once: these nearly stay in a core's cache
_CHANGED = "has changed since it was indexed: run `retrieve index`"


class ThumbnailSet:
    """Thumbnails of contents, by the contents' numbers.

    Each has 5 kB; many are kept in a nameless file, which the system caches as far as it has memory. `unread` are the
    files that could not be read, with the reason.
    """

    def __init__(self) -> None:
        self._numbers: Ids = np.empty(0, np.int64)  # ascending
        self._loaded: Ids = np.empty(0, np.int64)  # those of them that could be read
        self.unread: dict[PictureLocation, str] = {}
        self._thumbnails: ThumbnailArray = np.empty((0, THUMBNAIL_SIZE), np.uint8)

    def load(self, catalogue: Catalogue, contents: Contents, numbers: Ids, stage: WorkStage) -> None:
        """Read the first usable file of each of these contents (U,), ascending."""
        is_loaded, thumbnails = np.zeros(len(numbers), bool), _allocate(len(numbers))
        with ThreadPoolExecutor(_THREADS) as readers:
            for start in range(0, len(numbers), _CONTENTS):
                files = files_of(catalogue, contents, numbers[start : start + _CONTENTS])
                for row, thumbnail in enumerate(readers.map(self._load_first, files), start):
                    if thumbnail is not None:
                        thumbnails[row], is_loaded[row] = thumbnail, True
                stage.advance(len(files))
        self._numbers, self._loaded, self._thumbnails = numbers, numbers[is_loaded], thumbnails

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

    def agreements(self, pairs: ContentPairs) -> tuple[Array, Array]:
        """Return how well the contents of each pair (P, 2) agree, (P,), 0 if one could not be read, and fits (P, 4)."""
        values, fits = np.zeros(len(pairs), np.float32), np.zeros((len(pairs), 4), np.float32)
        rows = np.flatnonzero(np.isin(pairs, self._loaded).all(axis=1))
        batches = [rows[start : start + _PAIRS] for start in range(0, len(rows), _PAIRS)]

        def judge(batch: Ids) -> tuple[Array, Array]:
            first, second = (self._thumbnails[np.searchsorted(self._numbers, side)] for side in pairs[batch].T)
            return agreements(first, second)

        with ThreadPoolExecutor(_THREADS) as judges:
            for batch, (result, found) in zip(batches, judges.map(judge, batches), strict=True):
                values[batch], fits[batch] = result, found
        return values, fits


def _allocate(count: int) -> ThumbnailArray:
    """Allocate so many thumbnails. Raises OSError if the disk has no room."""
    if count <= _IN_MEMORY:
        return np.empty((count, THUMBNAIL_SIZE), np.uint8)
    with tempfile.TemporaryFile() as file:
        if hasattr(os, "posix_fallocate"):
            # so that a full disk is an error now, and not a signal later
            os.posix_fallocate(file.fileno(), 0, count * THUMBNAIL_SIZE)
        return np.memmap(file, np.uint8, "w+", shape=(count, THUMBNAIL_SIZE))


def files_of(catalogue: Catalogue, contents: Contents, numbers: Ids) -> list[list[StoredFile]]:
    """Return the files of each of these contents, by id."""
    ids = contents.picture_ids(numbers)
    known = {file.id: file for file in catalogue.pictures.files(np.concatenate([*ids, np.empty(0, np.int64)]))}
    return [[known[id_] for id_ in each.tolist() if id_ in known] for each in ids]


def file_problem(file: StoredFile) -> str | None:
    """Return why an indexed file cannot be used, or None: it is gone, unreadable or has changed."""
    path = parse_location(file.path)
    if isinstance(path, PictureAddress):  # its server's answer is seen when it is read
        return None
    try:
        now = os.stat(path)
    except FileNotFoundError:
        return "does not exist"
    except OSError as error:
        return f"cannot be read: {error.strerror or error}"
    return _CHANGED if (now.st_size, storable_time(now.st_mtime_ns)) != (file.size, file.mtime) else None


def is_link(file: StoredFile) -> bool:
    """Return whether a path leads over a symbolic link."""
    return not _is_address(file) and os.path.realpath(file.path) != file.path


def same_file(file: StoredFile) -> object:
    """Return what a file has in common with its links, symbolic and hard ones: they are no second picture."""
    with suppress(OSError):
        if not _is_address(file) and (now := os.stat(file.path)).st_ino:
            return now.st_dev, now.st_ino
    return file.path


def _is_address(file: StoredFile) -> bool:
    """Return whether a file's path is an address."""
    return isinstance(parse_location(file.path), PictureAddress)
