"""The journal of what an index must follow: written by triggers, read from a generation on, and forgotten."""

from __future__ import annotations

import secrets

import numpy as np
from sqlalchemy import Connection, delete, func, insert, select

from indexes.catalogue.database.dialects import dialect_of
from indexes.catalogue.database.schema import Change, Generation
from indexes.catalogue.records import Changes


def new_generation(connection: Connection) -> str:
    """The name of a new generation, which has all changes up to now.

    It is drawn by chance, not counted: a store that is restored from a copy, or made anew, comes back to no
    generation that an index file of other pictures may have.
    """
    name = secrets.token_hex(8)
    connection.execute(insert(Generation).values(name=name, position=_last(connection)))
    return name


def has_changed(connection: Connection, name: str) -> bool:
    """Whether there are changes since that generation, or it is not known: a scan may meet old failures alone."""
    position = connection.scalar(select(Generation.position).where(Generation.name == name))
    return position is None or position != _last(connection)


def changes_since(connection: Connection, name: str, now: str) -> Changes | None:
    """What has changed from that generation to `now`; None where it is not known."""
    position = connection.scalar(select(Generation.position).where(Generation.name == name))
    if position is None:
        return None
    touched = connection.scalars(select(Change.picture_id).where(Change.position > position).distinct())
    return Changes(now, np.sort(np.array(list(touched), np.int64)))


def forget_changes(connection: Connection, name: str) -> None:
    """Drop what led to that generation: earlier ones are not known any more."""
    position = select(Generation.position).where(Generation.name == name).scalar_subquery()
    connection.execute(delete(Change).where(Change.position <= func.coalesce(position, 0)))
    connection.execute(delete(Generation).where(Generation.position <= position, Generation.name != name))


def _last(connection: Connection) -> int:
    """The position of the last change, also of one that was forgotten."""
    position: int = connection.scalar(dialect_of(connection).last_change)
    return position
