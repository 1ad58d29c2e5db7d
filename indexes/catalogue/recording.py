"""The recording of a batch of pictures, by one statement for each table and not for each picture."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, bindparam, delete, select
from sqlalchemy.dialects.sqlite import insert

from indexes.catalogue.database.checksums import CHECKED, descriptor_checksum, row_checksum
from indexes.catalogue.database.dialects import POSTGRES, chunked, dialect_of
from indexes.catalogue.database.postgres_copy import COLUMNS, record_rows
from indexes.catalogue.database.schema import DESCRIPTORS, PICTURES
from indexes.catalogue.labels import folder_label, label_text
from indexes.catalogue.records import NewPicture


def record_pictures(
    connection: Connection, root_id: int, root: bytes, fingerprint: str, pictures: Sequence[NewPicture]
) -> None:
    """Insert or replace pictures by their paths, with the descriptors that they have now; earlier ones are deleted."""
    unique = {picture.path: picture for picture in pictures}
    rows = {path: _row(picture, root_id, root) for path, picture in unique.items()}
    vectors = {path: picture.vector.astype("<f2").tobytes() for path, picture in unique.items()}
    if dialect_of(connection) is POSTGRES:
        record_rows(connection, fingerprint, rows, vectors)
        return
    for paths in chunked(list(rows)):
        connection.execute(_UPSERT, [rows[path] for path in paths])
        ids = connection.execute(select(PICTURES.c.path, PICTURES.c.id).where(PICTURES.c.path.in_(paths))).all()
        connection.execute(_DELETE_DESCRIPTORS, [{"id": id_} for _, id_ in ids])
        described = [(id_, fingerprint, vectors[path]) for path, id_ in ids]
        names = ("picture_id", "fingerprint", "vector", "checksum")
        values = [dict(zip(names, (*each, descriptor_checksum(*each)), strict=True)) for each in described]
        connection.execute(insert(DESCRIPTORS), values)


def _row(picture: NewPicture, root_id: int, root: bytes) -> dict[str, Any]:
    columns = {name: value for name, value in vars(picture).items() if name != "vector"}
    label = folder_label(picture.path, root) if picture.label is None else label_text(picture.label) or None
    columns |= {"root_id": root_id, "label": label, "missing": False}
    return columns | {"checksum": row_checksum([columns[name] for name in CHECKED])}


_INSERT = insert(PICTURES).values({name: bindparam(name) for name in COLUMNS})
_REPLACED = {name: _INSERT.excluded[name] for name in COLUMNS if name != "path"}
_UPSERT = _INSERT.on_conflict_do_update(index_elements=["path"], set_=_REPLACED)
_DELETE_DESCRIPTORS = delete(DESCRIPTORS).where(DESCRIPTORS.c.picture_id == bindparam("id"))
