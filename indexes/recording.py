"""A batch of pictures into the tables, a statement for each table and not for each picture."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, bindparam, delete, select
from sqlalchemy.dialects.sqlite import Insert, insert

from indexes.records import NewPicture
from indexes.schema import Descriptor, Picture

_PORTION = 10_000  # SQLite takes at most 32,766 values in a statement
_COLUMNS = (
    *("root_id", "path", "size", "mtime", "hash", "width", "height", "label"),
    *("taken_at", "latitude", "longitude", "missing"),
)


def record_pictures(
    connection: Connection, root_id: int, root: bytes, fingerprint: str, pictures: Sequence[NewPicture]
) -> None:
    """Insert or replace pictures by their paths, with the descriptors that they have now; earlier ones are dropped."""
    pictures = list({picture.path: picture for picture in pictures}.values())
    for start in range(0, len(pictures), _PORTION):
        some = pictures[start : start + _PORTION]
        connection.execute(_UPSERT, [_row(picture, root_id, root) for picture in some])
        paths = select(Picture.path, Picture.id).where(Picture.path.in_([picture.path for picture in some]))
        ids = {row.path: row.id for row in connection.execute(paths)}
        rows = [
            {
                "picture_id": ids[picture.path],
                "fingerprint": fingerprint,
                "vector": picture.vector.astype("<f2").tobytes(),
            }
            for picture in some
        ]
        connection.execute(_DROP, [{"dropped": id_} for id_ in ids.values()])
        connection.execute(insert(Descriptor), rows)


def label_of(path: bytes, root: bytes) -> str | None:
    """The parent folder's name, where the picture lies in a folder of the gallery."""
    folder = os.path.dirname(path)
    return os.path.basename(folder).decode("utf-8", "replace") if folder != root else None


def _row(picture: NewPicture, root_id: int, root: bytes) -> dict[str, Any]:
    own = {name: value for name, value in vars(picture).items() if name != "vector"}
    return own | {"root_id": root_id, "label": label_of(picture.path, root), "missing": False}


def _upsert() -> Insert:
    statement = insert(Picture).values({name: bindparam(name) for name in _COLUMNS})
    changed = {name: statement.excluded[name] for name in _COLUMNS if name != "path"}
    return statement.on_conflict_do_update(index_elements=["path"], set_=changed)


_UPSERT = _upsert()
_DROP = delete(Descriptor).where(Descriptor.picture_id == bindparam("dropped"))
