"""The append-only migrations of the catalogue; each is applied in one transaction with the record of it."""

from sqlalchemy import Connection, Engine, insert, inspect, select

from indexes.catalogue.database import postgres_migrations, sqlite_migrations
from indexes.catalogue.database.dialects import POSTGRES, dialect_of
from indexes.catalogue.database.schema import APPLIED
from indexes.errors import StoreError

Statements = tuple[str, ...]

MIGRATIONS: tuple[tuple[str, Statements, Statements], ...] = (
    ("0001-first", sqlite_migrations.FIRST, postgres_migrations.FIRST),
    ("0002-counters", sqlite_migrations.COUNTERS, postgres_migrations.COUNTERS),
    ("0003-journal", sqlite_migrations.JOURNAL, postgres_migrations.JOURNAL),
    ("0004-versions", sqlite_migrations.VERSIONS, postgres_migrations.VERSIONS),
    ("0005-checksums", sqlite_migrations.CHECKSUMS, postgres_migrations.CHECKSUMS),
    ("0006-change-times", sqlite_migrations.CHANGE_TIMES, postgres_migrations.CHANGE_TIMES),
)
"""In order of application: name, statements of SQLite, of PostgreSQL. Never change or remove a released one."""


def pending_migrations(connection: Connection) -> dict[str, Statements]:
    """Return, by name, the migrations that the database lacks. Raises StoreError if it has unknown ones."""
    applied = set[str]()
    if inspect(connection).has_table("migrations"):
        applied = set(connection.scalars(select(APPLIED.c.name)))
    unknown = sorted(applied - {name for name, _, _ in MIGRATIONS})
    if unknown:
        raise StoreError(f"was written by a newer version (its last change is {unknown[-1]}): upgrade this program")
    is_postgres = dialect_of(connection) is POSTGRES
    return {name: postgres if is_postgres else sqlite for name, sqlite, postgres in MIGRATIONS if name not in applied}


def migrate(engine: Engine) -> None:
    """Apply the pending migrations, each in one transaction with its record."""
    with engine.connect() as connection:
        pending = pending_migrations(connection)
    for name, statements in pending.items():
        with engine.connect().execution_options(writes=True) as connection, connection.begin():  # one process at a time
            if name not in pending_migrations(connection):
                continue
            connection.exec_driver_sql("CREATE TABLE IF NOT EXISTS migrations (name VARCHAR PRIMARY KEY)")
            for statement in statements:
                connection.exec_driver_sql(statement)
            connection.execute(insert(APPLIED).values(name=name))
