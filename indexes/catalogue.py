"""The catalogue, the truth of a store: which pictures are indexed, with their descriptors, and which files failed."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import ColumnElement, Connection, and_, delete, func, select, text, update
from sqlalchemy.dialects.sqlite import insert
from sqlalchemy.orm import InstrumentedAttribute

from indexes.base import Ids, Vectors
from indexes.changes import changes_since, forget_changes, has_changed, new_generation
from indexes.database import Database
from indexes.recording import label_of, record_pictures
from indexes.records import (
    Candidate,
    Changes,
    Counts,
    KnownFile,
    Listed,
    NewPicture,
    Removed,
    Selection,
    StoredFile,
    Twin,
)
from indexes.schema import Change, Failure, Picture, Root, Setting

T = TypeVar("T")

_PAGE = 2000  # rows a query of a scan brings at once
_CHUNK = 256  # descriptors read at once of all, as an index is built of them: what stays in a core's cache
_SOME = 1024  # of those that are asked for, such as a query's candidates
_DRAWS = 4  # of a sample, until it is large enough
_VARIABLES = 30_000  # SQLite takes at most 32,766 values in a statement


# Written out, not composed: each is run for every file or every query.
_TWIN = (
    "SELECT p.hash, d.vector, p.width, p.height, p.taken_at, p.latitude, p.longitude FROM pictures p"
    " JOIN descriptors d ON d.picture_id = p.id WHERE p.hash = ? AND d.fingerprint = ?"
    " ORDER BY p.id LIMIT 1"  # a content may have thousands of copies
)
_KNOWN = "SELECT id, path, size, mtime, missing FROM pictures WHERE path > ? AND path < ? ORDER BY path LIMIT ?"
_CHUNK_OF_VECTORS = (
    "SELECT p.id, d.vector FROM pictures p JOIN descriptors d ON d.picture_id = p.id"
    " WHERE p.id > ? AND NOT p.missing AND d.fingerprint = ? ORDER BY p.id LIMIT ?"
)
_SOME_VECTORS = (
    "SELECT p.id, d.vector FROM json_each(?) w CROSS JOIN pictures p ON p.id = w.value"
    " JOIN descriptors d ON d.picture_id = p.id WHERE NOT p.missing AND d.fingerprint = ?"
)
_CANDIDATES = (
    "SELECT p.id, p.path, r.path, p.label, p.width, p.height FROM json_each(?) w"
    " CROSS JOIN pictures p ON p.id = w.value JOIN roots r ON r.id = p.root_id WHERE NOT p.missing"
)
_CONTENTS = "SELECT id, hash FROM pictures WHERE id > ? AND NOT missing ORDER BY id LIMIT ?"
_LABELS = text(  # from each label to the next one by the index on (label, missing), not through all rows of it
    "WITH RECURSIVE each (label) AS (SELECT min(label) FROM pictures UNION ALL"
    " SELECT (SELECT min(label) FROM pictures WHERE label > each.label) FROM each WHERE each.label IS NOT NULL)"
    " SELECT label FROM each WHERE label IS NOT NULL"
    " AND EXISTS (SELECT 1 FROM pictures p WHERE p.label = each.label AND p.missing = 0) ORDER BY label"
)


_LISTED = (
    *(Picture.id, Picture.path, Picture.label, Picture.width, Picture.height),
    *(Picture.taken_at, Picture.size, Picture.hash),
)


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
        """A token that is new with every change that an index must follow; empty before the first."""
        return self.setting("generation") or ""

    def changes_since(self, generation: str) -> Changes | None:
        """What has changed since a generation; None where that is not known: forgotten, or of another store."""
        with self._database.read() as connection:
            now = connection.scalar(select(Setting.value).where(Setting.name == "generation"))
            return changes_since(connection, generation, now or "")

    def forget_changes(self, generation: str) -> None:
        """Drop what led to a generation, once an index of it is kept."""
        with self._database.write() as connection:
            forget_changes(connection, generation)

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
        while page := self._database.fetch(_KNOWN, (start, end, _PAGE)):
            for id_, path, size, mtime, missing in page:
                yield KnownFile(id_, path, size, mtime, missing != 0)
            start = path

    def find_twins(self, contents: Sequence[bytes], fingerprint: str) -> dict[bytes, Twin]:
        """By content hash, what is known of a picture of that content, with its descriptor of this model."""
        rows = (row for content in contents for row in self._database.fetch(_TWIN, (content, fingerprint)))
        return {content: Twin(_matrix([vector])[0], *values) for content, vector, *values in rows}

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
            if pictures:
                record_pictures(connection, root_id, root, fingerprint, pictures)
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
            rows = self._database.fetch(_CHUNK_OF_VECTORS, (last, fingerprint, _CHUNK))
            if not rows:
                return
            last = rows[-1][0]
            yield _with_ids(rows)

    def vectors_of(self, ids: Ids, fingerprint: str) -> Iterator[tuple[Ids, Vectors]]:
        """The same of those of these pictures that are not missing, in the order of `ids`."""
        for start in range(0, len(ids), _SOME):
            wanted = json.dumps(ids[start : start + _SOME].tolist())
            rows = self._database.fetch(_SOME_VECTORS, (wanted, fingerprint))
            if rows:
                yield _with_ids(rows)

    def sample(self, fingerprint: str, most: int, seed: int = 0) -> tuple[Ids, Vectors]:
        """About so many of all pictures that are not missing, drawn by chance: ids (N,) and descriptors (N, C)."""
        with self._database.read() as connection:
            least, greatest = connection.execute(select(func.min(Picture.id), func.max(Picture.id))).one()
        if least is None or most < 1:
            return np.empty(0, np.int64), np.empty((0, 0), np.float32)
        ids = np.arange(least, greatest + 1)
        drawn = np.random.default_rng(seed).permutation(ids) if len(ids) > most else ids
        chunks: list[tuple[Ids, Vectors]] = []
        for start in range(0, min(len(drawn), _DRAWS * most), most):  # more than one where many are gone or missing
            lacking = most - sum(len(found) for found, _ in chunks)
            if lacking <= 0:
                break
            chunks += self.vectors_of(np.sort(drawn[start : start + most]), fingerprint)
        found, vectors = (np.concatenate(parts) for parts in zip(*chunks, strict=True)) if chunks else (ids[:0], None)
        return found[:most], np.empty((0, 0), np.float32) if vectors is None else vectors[:most]

    def count(self) -> int:
        """How many pictures are not missing, each of which has a descriptor."""
        with self._database.read() as connection:
            return connection.scalar(select(func.coalesce(func.sum(Root.pictures), 0))) or 0

    def candidates(self, ids: Ids) -> list[Candidate]:
        """Those of these pictures that are not missing, in the order of `ids`."""
        return [Candidate(*row) for row in self._database.fetch(_CANDIDATES, [json.dumps(ids.tolist())])]

    def contents(self) -> tuple[Ids, NDArray[np.bytes_]]:
        """The ids (N,) of all pictures that are not missing, rising, and the hashes (N,) of their contents."""
        ids, hashes = [np.empty(0, np.int64)], [np.empty(0, "S1")]
        while rows := self._database.fetch(_CONTENTS, (int(ids[-1][-1]) if len(ids) > 1 else -1, _PAGE)):
            ids.append(np.array([row[0] for row in rows], np.int64))
            hashes.append(np.array([row[1] for row in rows], np.bytes_))
        return np.concatenate(ids), np.concatenate(hashes)

    def files(self, ids: Ids) -> list[StoredFile]:
        """What is known of those of these pictures' files that are not missing, by id."""
        columns = (getattr(Picture, name) for name in StoredFile._fields)
        found = select(*columns).where(~Picture.missing).order_by(Picture.id)
        with self._database.read() as connection:
            portions = (connection.execute(found.where(Picture.id.in_(some))) for some in _portions(ids.tolist()))
            return [StoredFile(*row) for rows in portions for row in rows]

    def selected(self, selection: Selection) -> Ids:
        """The ids of the pictures of a selection that are not missing."""
        with self._database.read() as connection:
            return np.array(list(connection.scalars(select(Picture.id).where(*_chosen(selection)))), np.int64)

    def count_selected(self, selection: Selection) -> int:
        """How many pictures of a selection are not missing."""
        if selection.is_all:
            return self.count()
        with self._database.read() as connection:
            return connection.scalar(select(func.count()).select_from(Picture).where(*_chosen(selection))) or 0

    def listed(self, selection: Selection, after: bytes, most: int) -> list[Listed]:
        """The next pictures of a selection in the order of their paths' bytes, after a path; `b""` comes first."""
        with self._database.read() as connection:
            found = select(*_LISTED).where(Picture.path > after, *_chosen(selection)).order_by(Picture.path).limit(most)
            return [Listed(*row) for row in connection.execute(found)]

    def picture(self, id_: int) -> Listed | None:
        """One picture, where it is not missing."""
        with self._database.read() as connection:
            row = connection.execute(select(*_LISTED).where(Picture.id == id_, ~Picture.missing)).one_or_none()
            return Listed(*row) if row else None

    def pictures(self, ids: Sequence[int]) -> dict[int, Listed]:
        """By id, those of these pictures that are not missing."""
        with self._database.read() as connection:
            portions = (
                connection.execute(select(*_LISTED).where(~Picture.missing, Picture.id.in_(some)))
                for some in _portions(ids)
            )
            return {row[0]: Listed(*row) for rows in portions for row in rows}

    def folders(self) -> list[bytes]:
        """Every folder that holds pictures that are not missing, directly."""
        with self._database.read() as connection:
            paths = connection.scalars(select(Picture.path).where(~Picture.missing))
            return sorted({path.rpartition(b"/")[0] or b"/" for path in paths})

    def labels(self) -> list[str]:
        """Every label of pictures that are not missing."""
        with self._database.read() as connection:
            return list(connection.scalars(_LABELS))

    # --- status

    def counts(self) -> list[Counts]:
        """Pictures by gallery."""
        with self._database.read() as connection:
            rows = connection.execute(select(Root.path, Root.pictures, Root.missing).order_by(Root.path))
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
            label = label_of(path + b"/", folder)
            labelled = select(Picture.id).where(Picture.root_id == id_, directly)
            connection.execute(insert(Change).from_select(["picture_id"], labelled))  # an index may keep labels
            connection.execute(update(Picture).where(Picture.root_id == id_, directly).values(label=label))
            connection.execute(update(Picture).where(Picture.root_id == id_).values(root_id=root_id))
            connection.execute(delete(Root).where(Root.id == id_))
            _grow(connection)
    return root_id, folder


def _upsert(connection: Connection, table: type[Any], key: str, values: dict[str, Any]) -> None:
    """Insert a row, or change the one of the same key."""
    statement = insert(table).values(values)
    changed = {name: statement.excluded[name] for name in values if name != key}
    connection.execute(statement.on_conflict_do_update(index_elements=[key], set_=changed))


def _grow(connection: Connection) -> None:
    now = connection.scalar(select(Setting.value).where(Setting.name == "generation"))
    if has_changed(connection, now or ""):
        _upsert(connection, Setting, "name", {"name": "generation", "value": new_generation(connection)})


def _delete_paths(connection: Connection, paths: Sequence[bytes]) -> None:
    for some in _portions(paths):
        connection.execute(delete(Failure).where(Failure.path.in_(some)))


def _portions(values: Sequence[T]) -> Iterator[Sequence[T]]:
    return (values[start : start + _VARIABLES] for start in range(0, len(values), _VARIABLES))


def _with_ids(rows: Sequence[Any]) -> tuple[Ids, Vectors]:
    return np.array([row[0] for row in rows], np.int64), _matrix([row[1] for row in rows])


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


def _chosen(selection: Selection) -> list[ColumnElement[bool]]:
    """What holds of a selection's pictures."""
    chosen: list[ColumnElement[bool]] = [~Picture.missing]
    if selection.label is not None:
        label = os.fsencode(selection.label).decode("utf-8", "replace")  # as `label_of` takes it from a folder's name
        chosen.append(Picture.label == label)
    if selection.folder is not None:
        chosen.append(_below(Picture.path, selection.folder))
    if selection.since is not None:
        chosen.append(Picture.taken_at >= selection.since)
    if selection.until is not None:
        chosen.append(Picture.taken_at < selection.until)
    return chosen


def _below(column: InstrumentedAttribute[bytes], folder: bytes) -> ColumnElement[bool]:
    start, end = _span(folder)
    return and_(column > start, column < end)
