"""The journal of changes that an index must follow: written by triggers, read since a generation, and trimmed."""

import secrets

import numpy as np
from sqlalchemy import Connection, delete, func, insert, select

from indexes.arrays import Ids
from indexes.catalogue.database.base import CatalogueDatabase, retry_lost
from indexes.catalogue.database.dialects import dialect_of
from indexes.catalogue.database.schema import CHANGES, GENERATIONS, SETTINGS
from indexes.catalogue.settings import upsert_setting

_NAME = "generation"
_CURRENT = select(SETTINGS.c.value).where(SETTINGS.c.name == _NAME)


class Journal:
    """The changes between generations. Every method is one transaction and raises StoreError."""

    def __init__(self, database: CatalogueDatabase) -> None:
        self._database = database

    @retry_lost
    def changes_since(self, generation: str) -> tuple[str, Ids] | None:
        """Return the present generation and the ids (N,) of pictures that have changed since an earlier one.

        None if that is unknown: forgotten, or of another store.
        """
        with self._database.read() as connection:
            position = _position(connection, generation)
            if position is None:
                return None
            touched = connection.scalars(select(CHANGES.c.picture_id).where(CHANGES.c.position > position).distinct())
            return connection.scalar(_CURRENT) or "", np.sort(np.array(list(touched), np.int64))

    @retry_lost
    def forget_changes(self, generation: str) -> None:
        """Delete the changes up to a generation, and the generations before it, once an index of it is saved."""
        name = GENERATIONS.c.name
        position = select(GENERATIONS.c.position).where(name == generation).scalar_subquery()
        with self._database.write() as connection:
            connection.execute(delete(CHANGES).where(CHANGES.c.position <= func.coalesce(position, 0)))
            connection.execute(delete(GENERATIONS).where(GENERATIONS.c.position <= position, name != generation))


def update_generation(connection: Connection) -> None:
    """Begin a new generation if there are changes since the current one, or there is none.

    Its name is drawn at random, not counted: a store that is restored from a copy, or made anew, never comes to the
    name of a generation that an index of other pictures has.
    """
    current, last = connection.scalar(_CURRENT), connection.scalar(dialect_of(connection).last_change)
    if _position(connection, current or "") != last:
        name = secrets.token_hex(8)
        connection.execute(insert(GENERATIONS).values(name=name, position=last))
        upsert_setting(connection, _NAME, name)


def _position(connection: Connection, generation: str) -> int | None:
    """Return the position of the last change in a generation; None if the generation is unknown."""
    return connection.scalar(select(GENERATIONS.c.position).where(GENERATIONS.c.name == generation))
