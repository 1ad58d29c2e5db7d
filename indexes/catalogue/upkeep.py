"""The upkeep of a catalogue's checksums: rows of before get one, and what does not hold is taken out."""

from collections.abc import Callable, Iterator, Sequence
from os.path import commonpath
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, delete, select, text, update

from indexes.catalogue.database.base import CatalogueDatabase
from indexes.catalogue.database.checksums import CHECKED, descriptor_checksum, holds, row_checksum
from indexes.catalogue.database.schema import DESCRIPTORS, GENERATIONS, PICTURES, ROOTS, SETTINGS
from indexes.catalogue.database.sqlite import SqliteDatabase
from indexes.catalogue.journal import update_generation
from indexes.catalogue.open_database import open_database
from indexes.catalogue.settings import upsert_setting

_PAGE = 1000  # pictures in a transaction
_DERIVED = ("gallery_statistics", "tuning", "rescoring")  # settings that an indexing makes anew, whole or not
_CHOSEN = {  # settings that nothing else tells, and what to do about them
    "calibration": "the calibration is gone: run `retrieve calibrate` again",
    "coverage": "how many hits a coverage needs is gone: run `retrieve calibrate` again",
    "plain_similarity": "whether the model's own similarity is shown is forgotten: give --plain-similarity again",
    "model": "the model's name is gone: give it with --model, unless it was the default one",
    "index": "the index's address is gone: give it with --index, unless it was faiss",
}


def seal(database: CatalogueDatabase) -> None:
    """Give checksums to what has none: rows of before, and pictures that were changed without it. Raises StoreError."""
    with database.write() as connection:
        for name, value in connection.execute(
            select(*SETTINGS.c["name", "value"]).where(SETTINGS.c.checksum.is_(None))
        ):
            upsert_setting(connection, name, value)
        for id_, path in connection.execute(select(*ROOTS.c["id", "path"]).where(ROOTS.c.checksum.is_(None))):
            connection.execute(update(ROOTS).where(ROOTS.c.id == id_).values(checksum=row_checksum((path,))))
    unsealed = select(PICTURES.c.id, *PICTURES.c[CHECKED]).where(PICTURES.c.checksum.is_(None)).limit(_PAGE)
    while rows := database.rows(unsealed):
        with database.write() as connection:
            _seal_pictures(connection, rows)


def _seal_pictures(connection: Connection, rows: Sequence[Any]) -> None:
    ids = [row[0] for row in rows]
    values = [{"row": row[0], "sum": row_checksum(row[1:])} for row in rows]
    connection.execute(text("UPDATE pictures SET checksum = :sum WHERE id = :row"), values)
    columns = DESCRIPTORS.c["picture_id", "fingerprint", "vector"]
    found = connection.execute(
        select(*columns).where(DESCRIPTORS.c.picture_id.in_(ids), DESCRIPTORS.c.checksum.is_(None))
    )
    described = [{"row": id_, "model": model, "sum": descriptor_checksum(id_, model, v)} for id_, model, v in found]
    if described:
        statement = "UPDATE descriptors SET checksum = :sum WHERE picture_id = :row AND fingerprint = :model"
        connection.execute(text(statement), described)


def repair(folder: Path, delete_index: Callable[[Path], None]) -> list[str]:
    """Take out of a store's catalogue what is not as it was written, so that an indexing makes it anew.

    `delete_index` deletes an index in the folder, which is made of it. Returns what was done, in sentences. Raises
    StoreError if that is not enough.
    """
    delete_index(folder)
    database = open_database(folder, is_checked=False)
    try:
        notes = database.rebuild() if isinstance(database, SqliteDatabase) else []
        with database.write() as connection:
            notes += [*_drop_settings(connection), *_mend_roots(connection)]
        broken = sorted(_broken_pictures(database))
        with database.write() as connection:
            for start in range(0, len(broken), _PAGE):
                connection.execute(delete(PICTURES).where(PICTURES.c.id.in_(broken[start : start + _PAGE])))
            update_generation(connection)
        if broken:
            notes.append(f"the records of {len(broken):,} pictures did not hold: those are embedded anew")
    finally:
        database.close()
    return notes


def _drop_settings(connection: Connection) -> Iterator[str]:
    for name, value, checksum in connection.execute(select(*SETTINGS.c["name", "value", "checksum"])).all():
        is_sound = holds(checksum, row_checksum((name, value)))
        if not is_sound or name in _DERIVED:
            connection.execute(delete(SETTINGS).where(SETTINGS.c.name == name))
        if is_sound:
            continue
        if name == "generation":
            connection.execute(delete(GENERATIONS))
        if name == "fingerprint":
            described = connection.execute(select(DESCRIPTORS.c.fingerprint).limit(1)).scalar()
            upsert_setting(connection, name, described or "")
        yield _CHOSEN.get(str(name), f"the setting {name!s:.40} did not hold and is made anew")


def _mend_roots(connection: Connection) -> Iterator[str]:
    for id_, path, checksum in connection.execute(select(*ROOTS.c["id", "path", "checksum"])).all():
        if holds(checksum, row_checksum((path,))):
            continue
        paths = connection.scalars(select(PICTURES.c.path).where(PICTURES.c.root_id == id_)).all()
        if not paths:
            connection.execute(delete(ROOTS).where(ROOTS.c.id == id_))
            continue
        folder = commonpath([each.rpartition(b"/")[0] for each in paths])
        values = {"path": folder, "checksum": row_checksum((folder,))}
        connection.execute(update(ROOTS).where(ROOTS.c.id == id_).values(values))
        yield f"a gallery's path did not hold and is now that of its pictures: {folder.decode(errors='replace')}"


def _broken_pictures(database: CatalogueDatabase) -> Iterator[int]:
    """Yield the pictures whose records, or all of whose descriptors, are not as they were written."""
    last, checked = -1, select(PICTURES.c.id, PICTURES.c.checksum, *PICTURES.c[CHECKED]).order_by(PICTURES.c.id)
    while rows := database.rows(checked.where(PICTURES.c.id > last).limit(_PAGE)):
        last = rows[-1][0]
        described = select(*DESCRIPTORS.c["picture_id", "fingerprint", "vector", "checksum"])
        sound = {
            id_
            for id_, model, vector, checksum in database.rows(
                described.where(DESCRIPTORS.c.picture_id.between(rows[0][0], last))
            )
            if holds(checksum, descriptor_checksum(id_, model, vector))
        }
        for id_, checksum, *values in rows:
            if id_ not in sound or not holds(checksum, row_checksum(values)):
                yield id_
