"""The catalogue on a PostgreSQL server: refusals in one sentence, and what a lost connection leaves."""

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import TableClause

from indexes.catalogue import catalogue as catalogue_module
from indexes.catalogue.catalogue import Catalogue
from indexes.catalogue.database import base, migrations, postgres_copy, schema
from indexes.catalogue.database.database_url import CONFIG_FILE, URL_VARIABLE
from indexes.catalogue.database.migrations import MIGRATIONS
from indexes.catalogue.recording import record_pictures
from indexes.catalogue.records import NewPicture, Selection
from indexes.errors import ConnectionLostError, StoreError
from tests.support.postgres import Server

MODEL = "model-a"


@pytest.fixture
def address(postgres: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return the address of this test's store, without its password."""
    monkeypatch.setenv("PGPASSWORD", postgres.password)
    return postgres.address(tmp_path, password=False)


@pytest.fixture
def catalogue(tmp_path: Path, address: str) -> Catalogue:
    """Two pictures, 1 and 2, in /g."""
    made = Catalogue(tmp_path / "store", create=True, address=address)
    record(made, b"/g/a/1.jpg", b"/g/b/2.jpg")
    return made


def picture(path: bytes) -> NewPicture:
    return NewPicture(path, 10, 20, path, np.array([1, 2], np.float32), 30, 40)


def record(catalogue: Catalogue, *paths: bytes) -> None:
    catalogue.scans.record(b"/g", MODEL, [picture(path) for path in paths])


def reason(folder: Path, address: str | None = None) -> str:
    """Why a store cannot be opened, or made with this address."""
    with pytest.raises(StoreError) as raised:
        Catalogue(folder, create=address is not None, address=address)
    assert "\n" not in str(raised.value)
    return str(raised.value)


# --- how a store comes to its catalogue


def test_a_store_keeps_the_address_and_no_password(postgres: Server, tmp_path: Path) -> None:
    made = Catalogue(tmp_path / "store", create=True, address=postgres.address(tmp_path))
    made.settings.set(model="default")
    assert made.address == postgres.address(tmp_path, password=False)
    assert [file.name for file in made.folder.iterdir()] == [CONFIG_FILE]
    assert "s3cret" not in (made.folder / CONFIG_FILE).read_text()
    assert "password" in reason(made.folder)


def test_the_password_may_come_with_the_address_in_the_environment(
    postgres: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Catalogue(tmp_path / "store", create=True, address=postgres.address(tmp_path)).settings.set(model="default")
    monkeypatch.setenv(URL_VARIABLE, postgres.address(tmp_path))
    assert Catalogue(tmp_path / "store").settings.get("model") == "default"


def test_two_stores_may_share_a_catalogue(catalogue: Catalogue, tmp_path: Path, address: str) -> None:
    other = Catalogue(tmp_path / "other", create=True, address=address)
    record(other, b"/g/c/3.jpg")
    assert catalogue.pictures.count() == 3


def test_schemas_are_separate_catalogues(catalogue: Catalogue, tmp_path: Path, postgres: Server) -> None:
    odd = postgres.address('Odd "name"; é', password=False).replace(" ", "%20").replace('"', "%22")
    other = Catalogue(tmp_path / "other", create=True, address=odd)
    record(other, b"/g/c/3.jpg")
    assert (catalogue.pictures.count(), other.pictures.count()) == (2, 1)
    assert Catalogue(tmp_path / "other").pictures.count() == 1


# --- refusals


def test_an_unreachable_server_is_reported_at_once(tmp_path: Path) -> None:
    pytest.importorskip("psycopg")
    started = time.perf_counter()
    assert reason(tmp_path / "store", "postgresql://ada:secret@127.0.0.1:1/pictures") == (
        "postgresql://ada@127.0.0.1:1/pictures cannot be reached (Connection refused): start the server, or check the"
        " address"
    )
    assert time.perf_counter() - started < base.LOST_RETRY_SECONDS
    assert not (tmp_path / "store").exists()


def test_a_missing_database_is_reported(postgres: Server, tmp_path: Path) -> None:
    said = reason(tmp_path / "store", postgres.address(database="nothing"))
    assert said.startswith(f"postgresql://tester@127.0.0.1:{postgres.port}/nothing has no such database: make it with")


def test_a_wrong_password_or_user_is_reported(
    postgres: Server, tmp_path: Path, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGPASSWORD", "wrong word")
    said = reason(tmp_path / "store", address)
    assert said == (
        f"{address} refuses the user or password: give the password in PGPASSWORD, ~/.pgpass, or the address in"
        ' RETRIEVE_CATALOGUE (password authentication failed for user "tester")'
    )


def test_another_programs_tables_are_left_alone(postgres: Server, tmp_path: Path, address: str) -> None:
    schema = address.rpartition("=")[2]
    postgres.sql(f"CREATE SCHEMA {schema} AUTHORIZATION tester")
    postgres.sql(f"CREATE TABLE {schema}.pictures (name text)")
    said = reason(tmp_path / "store", address)
    assert said == (
        f"{address} has other tables, or lacks some of its own: give another schema (?schema=name), or restore it"
    )
    assert postgres.sql(f"SELECT count(*) FROM pg_tables WHERE schemaname = '{schema}'") == [(1,)]


def test_a_lost_table_is_reported(postgres: Server, catalogue: Catalogue) -> None:
    postgres.sql(f"DROP TABLE {str(catalogue.address).rpartition('=')[2]}.failures")
    with pytest.raises(StoreError, match="has other tables, or lacks some of its own"):
        catalogue.scans.failures()


def test_a_user_without_write_permission_can_read(
    postgres: Server, catalogue: Catalogue, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    schema = str(catalogue.address).rpartition("=")[2]
    postgres.sql(f"CREATE ROLE {schema}_guest LOGIN PASSWORD 'guest'")
    guest = f"postgresql://{schema}_guest@127.0.0.1:{postgres.port}/pictures?schema={schema}"
    monkeypatch.setenv("PGPASSWORD", "guest")
    closed = "is closed to this user: have its tables granted to it, or give another address"
    assert reason(tmp_path / "guest", guest) == f"{guest} {closed}"
    postgres.sql(f"GRANT USAGE ON SCHEMA {schema} TO {schema}_guest")
    postgres.sql(f"GRANT SELECT ON ALL TABLES IN SCHEMA {schema} TO {schema}_guest")
    reader = Catalogue(tmp_path / "guest", create=True, address=guest)
    assert (reader.pictures.count(), reader.writable) == (2, False)
    with pytest.raises(StoreError, match="cannot be written by this user: have its tables granted to it"):
        reader.remove(b"/g")
    unmade = guest.replace(f"={schema}", "=unmade")
    assert reason(tmp_path / "unmade", unmade) == (
        f"{unmade} has no catalogue, and this user may not make one there: give another address"
    )


def test_a_full_disk_and_an_unknown_error_are_reported(catalogue: Catalogue) -> None:
    from psycopg import errors

    for fault, said in (
        (errors.DiskFull("could not extend file"), "cannot be written: the server's disk is full; make room and run"),
        (errors.LockNotAvailable("timeout"), "is being written by another process: try again when that has finished"),
        (errors.InternalError_("odd"), "cannot be used, as PostgreSQL says: odd"),
    ):
        with pytest.raises(StoreError, match=said), catalogue._database.write():
            raise fault


def test_a_missing_driver_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    assert reason(tmp_path / "store", "postgresql://host/pictures") == (
        "postgresql://host/pictures needs PostgreSQL's driver: install it with `pip install '.[postgres]'`"
    )


def test_a_path_that_is_too_long_for_an_index_is_reported_and_its_batch_rolled_back(catalogue: Catalogue) -> None:
    longest = b"/g/" + os.urandom(2000).hex().encode()
    with pytest.raises(StoreError, match="cannot keep a path of more than 2,600 bytes"):
        record(catalogue, b"/g/3.jpg", longest)
    assert catalogue.pictures.count() == 2


# --- migrations


def test_migrations_are_those_of_sqlite_and_are_applied_once(postgres: Server, catalogue: Catalogue) -> None:
    schema = str(catalogue.address).rpartition("=")[2]
    applied = postgres.sql(f"SELECT name FROM {schema}.migrations ORDER BY name")
    assert applied == [(name,) for name, *_ in MIGRATIONS]
    assert Catalogue(catalogue.folder).pictures.count() == 2
    assert postgres.sql(f"SELECT name FROM {schema}.migrations ORDER BY name") == applied


def test_a_newer_catalogue_is_refused(postgres: Server, catalogue: Catalogue) -> None:
    postgres.sql(f"INSERT INTO {str(catalogue.address).rpartition('=')[2]}.migrations VALUES ('9999-newest')")
    assert reason(catalogue.folder) == (
        f"{catalogue.address} was written by a newer version (its last change is 9999-newest): upgrade this program"
    )


def test_a_failing_migration_rolls_back(
    postgres: Server, catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = ("ALTER TABLE pictures ADD COLUMN colour VARCHAR", "THIS IS NO SQL")
    monkeypatch.setattr(migrations, "MIGRATIONS", (*MIGRATIONS, ("9999-broken", (), broken)))
    assert "cannot be used, as PostgreSQL says: syntax error" in reason(catalogue.folder)
    schema = str(catalogue.address).rpartition("=")[2]
    assert postgres.sql(f"SELECT count(*) FROM {schema}.migrations") == [(len(MIGRATIONS),)]
    columns = f"SELECT 1 FROM pg_attribute WHERE attrelid = '{schema}.pictures'::regclass AND attname = 'colour'"
    assert postgres.sql(columns) == []


def test_the_declared_columns_are_the_migrated_ones(postgres: Server, catalogue: Catalogue) -> None:
    """Their names and types."""
    tables = [each for each in vars(schema).values() if isinstance(each, TableClause)]
    with catalogue._database.write() as connection:
        connection.exec_driver_sql("CREATE SCHEMA IF NOT EXISTS declared")
        connection.exec_driver_sql("SET LOCAL search_path TO declared")
        for each in tables:
            columns = (f"{column.name} {column.type.compile(connection.dialect)}" for column in each.c)
            connection.exec_driver_sql(f"CREATE TABLE IF NOT EXISTS {each.name} ({', '.join(columns)})")
    shape = (
        "SELECT c.relname, a.attname, format_type(a.atttypid, a.atttypmod)"
        " FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace"
        " WHERE n.nspname = '{}' AND c.relkind = 'r' AND a.attnum > 0 ORDER BY 1, 2"
    )
    migrated = postgres.sql(shape.format(str(catalogue.address).rpartition("=")[2]))
    assert len(migrated) == sum(len(each.c) for each in tables)
    assert migrated == postgres.sql(shape.format("declared"))


# --- a server that is lost


@pytest.mark.parametrize(
    "ask",
    [
        lambda catalogue: catalogue.pictures.count(),
        lambda catalogue: catalogue.generation != "",
        lambda catalogue: [known.path for known in catalogue.scans.known_files(b"/g")],
        lambda catalogue: catalogue.descriptors.sample(MODEL, 5)[0].tolist(),
        lambda catalogue: catalogue.settings.set(model="default"),
        lambda catalogue: catalogue.scans.ensure_root(b"/g"),
    ],
)
def test_queries_are_retried_after_a_crash_of_the_server(
    postgres: Server, catalogue: Catalogue, ask: Callable[[Catalogue], object]
) -> None:
    before = ask(catalogue)
    postgres.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'tester'")
    assert ask(catalogue) == before


def test_an_interrupted_transaction_leaves_nothing(postgres: Server, catalogue: Catalogue) -> None:
    before = catalogue.generation

    def cut() -> None:
        with catalogue._database.write() as connection:
            connection.exec_driver_sql("DELETE FROM pictures")
            postgres.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'tester'")
            connection.exec_driver_sql("DELETE FROM roots")

    with pytest.raises(ConnectionLostError) as raised:
        cut()
    assert str(raised.value).startswith(f"{catalogue.address} was interrupted (")
    assert (catalogue.pictures.count(), catalogue.generation) == (2, before)


def test_an_interrupted_batch_is_recorded_once(
    postgres: Server, catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch
) -> None:
    send, cut = postgres_copy._copy_rows, [True]

    def cutting(*arguments: object) -> None:
        send(*arguments)  # type: ignore[arg-type]
        if cut and cut.pop():
            postgres.restart()

    monkeypatch.setattr(postgres_copy, "_copy_rows", cutting)
    record(catalogue, b"/g/c/3.jpg", b"/g/d/4.jpg")
    assert cut == []
    assert [known.path for known in catalogue.scans.known_files(b"/g/")] == [
        *(b"/g/a/1.jpg", b"/g/b/2.jpg", b"/g/c/3.jpg", b"/g/d/4.jpg")
    ]
    assert catalogue.scans.root_counts()[0].pictures == catalogue.pictures.count() == 4


def test_a_removal_is_retried_before_it_begins_but_never_repeated(
    postgres: Server, catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cut() -> None:
        postgres.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'tester'")

    cut()
    assert catalogue.remove(b"/g/a").pictures == 1
    with monkeypatch.context() as patch:
        patch.setattr(catalogue_module, "update_generation", lambda connection: cut())
        with pytest.raises(ConnectionLostError):  # how many were removed would be unknown if its end were lost
            catalogue.remove(b"/g/b")
    assert catalogue.remove(b"/g/b").pictures == 1


@pytest.mark.slow
def test_a_server_that_stays_away_is_given_up(
    postgres: Server, catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(base, "LOST_RETRY_SECONDS", 1.0)
    postgres.control("stop", "-m", "fast")
    try:
        started = time.perf_counter()
        with pytest.raises(
            ConnectionLostError, match=r"cannot be reached \(.*\): start the server, or check the address"
        ):
            catalogue.pictures.count_selected(Selection())  # which calls `count`, which retries by itself
        given_up = time.perf_counter()
        for ask in (
            catalogue.pictures.labels,
            lambda: catalogue.scans.ensure_root(b"/g"),
            lambda: catalogue.settings.get("model"),
        ):
            with pytest.raises(ConnectionLostError):
                ask()  # which does not wait again
        assert time.perf_counter() - given_up < base.LOST_RETRY_SECONDS < given_up - started < 5
    finally:
        postgres.control("start")
    assert catalogue.pictures.count() == 2


# --- the size of the tables does not matter


@pytest.mark.parametrize(
    ("statement", "values"),
    [
        ("known_contents", ([b"/g/a/1.jpg", b"/g/b/2.jpg"], MODEL)),
        ("known_files", (b"/g/", b"/g0", 10)),
        ("chunk_of_vectors", (0, MODEL, 10)),
        ("vectors_by_id", ([1, 2], MODEL)),
        ("candidates", ([1, 2],)),
        ("content_hashes", (0, 10)),
    ],
)
def test_each_query_uses_its_index_even_if_the_table_was_small(
    catalogue: Catalogue, statement: str, values: tuple[object, ...]
) -> None:
    database = catalogue._database
    with database.write() as connection:
        connection.exec_driver_sql("ANALYZE pictures, descriptors, roots")
    query = getattr(database.dialect, statement)
    if callable(query):
        query, values = query(*values)
    plan = database.fetch(f"EXPLAIN {query}", values)
    steps = [step for (step,) in plan]
    assert not [step for step in steps if "Seq Scan on" in step or "Hash" in step or "Bitmap" in step], steps
    assert not [step for step in steps if "Sort Key" in step and "place" not in step], steps


def test_foreign_keys_use_their_index(catalogue: Catalogue) -> None:
    pictures = [picture(b"/g/c/%d.jpg" % number) for number in range(50)]
    with catalogue._database.write() as connection:
        connection.exec_driver_sql("ANALYZE pictures")
    whole = "SELECT seq_scan FROM pg_stat_xact_user_tables WHERE relid = 'pictures'::regclass"
    with catalogue._database.write() as connection:
        before = connection.exec_driver_sql(whole).scalar_one()
        record_pictures(connection, 1, b"/g", MODEL, pictures)
        assert connection.exec_driver_sql(whole).scalar_one() == before


def test_a_database_of_another_encoding_is_refused(postgres: Server, tmp_path: Path) -> None:
    postgres.sql("CREATE DATABASE latin OWNER tester TEMPLATE template0 ENCODING 'LATIN1' LOCALE 'C'")
    with pytest.raises(StoreError, match="is a database of encoding LATIN1: give one of UTF8"):
        Catalogue(tmp_path / "store", create=True, address=postgres.address(database="latin"))
