"""The descriptors of a catalogue's pictures under one model."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from sqlalchemy import func, select

from indexes.arrays import Ids, Vectors
from indexes.catalogue.database.base import CatalogueDatabase
from indexes.catalogue.database.checksums import descriptor_checksum, holds
from indexes.catalogue.database.schema import PICTURES

_CHUNK = 256  # descriptors read at once when an index is built of them all: what stays in a core's cache
_MANY = 1024  # read at once of those given by their ids, such as a query's candidates
_DRAWS = 4  # attempts at a sample until it is large enough
_ID_RANGE = select(func.coalesce(func.min(PICTURES.c.id), 0), func.coalesce(func.max(PICTURES.c.id) + 1, 0))


class Descriptors:
    """The descriptors of pictures that are not missing. Every method raises StoreError."""

    def __init__(self, database: CatalogueDatabase) -> None:
        self._database = database

    def all(self, fingerprint: str) -> Iterator[tuple[Ids, Vectors]]:
        """Yield ids (N,) and float32 descriptors (N, C) of all pictures, a chunk at a time, by id."""
        last = -1
        while rows := self._database.fetch(self._database.dialect.chunk_of_vectors, (last, fingerprint, _CHUNK)):
            last = rows[-1][0]
            yield self._decode_rows(rows, fingerprint)

    def of(self, ids: Ids, fingerprint: str) -> Iterator[tuple[Ids, Vectors]]:
        """Yield the same for the pictures of these ids, in their order."""
        dialect = self._database.dialect
        for start in range(0, len(ids), _MANY):
            encoded = dialect.encode_ids(ids[start : start + _MANY].tolist())
            rows = self._database.fetch(dialect.vectors_by_id, (encoded, fingerprint))
            if rows:
                yield self._decode_rows(rows, fingerprint)

    def sample(self, fingerprint: str, most: int, seed: int = 0) -> tuple[Ids, Vectors]:
        """Draw up to `most` pictures at random: ids (N,) and descriptors (N, C), fewer if many are missing."""
        [(first, end)] = self._database.rows(_ID_RANGE)
        ids = np.arange(first, end)
        drawn = np.random.default_rng(seed).permutation(ids) if len(ids) > most else ids
        chunks: list[tuple[Ids, Vectors]] = []
        for start in range(0, min(len(drawn), _DRAWS * most), most or 1):  # more than once if many are gone or missing
            if sum(len(chunk) for chunk, _ in chunks) >= most:
                break
            chunks += self.of(np.sort(drawn[start : start + most]), fingerprint)
        if not chunks:
            return ids[:0], np.empty((0, 0), np.float32)
        sampled, vectors = (np.concatenate(parts) for parts in zip(*chunks, strict=True))
        return sampled[:most], vectors[:most]

    def _decode_rows(self, rows: Sequence[Any], fingerprint: str) -> tuple[Ids, Vectors]:
        for id_, vector, checksum in rows:
            if not holds(checksum, descriptor_checksum(id_, fingerprint, vector)):
                raise self._database.damaged("a picture's descriptor")
        return np.array([row[0] for row in rows], np.int64), decode_vectors([row[1] for row in rows])


def decode_vectors(blobs: list[bytes]) -> Vectors:
    """Return stored descriptors, at least one, as float32 (N, C)."""
    return np.frombuffer(b"".join(blobs), "<f2").reshape(len(blobs), -1).astype(np.float32)
