"""What a catalogue is asked: pictures and their descriptors, galleries, failures. Nothing here changes anything."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import ColumnElement, false, func, select

from indexes.arrays import Ids, Vectors
from indexes.catalogue.database.dialects import chunked
from indexes.catalogue.database.retry import retry_lost
from indexes.catalogue.database.schema import Archive, Failure, Picture, Root, Setting
from indexes.catalogue.journal import changes_since
from indexes.catalogue.open_database import open_database
from indexes.catalogue.paths import is_below, path_range
from indexes.catalogue.records import (
    Candidate,
    Changes,
    KnownContent,
    KnownFile,
    PictureDetails,
    RootCounts,
    Selection,
    StoredFile,
)

_PAGE = 2000  # rows a query of a scan brings at once
_CHUNK = 256  # descriptors read at once of all, as an index is built of them: what stays in a core's cache
_SOME = 1024  # of those that are asked for, such as a query's candidates
_DRAWS = 4  # of a sample, until it is large enough

_DETAILS = (
    *(Picture.id, Picture.path, Picture.label, Picture.width, Picture.height),
    *(Picture.taken_at, Picture.size, Picture.hash),
)


class CatalogueReader:
    """A catalogue that is opened and looked through. Every method is one transaction; each raises StoreError.

    It lies in the store's folder, or at the address on PostgreSQL that the folder keeps. With `create` a store is made,
    which keeps `address`.
    """

    def __init__(self, folder: Path, create: bool = False, address: str | None = None) -> None:
        self.folder = folder
        self._database = open_database(folder, create, address)
        self._dialect = self._database.dialect

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()

    def close(self) -> None:
        """Give back the file; the catalogue is then of no more use."""
        self._database.close()

    @property
    def writable(self) -> bool:
        """Whether the store can be written."""
        return self._database.writable

    @property
    def address(self) -> str | None:
        """Where the catalogue lies, without a password; None in the store's own folder."""
        return self._database.address

    # --- the store's own values

    def setting(self, name: str) -> str | None:
        """A value of the store by name."""
        rows = self._database.fetch(self._dialect.setting, (name,))
        return rows[0][0] if rows else None

    @property
    def generation(self) -> str:
        """A token that is new with every change that an index must follow; empty before the first."""
        return self.setting("generation") or ""

    @retry_lost
    def changes_since(self, generation: str) -> Changes | None:
        """What has changed since a generation; None where that is not known: forgotten, or of another store."""
        with self._database.read() as connection:
            now = connection.scalar(select(Setting.value).where(Setting.name == "generation"))
            return changes_since(connection, generation, now or "")

    # --- galleries

    @retry_lost
    def roots(self) -> list[bytes]:
        """The galleries' folders."""
        with self._database.read() as connection:
            return list(connection.scalars(select(Root.path).order_by(Root.path)))

    @retry_lost
    def finished_archives(self, folder: bytes) -> dict[bytes, str]:
        """The tars at or below a folder that were read to their ends, with their versions."""
        inside = (Archive.path == folder) | is_below(Archive.path, folder)
        with self._database.read() as connection:
            rows = connection.execute(select(Archive.path, Archive.version).where(inside))
            return {path: version for path, version in rows}  # noqa: C416

    # --- a scan

    def known_files(self, folder: bytes) -> Iterator[KnownFile]:
        """Every file recorded below a folder, in the order of its path's bytes, read a page at a time."""
        start, end = path_range(folder)
        while page := self._database.fetch(self._dialect.known_files, (start, end, _PAGE)):
            for id_, path, size, mtime, version, missing, label in page:
                yield KnownFile(id_, path, size, mtime, version, missing != 0, label)
            start = path

    def find_by_content(self, contents: Sequence[bytes], fingerprint: str) -> dict[bytes, KnownContent]:
        """By content hash, what is known of a picture of that content, with its descriptor of this model."""
        rows = (
            row
            for content in contents
            for row in self._database.fetch(self._dialect.known_content, (content, fingerprint))
        )
        return {content: KnownContent(_decode_vectors([vector])[0], *values) for content, vector, *values in rows}

    # --- search

    def vectors(self, fingerprint: str) -> Iterator[tuple[Ids, Vectors]]:
        """Ids (N,) and descriptors (N, C) of all pictures that are not missing, a chunk at a time, by id."""
        last = -1
        while True:
            rows = self._database.fetch(self._dialect.chunk_of_vectors, (last, fingerprint, _CHUNK))
            if not rows:
                return
            last = rows[-1][0]
            yield _decode_rows(rows)

    def vectors_of(self, ids: Ids, fingerprint: str) -> Iterator[tuple[Ids, Vectors]]:
        """The same of those of these pictures that are not missing, in the order of `ids`."""
        for start in range(0, len(ids), _SOME):
            wanted = self._dialect.encode_ids(ids[start : start + _SOME].tolist())
            rows = self._database.fetch(self._dialect.vectors_by_id, (wanted, fingerprint))
            if rows:
                yield _decode_rows(rows)

    def sample(self, fingerprint: str, most: int, seed: int = 0) -> tuple[Ids, Vectors]:
        """About so many of all pictures that are not missing, drawn by chance: ids (N,) and descriptors (N, C)."""
        ids = np.arange(*self._id_range())
        if not len(ids) or most < 1:
            return np.empty(0, np.int64), np.empty((0, 0), np.float32)
        drawn = np.random.default_rng(seed).permutation(ids) if len(ids) > most else ids
        chunks: list[tuple[Ids, Vectors]] = []
        for start in range(0, min(len(drawn), _DRAWS * most), most):  # more than one where many are gone or missing
            lacking = most - sum(len(found) for found, _ in chunks)
            if lacking <= 0:
                break
            chunks += self.vectors_of(np.sort(drawn[start : start + most]), fingerprint)
        found, vectors = (np.concatenate(parts) for parts in zip(*chunks, strict=True)) if chunks else (ids[:0], None)
        return found[:most], np.empty((0, 0), np.float32) if vectors is None else vectors[:most]

    @retry_lost
    def _id_range(self) -> tuple[int, int]:
        with self._database.read() as connection:
            least, greatest = connection.execute(select(func.min(Picture.id), func.max(Picture.id))).one()
        return (0, 0) if least is None or greatest is None else (least, greatest + 1)

    @retry_lost
    def count(self) -> int:
        """How many pictures are not missing, each of which has a descriptor."""
        with self._database.read() as connection:
            return int(connection.scalar(select(func.coalesce(func.sum(Root.pictures), 0))) or 0)

    def candidates(self, ids: Ids) -> list[Candidate]:
        """Those of these pictures that are not missing, in the order of `ids`."""
        return [
            Candidate(*row)
            for row in self._database.fetch(self._dialect.candidates, [self._dialect.encode_ids(ids.tolist())])
        ]

    def content_hashes(self) -> tuple[Ids, NDArray[np.bytes_]]:
        """The ids (N,) of all pictures that are not missing, rising, and the hashes (N,) of their contents."""
        ids, hashes = [np.empty(0, np.int64)], [np.empty(0, "S1")]
        while rows := self._database.fetch(
            self._dialect.content_hashes, (int(ids[-1][-1]) if len(ids) > 1 else -1, _PAGE)
        ):
            ids.append(np.array([row[0] for row in rows], np.int64))
            hashes.append(np.array([row[1] for row in rows], np.bytes_))
        return np.concatenate(ids), np.concatenate(hashes)

    @retry_lost
    def files(self, ids: Ids) -> list[StoredFile]:
        """What is known of those of these pictures' files that are not missing, by id."""
        columns = (getattr(Picture, name) for name in StoredFile._fields)
        found = select(*columns).where(~Picture.missing).order_by(Picture.id)
        with self._database.read() as connection:
            parts = (connection.execute(found.where(Picture.id.in_(some))) for some in chunked(ids.tolist()))
            return [StoredFile(*row) for rows in parts for row in rows]

    @retry_lost
    def select_ids(self, selection: Selection) -> Ids:
        """The ids of the pictures of a selection that are not missing."""
        with self._database.read() as connection:
            return np.array(list(connection.scalars(select(Picture.id).where(*_conditions(selection)))), np.int64)

    @retry_lost
    def count_selected(self, selection: Selection) -> int:
        """How many pictures of a selection are not missing."""
        if selection.is_all:
            return self.count()
        with self._database.read() as connection:
            return connection.scalar(select(func.count()).select_from(Picture).where(*_conditions(selection))) or 0

    @retry_lost
    def list_pictures(self, selection: Selection, after: bytes, most: int) -> list[PictureDetails]:
        """The next pictures of a selection in the order of their paths' bytes, after a path; `b""` comes first."""
        with self._database.read() as connection:
            found = (
                select(*_DETAILS)
                .where(Picture.path > after, *_conditions(selection))
                .order_by(Picture.path)
                .limit(most)
            )
            return [PictureDetails(*row) for row in connection.execute(found)]

    @retry_lost
    def picture(self, id_: int) -> PictureDetails | None:
        """One picture, where it is not missing."""
        with self._database.read() as connection:
            row = connection.execute(select(*_DETAILS).where(Picture.id == id_, ~Picture.missing)).one_or_none()
            return PictureDetails(*row) if row else None

    @retry_lost
    def pictures(self, ids: Sequence[int]) -> dict[int, PictureDetails]:
        """By id, those of these pictures that are not missing."""
        with self._database.read() as connection:
            parts = (
                connection.execute(select(*_DETAILS).where(~Picture.missing, Picture.id.in_(some)))
                for some in chunked(ids)
            )
            return {row[0]: PictureDetails(*row) for rows in parts for row in rows}

    @retry_lost
    def folders(self) -> list[bytes]:
        """Every folder that holds pictures that are not missing, directly."""
        with self._database.read() as connection:
            paths = connection.scalars(select(Picture.path).where(~Picture.missing))
            return sorted({path.rpartition(b"/")[0] or b"/" for path in paths})

    @retry_lost
    def labels(self) -> list[str]:
        """Every label of pictures that are not missing."""
        with self._database.read() as connection:
            return list(connection.scalars(self._dialect.labels))

    # --- status

    @retry_lost
    def root_counts(self) -> list[RootCounts]:
        """Pictures by gallery."""
        with self._database.read() as connection:
            rows = connection.execute(select(Root.path, Root.pictures, Root.missing).order_by(Root.path))
            return [RootCounts(*row) for row in rows]

    @retry_lost
    def failures(self) -> list[tuple[bytes, str]]:
        """The files that could not be indexed, and why."""
        with self._database.read() as connection:
            rows = connection.execute(select(Failure.path, Failure.reason).order_by(Failure.path))
            return [(path, reason) for path, reason in rows]


def _decode_rows(rows: Sequence[Any]) -> tuple[Ids, Vectors]:
    return np.array([row[0] for row in rows], np.int64), _decode_vectors([row[1] for row in rows])


def _decode_vectors(blobs: list[bytes]) -> Vectors:
    if not blobs:
        return np.empty((0, 0), np.float32)
    return np.frombuffer(b"".join(blobs), "<f2").reshape(len(blobs), -1).astype(np.float32)


def _conditions(selection: Selection) -> list[ColumnElement[bool]]:
    """What holds of a selection's pictures."""
    chosen: list[ColumnElement[bool]] = [~Picture.missing]
    if selection.label is not None:
        label = os.fsencode(selection.label).decode("utf-8", "replace")  # as `label_of` takes it from a folder's name
        chosen.append(Picture.label == label if "\0" not in label else false())  # which PostgreSQL's text cannot hold
    if selection.folder is not None:
        chosen.append(is_below(Picture.path, selection.folder))
    if selection.since is not None:
        chosen.append(Picture.taken_at >= selection.since)
    if selection.until is not None:
        chosen.append(Picture.taken_at < selection.until)
    return chosen
