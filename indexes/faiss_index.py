"""FAISS behind the vector index interface, and its file."""

from __future__ import annotations

import contextlib
import os
import tempfile
import time
import zlib
from pathlib import Path

import faiss
import numpy as np
from numpy.typing import NDArray

from indexes.base import Ids, Vectors
from indexes.errors import StoreError

_SUFFIX = ".faiss"
_UNFINISHED = "writing-"
_LONGEST_WRITE = 3600.0  # seconds after which whoever wrote an unfinished file is taken for dead


class FaissIndex:
    """Exact search by inner product of unit-length descriptors."""

    def __init__(self, index: faiss.Index) -> None:
        self._index = index

    @classmethod
    def empty(cls, dimension: int) -> FaissIndex:
        """An index of descriptors with this many channels."""
        return cls(faiss.index_factory(dimension, "IDMap2,Flat", faiss.METRIC_INNER_PRODUCT))

    def __len__(self) -> int:
        return int(self._index.ntotal)

    def add(self, ids: Ids, vectors: Vectors) -> None:
        self._index.add_with_ids(unit(vectors), ids)

    def search(self, queries: Vectors, k: int, among: Ids | None = None) -> tuple[NDArray[np.float32], Ids]:
        found = min(k, len(self) if among is None else len(among))
        if found == 0:
            return np.empty((len(queries), 0), np.float32), np.empty((len(queries), 0), np.int64)
        parameters = None
        if among is not None:
            parameters = faiss.SearchParameters(sel=faiss.IDSelectorBatch(among))  # type: ignore[call-arg]
        cosines, ids = self._index.search(unit(queries), found, params=parameters)
        there = (ids >= 0).all(axis=0)  # FAISS fills up with -1 where `among` names ids that it does not have
        return 1 - cosines[:, there], ids[:, there]

    def save(self, folder: Path, origin: str) -> Path:
        """Write `<origin>-<checksum>.faiss`, whole or not at all, and delete the files of other origins.

        `origin` names what the index was made from: the model's fingerprint and the catalogue's generation.
        Raises StoreError.
        """
        data = faiss.serialize_index(self._index).tobytes()
        file = folder / f"{origin}-{zlib.crc32(data):08x}{_SUFFIX}"
        try:
            descriptor, name = tempfile.mkstemp(prefix=_UNFINISHED, suffix=_SUFFIX, dir=folder)
            try:
                with os.fdopen(descriptor, "wb") as out:
                    out.write(data)
                    out.flush()
                    os.fsync(out.fileno())
                os.replace(name, file)
            finally:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(name)
            _delete_others(folder, file)
        except OSError as error:
            raise StoreError(
                f"{file} cannot be written ({error.strerror}): make room or allow writing there"
            ) from error
        return file

    @classmethod
    def load(cls, folder: Path, origin: str) -> FaissIndex | None:
        """The index of this origin, or None where its file is missing or is not what was written."""
        for file in folder.glob(f"{origin}-*{_SUFFIX}"):
            try:
                data = file.read_bytes()
                if file.name == f"{origin}-{zlib.crc32(data):08x}{_SUFFIX}":
                    return cls(faiss.deserialize_index(np.frombuffer(data, np.uint8)))
            except (OSError, RuntimeError):  # gone meanwhile, or written by a FAISS that this one cannot read
                continue
        return None


def delete_files(folder: Path) -> None:
    """Delete every index file of a store, so that nothing is left of what it held. Raises StoreError."""
    try:
        _delete_others(folder, None)
    except OSError as error:
        raise StoreError(f"{error.filename} cannot be deleted ({error.strerror}): delete it by hand") from error


def _delete_others(folder: Path, kept: Path | None) -> None:
    for file in folder.glob(f"*{_SUFFIX}"):
        if file != kept and not (file.name.startswith(_UNFINISHED) and _is_recent(file)):
            file.unlink(missing_ok=True)


def _is_recent(file: Path) -> bool:
    try:
        return time.time() - file.stat().st_mtime < _LONGEST_WRITE
    except FileNotFoundError:  # finished meanwhile
        return True


def unit(vectors: Vectors) -> Vectors:
    """Vectors brought to length 1, float32; a zero vector stays zero."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.ascontiguousarray(vectors / np.maximum(lengths, 1e-12), dtype=np.float32)
