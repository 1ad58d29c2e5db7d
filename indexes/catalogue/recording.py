"""A batch of pictures into the tables, a statement for each table and not for each picture."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, bindparam, delete, select
from sqlalchemy.dialects.sqlite import Insert, insert

from indexes.catalogue.database.dialects import chunked
from indexes.catalogue.database.schema import Descriptor, Picture
from indexes.catalogue.labels import folder_label
from indexes.catalogue.records import NewPicture

if TYPE_CHECKING:
    import psycopg

_COLUMNS = (
    *("root_id", "path", "size", "mtime", "version", "hash", "width", "height", "label"),
    *("taken_at", "latitude", "longitude", "missing"),
)


def record_pictures(
    connection: Connection, root_id: int, root: bytes, fingerprint: str, pictures: Sequence[NewPicture]
) -> None:
    """Insert or replace pictures by their paths, with the descriptors that they have now; earlier ones are dropped."""
    pictures = list({picture.path: picture for picture in pictures}.values())
    if connection.dialect.name == "postgresql":
        _record_postgres(connection, root_id, root, fingerprint, pictures)
        return
    for some in chunked(pictures):
        connection.execute(_UPSERT, [_row(picture, root_id, root) for picture in some])
        paths = select(Picture.path, Picture.id).where(Picture.path.in_([picture.path for picture in some]))
        ids = {row.path: row.id for row in connection.execute(paths)}
        rows = [
            {"picture_id": ids[picture.path], "fingerprint": fingerprint, "vector": _encode_vector(picture)}
            for picture in some
        ]
        connection.execute(_DELETE_DESCRIPTORS, [{"dropped": id_} for id_ in ids.values()])
        connection.execute(insert(Descriptor), rows)


def _encode_vector(picture: NewPicture) -> bytes:
    return picture.vector.astype("<f2").tobytes()


def _row(picture: NewPicture, root_id: int, root: bytes) -> dict[str, Any]:
    own = {name: value for name, value in vars(picture).items() if name != "vector"}
    label = folder_label(picture.path, root) if picture.label is None else picture.label or None
    return own | {"root_id": root_id, "label": label, "missing": False}


def _upsert() -> Insert:
    statement = insert(Picture).values({name: bindparam(name) for name in _COLUMNS})
    changed = {name: statement.excluded[name] for name in _COLUMNS if name != "path"}
    return statement.on_conflict_do_update(index_elements=["path"], set_=changed)


_UPSERT = _upsert()
_DELETE_DESCRIPTORS = delete(Descriptor).where(Descriptor.picture_id == bindparam("dropped"))


# --- PostgreSQL: new rows come by COPY, with ids taken before. No other writer comes between: what is new stays new.

_SELECT_IDS = "SELECT path, id FROM pictures WHERE path = ANY(%s)"
_RESERVE_IDS = "SELECT nextval(pg_get_serial_sequence('pictures', 'id')) FROM generate_series(1, %s)"
_UPDATE_PICTURE = f"UPDATE pictures SET {', '.join(f'{name} = %({name})s' for name in _COLUMNS)} WHERE id = %(id)s"
_DROP_ALL = "DELETE FROM descriptors WHERE picture_id = ANY(%s)"
_COPY_PICTURES = f"COPY pictures (id, {', '.join(_COLUMNS)}) FROM STDIN (FORMAT BINARY)"
_PICTURE_TYPES = (
    *("int8", "int8", "bytea", "int8", "int8", "varchar", "bytea", "int8", "int8", "varchar"),
    *("varchar", "float8", "float8", "bool"),
)
_COPY_DESCRIPTORS = "COPY descriptors (picture_id, fingerprint, vector) FROM STDIN (FORMAT BINARY)"


def _record_postgres(
    connection: Connection, root_id: int, root: bytes, fingerprint: str, pictures: Sequence[NewPicture]
) -> None:
    driver: psycopg.Connection[Any] = connection.connection.driver_connection  # type: ignore[assignment]
    with driver.cursor(binary=True) as cursor:
        known = dict(cursor.execute(_SELECT_IDS, [[picture.path for picture in pictures]]).fetchall())
        fresh = [picture for picture in pictures if picture.path not in known]
        taken = (id_ for (id_,) in cursor.execute(_RESERVE_IDS, [len(fresh)]).fetchall())
        ids = known | {picture.path: id_ for picture, id_ in zip(fresh, taken, strict=True)}
        rows = {picture.path: _row(picture, root_id, root) for picture in pictures}
        if known:
            cursor.executemany(_UPDATE_PICTURE, [rows[path] | {"id": id_} for path, id_ in known.items()])
            cursor.execute(_DROP_ALL, [list(known.values())])
        new = ((ids[picture.path], *(rows[picture.path][name] for name in _COLUMNS)) for picture in fresh)
        _copy_rows(cursor, _COPY_PICTURES, _PICTURE_TYPES, new)
        described = ((ids[picture.path], fingerprint, _encode_vector(picture)) for picture in pictures)
        _copy_rows(cursor, _COPY_DESCRIPTORS, ("int8", "varchar", "bytea"), described)


def _copy_rows(
    cursor: psycopg.Cursor[Any], statement: str, types: Sequence[str], rows: Iterable[Sequence[Any]]
) -> None:
    with cursor.copy(statement.encode()) as copy:
        copy.set_types(types)
        for row in rows:
            copy.write_row(row)
