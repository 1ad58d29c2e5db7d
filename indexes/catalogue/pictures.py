"""Queries for the pictures of a catalogue."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import ColumnElement, false, func, or_, select

from indexes.arrays import Ids
from indexes.catalogue.database.base import CatalogueDatabase
from indexes.catalogue.database.checksums import CHECKED
from indexes.catalogue.database.schema import PICTURES, ROOTS
from indexes.catalogue.labels import label_spellings
from indexes.catalogue.paths import is_below
from indexes.catalogue.records import Candidate, PictureDetails, Selection, StoredFile

_PAGE = 2000  # rows read at once

_FEW = 2000  # pictures of a store that are all checked before some are selected: in 15 ms

_CHECK = (PICTURES.c.checksum, *PICTURES.c[CHECKED])
_DETAILS = select(*PICTURES.c[PictureDetails._fields], *_CHECK).where(~PICTURES.c.missing)
_FILES = select(*PICTURES.c[StoredFile._fields], *_CHECK).where(~PICTURES.c.missing).order_by(PICTURES.c.id)
_WIDTH = len(PictureDetails._fields)


class Pictures:
    """The pictures that are not missing, each of which has a descriptor. Every method raises StoreError."""

    def __init__(self, database: CatalogueDatabase) -> None:
        self._database = database

    def count(self) -> int:
        """Count all pictures."""
        return int(self._database.scalars(select(func.coalesce(func.sum(ROOTS.c.pictures), 0)))[0])

    def candidates(self, ids: Ids) -> list[Candidate]:
        """Return the pictures of these ids in their order."""
        dialect = self._database.dialect
        rows = self._database.fetch(dialect.candidates, [dialect.encode_ids(ids.tolist())])
        return [Candidate(*row) for row in self._database.check(rows, len(Candidate._fields))]

    def content_hashes(self) -> tuple[Ids, NDArray[np.bytes_]]:
        """Return the ids (N,) of all pictures, rising, and the hashes (N,) of their contents."""
        ids, hashes, last = [np.empty(0, np.int64)], [np.empty(0, "S1")], -1
        while rows := self._database.fetch(self._database.dialect.content_hashes, (last, _PAGE)):
            self._database.check(rows, 2)
            ids.append(np.array([row[0] for row in rows], np.int64))
            hashes.append(np.array([row[1] for row in rows], np.bytes_))
            last = rows[-1][0]
        return np.concatenate(ids), np.concatenate(hashes)

    def smallest_hashes(self, most: int) -> Ids:
        """Return the pictures (N,) whose contents have the smallest hashes, one of each content, by hash."""
        first = select(func.min(PICTURES.c.id)).where(~PICTURES.c.missing)
        ordered = first.group_by(PICTURES.c.hash).order_by(PICTURES.c.hash).limit(most)
        return np.array(self._database.scalars(ordered), np.int64)

    def paths_of(self, content: bytes) -> list[bytes]:
        """Return the paths of all pictures of a content, by its hash."""
        return self._database.scalars(select(PICTURES.c.path).where(PICTURES.c.hash == content, ~PICTURES.c.missing))

    def times(self) -> tuple[int, str | None, str | None]:
        """Return how many pictures have a time, and the first and the last one."""
        time = PICTURES.c.taken_at
        found = select(func.count(time), func.min(time), func.max(time)).where(~PICTURES.c.missing)
        count, first, last = self._database.rows(found)[0]
        return count, first, last

    def files(self, ids: Ids) -> list[StoredFile]:
        """Return the files of the pictures of these ids, by id."""
        rows = self._database.rows_among(_FILES, PICTURES.c.id, ids.tolist())
        return [StoredFile(*row) for row in self._database.check(rows, len(StoredFile._fields))]

    def select_ids(self, selection: Selection) -> Ids:
        """Return the ids of a selection's pictures."""
        if self.count() <= _FEW:
            self._database.check(self._database.rows(select(*_CHECK)), 0)
        return np.array(self._database.scalars(select(PICTURES.c.id).where(*_conditions(selection))), np.int64)

    def count_selected(self, selection: Selection) -> int:
        """Count a selection's pictures."""
        if selection.is_all:
            return self.count()
        counted = select(func.count()).select_from(PICTURES).where(*_conditions(selection))
        return int(self._database.scalars(counted)[0])

    def page(self, selection: Selection, after: bytes, most: int) -> list[PictureDetails]:
        """Return the next pictures of a selection by the bytes of their paths, after a path; `b""` is the beginning."""
        query = _DETAILS.where(PICTURES.c.path > after, *_conditions(selection)).order_by(PICTURES.c.path).limit(most)
        return [PictureDetails(*row) for row in self._database.check(self._database.rows(query), _WIDTH)]

    def first_path(self, start: bytes) -> bytes | None:
        """Return the first path, by its bytes, that does not come before `start`; None if there is none."""
        rows = self._database.fetch(self._database.dialect.first_path, (start,))
        return rows[0][0] if rows else None

    def get(self, id_: int) -> PictureDetails | None:
        """Return one picture; None if there is none of this id."""
        return self.get_many([id_]).get(id_)

    def get_many(self, ids: Sequence[int]) -> dict[int, PictureDetails]:
        """Return the pictures of these ids, by id."""
        rows = self._database.check(self._database.rows_among(_DETAILS, PICTURES.c.id, ids), _WIDTH)
        return {row[0]: PictureDetails(*row) for row in rows}

    def folders(self) -> list[bytes]:
        """Return every folder that directly holds pictures."""
        paths = self._database.scalars(select(PICTURES.c.path).where(~PICTURES.c.missing))
        return sorted({path.rpartition(b"/")[0] or b"/" for path in paths})

    def labels(self) -> list[str]:
        """Return every label, in order."""
        return self._database.scalars(self._database.dialect.labels)


def _conditions(selection: Selection) -> list[ColumnElement[bool]]:
    conditions: list[ColumnElement[bool]] = [~PICTURES.c.missing]
    if selection.label is not None:
        labels = label_spellings(selection.label)
        has_nul = "\0" in selection.label  # which PostgreSQL's text cannot have
        conditions.append(false() if has_nul else PICTURES.c.label.in_(sorted(labels)))
    if selection.folder is not None:
        folders = (selection.folder,) if isinstance(selection.folder, bytes) else selection.folder
        conditions.append(or_(false(), *(is_below(PICTURES.c.path, folder) for folder in folders)))
    if selection.since is not None:
        conditions.append(PICTURES.c.taken_at >= selection.since)
    if selection.until is not None:
        conditions.append(PICTURES.c.taken_at < selection.until)
    return conditions
