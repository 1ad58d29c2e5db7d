"""The catalogue, the truth of a store: which pictures are indexed, with their descriptors, and which files failed."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from sqlalchemy import ColumnElement, Connection, Integer, and_, cast, delete, func, select, update
from sqlalchemy.dialects.sqlite import insert
from sqlalchemy.orm import InstrumentedAttribute

from indexes.base import Ids, Vectors
from indexes.database import Database
from indexes.records import Candidate, Counts, KnownFile, NewPicture, Removed, Twin
from indexes.schema import Descriptor, Failure, Picture, Root, Setting

T = TypeVar("T")

_PAGE = 2000  # rows a query of a scan brings at once
_CHUNK = 4096  # descriptors read at once when an index is built
_VARIABLES = 30_000  # SQLite takes at most 32,766 values in a statement


class Catalogue:
    """One store's catalogue. Every method is one transaction; each raises StoreError."""

    def __init__(self, folder: Path, create: bool = False) -> None:
        self.folder = folder
        self._database = Database(folder, create)

    def close(self) -> None:
        """Give back the file; the catalogue is then of no more use."""
        self._database.close()

    @property
    def writable(self) -> bool:
        """Whether the store can be written."""
        return self._database.writable

    # --- the store's own values

    def setting(self, name: str) -> str | None:
        """A value of the store by name."""
        with self._database.read() as connection:
            return connection.scalar(select(Setting.value).where(Setting.name == name))

    def set_settings(self, **values: str) -> None:
        """Keep values of the store."""
        with self._database.write() as connection:
            for name, value in values.items():
                _upsert(connection, Setting, "name", {"name": name, "value": value})

    @property
    def generation(self) -> str:
        """A token that is new with every change that an index must follow; empty before the first.

        It is drawn by chance, not counted: a store that is restored from a copy, or made anew, comes back to no
        generation that an index file of other pictures may have.
        """
        return self.setting("generation") or ""

    # --- galleries

    def roots(self) -> list[bytes]:
        """The galleries' folders."""
        with self._database.read() as connection:
            return list(connection.scalars(select(Root.path).order_by(Root.path)))

    def root_of(self, folder: bytes) -> bytes:
        """The root that a scan of this folder belongs to: one that holds it, else itself, taking in those it holds."""
        with self._database.write() as connection:
            return _root_of(connection, folder)[1]

    # --- a scan

    def known_files(self, folder: bytes) -> Iterator[KnownFile]:
        """Every file recorded below a folder, in the order of its path's bytes, read a page at a time."""
        start, end = _span(folder)
        columns = (Picture.id, Picture.path, Picture.size, Picture.mtime, Picture.missing)
        while True:
            with self._database.read() as connection:
                page = connection.execute(
                    select(*columns).where(Picture.path > start, Picture.path < end).order_by(Picture.path).limit(_PAGE)
                ).all()
            yield from (KnownFile(*row) for row in page)
            if len(page) < _PAGE:
                return
            start = page[-1].path

    def find_twins(self, contents: Sequence[bytes], fingerprint: str) -> dict[bytes, Twin]:
        """By content hash, what is known of a picture of that content, with its descriptor of this model."""
        columns = (Picture.width, Picture.height, Picture.taken_at, Picture.latitude, Picture.longitude)
        with self._database.read() as connection:
            query = (
                select(Picture.hash, Descriptor.vector, *columns)
                .join(Descriptor, Descriptor.picture_id == Picture.id)
                .where(Descriptor.fingerprint == fingerprint)
                .order_by(Picture.id)
                .limit(1)  # a content may have thousands of copies
            )
            rows = [connection.execute(query.where(Picture.hash == content)).first() for content in contents]
            return {row[0]: Twin(_matrix([row[1]])[0], *row[2:]) for row in rows if row is not None}

    def record(
        self,
        folder: bytes,
        fingerprint: str,
        pictures: Sequence[NewPicture],
        failures: Iterable[tuple[bytes, str]] = (),
    ) -> None:
        """Record a batch of a folder's scan, good and bad, in one transaction.

        A failed file's earlier picture becomes missing. The folder's root is looked up anew: another process may
        have removed it, or taken it in, since the scan began.
        """
        failures = list(failures)
        with self._database.write() as connection:
            root_id, root = _root_of(connection, folder)
            for picture in pictures:
                _record_one(connection, root_id, root, fingerprint, picture)
            _delete_paths(connection, [picture.path for picture in pictures])
            for path, reason in failures:
                _upsert(connection, Failure, "path", {"path": path, "reason": reason})
                connection.execute(update(Picture).where(Picture.path == path).values(missing=True))
            _grow(connection)

    def set_missing(self, ids: Sequence[int], missing: bool) -> None:
        """Mark pictures as missing, or as back."""
        with self._database.write() as connection:
            for some in _portions(ids):
                connection.execute(update(Picture).where(Picture.id.in_(some)).values(missing=missing))
            _grow(connection)

    def keep_failures(self, folder: bytes, paths: set[bytes]) -> None:
        """Forget the failures of a folder and what a walk of it meets, but for these."""
        with self._database.write() as connection:
            inside = (Failure.path == folder) | _below(Failure.path, folder)
            old = connection.scalars(select(Failure.path).where(inside))
            met = [path for path in old if path == folder or holds(folder, path)]
            _delete_paths(connection, [path for path in met if path not in paths])

    def remove(self, path: bytes) -> Removed:
        """Take a picture or a failed file, or all below a folder and the folder itself, out of the catalogue."""
        with self._database.write() as connection:
            pictures, failures, roots = (
                connection.execute(delete(table).where((table.path == path) | _below(table.path, path))).rowcount
                for table in (Picture, Failure, Root)
            )
            removed = Removed(pictures, failures, roots)
            if removed:
                _grow(connection)
            return removed

    # --- search

    def vectors(self, fingerprint: str) -> Iterator[tuple[Ids, Vectors]]:
        """Ids (N,) and descriptors (N, C) of all pictures that are not missing, a chunk at a time, by id."""
        last = -1
        while True:
            with self._database.read() as connection:
                rows = connection.execute(
                    select(Picture.id, Descriptor.vector)
                    .join(Descriptor, Descriptor.picture_id == Picture.id)
                    .where(Picture.id > last, ~Picture.missing, Descriptor.fingerprint == fingerprint)
                    .order_by(Picture.id)
                    .limit(_CHUNK)
                ).all()
            if not rows:
                return
            yield np.array([row.id for row in rows], np.int64), _matrix([row.vector for row in rows])
            last = rows[-1].id

    def candidates(self, ids: Ids, fingerprint: str) -> tuple[list[Candidate], Vectors]:
        """Those of these pictures that are not missing, and their descriptors (N, C), in the order of `ids`."""
        columns = (Picture.id, Picture.path, Root.path, Picture.label, Picture.width, Picture.height)
        found: dict[int, tuple[Candidate, bytes]] = {}
        with self._database.read() as connection:
            for some in _portions([int(id_) for id_ in ids]):
                rows = connection.execute(
                    select(*columns, Descriptor.vector)
                    .join(Root, Root.id == Picture.root_id)
                    .join(Descriptor, Descriptor.picture_id == Picture.id)
                    .where(Picture.id.in_(some), ~Picture.missing, Descriptor.fingerprint == fingerprint)
                )
                found |= {row[0]: (Candidate(*row[:-1]), row[-1]) for row in rows}
        ordered = [found[int(id_)] for id_ in ids if int(id_) in found]
        return [candidate for candidate, _ in ordered], _matrix([vector for _, vector in ordered])

    def labelled(self, label: str) -> Ids:
        """The ids of the pictures with this label that are not missing."""
        label = os.fsencode(label).decode("utf-8", "replace")  # as `_label` takes it from a folder's name
        with self._database.read() as connection:
            ids = connection.scalars(select(Picture.id).where(Picture.label == label, ~Picture.missing))
            return np.array(list(ids), np.int64)

    def labels(self) -> list[str]:
        """Every label of pictures that are not missing."""
        with self._database.read() as connection:
            query = select(Picture.label).where(~Picture.missing, Picture.label.is_not(None)).distinct()
            return sorted(label for label in connection.scalars(query) if label is not None)

    # --- status

    def counts(self) -> list[Counts]:
        """Pictures by gallery."""
        missing = func.coalesce(func.sum(cast(Picture.missing, Integer)), 0)
        with self._database.read() as connection:
            rows = connection.execute(
                select(Root.path, func.count(Picture.id) - missing, missing)
                .join(Picture, Picture.root_id == Root.id, isouter=True)
                .group_by(Root.id)
                .order_by(Root.path)
            )
            return [Counts(*row) for row in rows]

    def failures(self) -> list[tuple[bytes, str]]:
        """The files that could not be indexed, and why."""
        with self._database.read() as connection:
            rows = connection.execute(select(Failure.path, Failure.reason).order_by(Failure.path))
            return [(path, reason) for path, reason in rows]


def holds(folder: bytes, path: bytes) -> bool:
    """Whether a walk of the folder comes to what lies at this path below it: no name between begins with a dot."""
    inside = _inside(folder)
    return path.startswith(inside) and b"/." not in path[len(inside) - 1 :]


def _root_of(connection: Connection, folder: bytes) -> tuple[int, bytes]:
    roots = {path: id_ for id_, path in connection.execute(select(Root.id, Root.path))}
    for path, id_ in roots.items():
        if folder == path or holds(path, folder):
            return id_, path
    root_id: int = connection.execute(insert(Root).values(path=folder).returning(Root.id)).scalar_one()
    for path, id_ in roots.items():
        if holds(folder, path):
            directly = func.instr(func.substr(Picture.path, len(_inside(path)) + 1), b"/") == 0
            label = _label(path + b"/", folder)
            connection.execute(update(Picture).where(Picture.root_id == id_, directly).values(label=label))
            connection.execute(update(Picture).where(Picture.root_id == id_).values(root_id=root_id))
            connection.execute(delete(Root).where(Root.id == id_))
    return root_id, folder


def _label(path: bytes, root: bytes) -> str | None:
    """The parent folder's name, where the picture lies in a folder of the gallery."""
    folder = os.path.dirname(path)
    return os.path.basename(folder).decode("utf-8", "replace") if folder != root else None


def _record_one(connection: Connection, root_id: int, root: bytes, fingerprint: str, picture: NewPicture) -> None:
    values = {name: value for name, value in vars(picture).items() if name != "vector"}
    values |= {"root_id": root_id, "label": _label(picture.path, root), "missing": False}
    picture_id = _upsert(connection, Picture, "path", values, Picture.id)
    connection.execute(delete(Descriptor).where(Descriptor.picture_id == picture_id))
    vector = picture.vector.astype("<f2").tobytes()
    row = {"picture_id": picture_id, "fingerprint": fingerprint, "vector": vector}
    connection.execute(insert(Descriptor).values(row))


def _upsert(connection: Connection, table: type[Any], key: str, values: dict[str, Any], returning: Any = None) -> Any:
    """Insert a row, or change the one of the same key; what `returning` asks of it."""
    statement = insert(table).values(values)
    changed = {name: statement.excluded[name] for name in values if name != key}
    statement = statement.on_conflict_do_update(index_elements=[key], set_=changed)
    if returning is None:
        connection.execute(statement)
        return None
    return connection.execute(statement.returning(returning)).scalar_one()


def _grow(connection: Connection) -> None:
    _upsert(connection, Setting, "name", {"name": "generation", "value": secrets.token_hex(8)})


def _delete_paths(connection: Connection, paths: Sequence[bytes]) -> None:
    for some in _portions(paths):
        connection.execute(delete(Failure).where(Failure.path.in_(some)))


def _portions(values: Sequence[T]) -> Iterator[Sequence[T]]:
    return (values[start : start + _VARIABLES] for start in range(0, len(values), _VARIABLES))


def _matrix(blobs: list[bytes]) -> Vectors:
    if not blobs:
        return np.empty((0, 0), np.float32)
    return np.frombuffer(b"".join(blobs), "<f2").reshape(len(blobs), -1).astype(np.float32)


def _inside(folder: bytes) -> bytes:
    return folder if folder.endswith(b"/") else folder + b"/"


def _span(folder: bytes) -> tuple[bytes, bytes]:
    """All paths below a folder lie between these two, as `0` follows `/` in ASCII."""
    inside = _inside(folder)
    return inside, inside[:-1] + b"0"


def _below(column: InstrumentedAttribute[bytes], folder: bytes) -> ColumnElement[bool]:
    start, end = _span(folder)
    return and_(column > start, column < end)
