"""The recording of a batch of pictures on PostgreSQL: new rows come by COPY, with ids that are reserved before.

No other writer comes between, so that new rows stay new.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection

from indexes.catalogue.database.checksums import descriptor_checksum

if TYPE_CHECKING:
    import psycopg

_TYPES = {
    **{
        "root_id": "int8",
        "path": "bytea",
        "size": "int8",
        "mtime": "int8",
        "ctime": "int8",
        "version": "varchar",
        "hash": "bytea",
    },
    **{"width": "int8", "height": "int8", "label": "varchar", "taken_at": "varchar"},
    **{"latitude": "float8", "longitude": "float8", "missing": "bool", "checksum": "int8"},
}
COLUMNS = tuple(_TYPES)
"""The columns of a picture that are recorded."""

_SELECT_IDS = "SELECT path, id FROM pictures WHERE path = ANY(%s)"
_RESERVE_IDS = "SELECT nextval(pg_get_serial_sequence('pictures', 'id')) FROM generate_series(1, %s)"
_UPDATE_PICTURE = f"UPDATE pictures SET {', '.join(f'{name} = %({name})s' for name in COLUMNS)} WHERE id = %(id)s"
_DELETE_DESCRIPTORS = "DELETE FROM descriptors WHERE picture_id = ANY(%s)"
_COPY_PICTURES = f"COPY pictures (id, {', '.join(COLUMNS)}) FROM STDIN (FORMAT BINARY)"
_COPY_DESCRIPTORS = "COPY descriptors (picture_id, fingerprint, vector, checksum) FROM STDIN (FORMAT BINARY)"


def record_rows(
    connection: Connection, fingerprint: str, rows: Mapping[bytes, dict[str, Any]], vectors: Mapping[bytes, bytes]
) -> None:
    """Insert or replace rows of pictures, by path, and their descriptors under one model."""
    driver: psycopg.Connection[Any] = connection.connection.driver_connection  # type: ignore[assignment]
    with driver.cursor(binary=True) as cursor:
        known = dict(cursor.execute(_SELECT_IDS, [list(rows)]).fetchall())
        new = [path for path in rows if path not in known]
        reserved = (id_ for (id_,) in cursor.execute(_RESERVE_IDS, [len(new)]).fetchall())
        ids = known | dict(zip(new, reserved, strict=True))
        if known:
            cursor.executemany(_UPDATE_PICTURE, [rows[path] | {"id": id_} for path, id_ in known.items()])
            cursor.execute(_DELETE_DESCRIPTORS, [list(known.values())])
        inserted = ((ids[path], *(rows[path][name] for name in COLUMNS)) for path in new)
        _copy_rows(cursor, _COPY_PICTURES, ("int8", *_TYPES.values()), inserted)
        described = (
            (ids[path], fingerprint, vectors[path], descriptor_checksum(ids[path], fingerprint, vectors[path]))
            for path in rows
        )
        _copy_rows(cursor, _COPY_DESCRIPTORS, ("int8", "varchar", "bytea", "int8"), described)


def _copy_rows(
    cursor: psycopg.Cursor[Any], statement: str, types: Sequence[str], rows: Iterable[Sequence[Any]]
) -> None:
    with cursor.copy(statement.encode()) as copy:
        copy.set_types(types)
        for row in rows:
            copy.write_row(row)
