"""The store's own values by name, such as its model and its generation."""

from sqlalchemy import Connection, select, text

from indexes.catalogue.database.base import CatalogueDatabase, retry_lost
from indexes.catalogue.database.checksums import holds, row_checksum
from indexes.catalogue.database.schema import SETTINGS

_UPSERT = text(
    "INSERT INTO settings (name, value, checksum) VALUES (:name, :value, :checksum)"
    " ON CONFLICT (name) DO UPDATE SET value = excluded.value, checksum = excluded.checksum"
)


class Settings:
    """The store's values. Every method is one transaction and raises StoreError."""

    def __init__(self, database: CatalogueDatabase) -> None:
        self._database = database

    def get(self, name: str) -> str | None:
        """Return a value, or None if it was never set. Raises StoreError also if it is not as it was set."""
        rows = self._database.fetch(self._database.dialect.setting, (name,))
        if rows and not holds(rows[0][1], row_checksum((name, rows[0][0]))):
            raise self._database.damaged(f"the store's setting {name}")
        return rows[0][0] if rows else None

    @retry_lost
    def set(self, **values: str) -> None:
        """Store values."""
        with self._database.write(exclusive=False) as connection:
            for name, value in values.items():
                upsert_setting(connection, name, value)

    @retry_lost
    def set_defaults(self, **values: str) -> None:
        """Store the values whose names have none yet. Of several processes that try at once, one sets them all."""
        with self._database.write() as connection:
            given = SETTINGS.c.name.in_(values), SETTINGS.c.value != ""
            present = set(connection.scalars(select(SETTINGS.c.name).where(*given)))
            for name in values.keys() - present:
                upsert_setting(connection, name, values[name])


def upsert_setting(connection: Connection, name: str, value: str) -> None:
    """Store one value within a transaction."""
    connection.execute(_UPSERT, {"name": name, "value": value, "checksum": row_checksum((name, value))})
