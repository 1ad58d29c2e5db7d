"""The SQLite file of a store: refusals in one sentence, transactions, and concurrent writers."""

import os
import shutil
import threading
from pathlib import Path

import pytest
from sqlalchemy import insert, select, update

from indexes.catalogue.database.schema import SETTINGS
from indexes.catalogue.database.sqlite import CATALOGUE_FILE, SqliteDatabase
from indexes.errors import StoreError
from tests.support.unprivileged import require_binding_permissions, run_unprivileged

_OPEN_AND_PRINT = """
import sys
from pathlib import Path
from indexes.catalogue.catalogue import Catalogue
from indexes.errors import StoreError
try:
    catalogue = Catalogue(Path(sys.argv[1]), create=sys.argv[2] == "create")
    print(catalogue.writable, catalogue.settings.get("name"))
    catalogue.settings.set(name="other")
except StoreError as error:
    print("StoreError:", error)
"""


def _made(folder: Path) -> Path:
    """Make a store's file with one setting, checkpointed and closed."""
    database = SqliteDatabase(folder, create=True)
    with database.write() as connection:
        connection.execute(insert(SETTINGS).values(name="name", value="kept"))
    database.close()
    return folder / CATALOGUE_FILE


def _setting(database: SqliteDatabase) -> str | None:
    with database.read() as connection:
        return connection.scalar(select(SETTINGS.c.value).where(SETTINGS.c.name == "name"))


def _reason(folder: Path, create: bool = False) -> str:
    with pytest.raises(StoreError) as raised:
        _setting(SqliteDatabase(folder, create))
    return str(raised.value)


def test_a_folder_without_a_file_is_no_store(tmp_path: Path) -> None:
    assert _reason(tmp_path) == f"{tmp_path} is not a store: make one with `retrieve index GALLERY`"
    assert list(tmp_path.iterdir()) == []


def test_create_makes_the_folders_above(tmp_path: Path) -> None:
    _made(tmp_path / "a" / "b")
    assert _setting(SqliteDatabase(tmp_path / "a" / "b")) == "kept"


def test_create_is_refused_if_a_file_is_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "store").write_text("")
    assert _reason(tmp_path / "store", create=True) == (
        f"{tmp_path / 'store'} cannot be made (File exists): choose another with --store"
    )


def test_a_text_file_is_reported_as_damaged(tmp_path: Path) -> None:
    (tmp_path / CATALOGUE_FILE).write_text("this is no database, but a text of some length\n" * 100)
    assert _reason(tmp_path).startswith(f"{tmp_path / CATALOGUE_FILE} is damaged: ")


def test_an_overwritten_header_is_reported_as_damaged(tmp_path: Path) -> None:
    file = _made(tmp_path)
    file.write_bytes(b"\xff" * 100 + file.read_bytes()[100:])
    assert _reason(tmp_path).startswith(f"{file} is damaged: ")


@pytest.mark.parametrize("size", [4096, 5000, 20000])
def test_a_truncated_file_is_reported_as_damaged(tmp_path: Path, size: int) -> None:
    file = _made(tmp_path)
    assert file.stat().st_size > size
    os.truncate(file, size)
    assert _reason(tmp_path).startswith(f"{file} is damaged: ")


def test_a_lost_table_is_reported_as_damaged(tmp_path: Path) -> None:
    database = SqliteDatabase(tmp_path, create=True)
    with database.write() as connection:
        connection.exec_driver_sql("DROP TABLE settings")
    with pytest.raises(StoreError, match="is damaged: run `retrieve index --repair`"):
        _setting(database)


def test_a_rejected_row_is_not_reported_as_damage(tmp_path: Path) -> None:
    database = SqliteDatabase(tmp_path, create=True)
    with (
        pytest.raises(StoreError, match=r"catalogue\.sqlite was changed by another process: run the command again$"),
        database.write() as connection,
    ):
        connection.exec_driver_sql("INSERT INTO descriptors VALUES (12345, 'f', x'00', NULL)")


def test_commits_are_synced_and_deleted_rows_are_overwritten(tmp_path: Path) -> None:
    database = SqliteDatabase(tmp_path, create=True)
    with database.read() as connection:
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar_one() == 2  # FULL
        assert connection.exec_driver_sql("PRAGMA secure_delete").scalar_one() == 1


def test_a_folder_whose_name_is_too_long_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / ("n" * 300)
    assert _reason(folder) == f"{folder} cannot be opened (File name too long): choose another with --store"
    assert _reason(folder, create=True) == f"{folder} cannot be made (File name too long): choose another with --store"


def test_an_empty_file_becomes_a_store(tmp_path: Path) -> None:
    (tmp_path / CATALOGUE_FILE).touch()
    assert _setting(SqliteDatabase(tmp_path)) is None


def test_a_folder_named_like_the_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / CATALOGUE_FILE).mkdir()
    assert _reason(tmp_path, create=True).startswith(f"{tmp_path / CATALOGUE_FILE} cannot be opened: ")


def test_a_store_may_be_in_a_folder_whose_name_is_not_utf8(tmp_path: Path) -> None:
    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/st\xff\xfe?#%20 re"))
    _made(folder)
    assert _setting(SqliteDatabase(folder)) == "kept"
    assert os.listdir(os.fsencode(tmp_path)) == [b"st\xff\xfe?#%20 re"]


def test_a_transaction_that_raises_leaves_nothing(tmp_path: Path) -> None:
    database = SqliteDatabase(tmp_path, create=True)

    def write_half() -> None:
        with database.write() as connection:
            connection.execute(insert(SETTINGS).values(name="name", value="half"))
            raise InterruptedError

    with pytest.raises(InterruptedError):
        write_half()
    assert _setting(database) is None


def test_a_reader_keeps_its_view_while_another_writes(tmp_path: Path) -> None:
    _made(tmp_path)
    reader, writer = SqliteDatabase(tmp_path), SqliteDatabase(tmp_path)
    with reader.read() as view:
        before = view.scalar(select(SETTINGS.c.value))
        with writer.write() as connection:
            connection.execute(update(SETTINGS).values(value="new"))
        assert (before, view.scalar(select(SETTINGS.c.value))) == ("kept", "kept")
    assert _setting(reader) == "new"


def test_concurrent_writers_wait_for_each_other(tmp_path: Path) -> None:
    _made(tmp_path)
    problems: list[Exception] = []

    def count(database: SqliteDatabase) -> None:
        try:
            for _ in range(50):
                with database.write() as connection:
                    row = connection.scalar(select(SETTINGS.c.value).where(SETTINGS.c.name == "count"))
                    value = str(int(row or 0) + 1)
                    statement = insert(SETTINGS).prefix_with("OR REPLACE").values(name="count", value=value)
                    connection.execute(statement)
        except Exception as error:
            problems.append(error)

    threads = [threading.Thread(target=count, args=(SqliteDatabase(tmp_path),)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert problems == []
    with SqliteDatabase(tmp_path).read() as connection:
        assert connection.scalar(select(SETTINGS.c.value).where(SETTINGS.c.name == "count")) == "100"


def test_a_read_only_store_is_read_and_not_written(tmp_path: Path) -> None:
    require_binding_permissions(tmp_path)
    folder = tmp_path / "store"
    file = _made(folder)
    file.chmod(0o400)
    folder.chmod(0o500)
    done = run_unprivileged(_OPEN_AND_PRINT, folder, "open")
    folder.chmod(0o700)
    assert done.stderr == ""
    first, second = done.stdout.splitlines()
    assert first == "False kept"
    assert second == (
        f"StoreError: {file} cannot be written: allow writing there, or choose another store with --store"
    )
    assert os.listdir(folder) == [CATALOGUE_FILE]


@pytest.mark.slow
def test_a_store_in_a_closed_folder_cannot_be_made(tmp_path: Path) -> None:
    require_binding_permissions(tmp_path)
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o500)
    below = run_unprivileged(_OPEN_AND_PRINT, closed / "store", "create").stdout
    itself = run_unprivileged(_OPEN_AND_PRINT, closed, "create").stdout
    assert below == (
        f"StoreError: {closed / 'store'} cannot be made (Permission denied): choose another with --store\n"
    )
    assert itself.startswith(f"StoreError: {closed / CATALOGUE_FILE} cannot be written: allow writing there")


@pytest.mark.slow
def test_a_store_below_a_folder_that_may_not_be_entered_is_refused(tmp_path: Path) -> None:
    require_binding_permissions(tmp_path)
    store = tmp_path / "closed" / "store"
    _made(store)
    store.parent.chmod(0)
    said = [run_unprivileged(_OPEN_AND_PRINT, store, how).stdout for how in ("open", "create")]
    store.parent.chmod(0o700)
    assert said[0] == f"StoreError: {store} cannot be opened (Permission denied): choose another with --store\n"
    assert said[1] == f"StoreError: {store} cannot be made (Permission denied): choose another with --store\n"


def test_a_file_that_may_not_be_read_is_refused(tmp_path: Path) -> None:
    require_binding_permissions(tmp_path)
    file = _made(tmp_path / "store")
    file.chmod(0)
    done = run_unprivileged(_OPEN_AND_PRINT, tmp_path / "store", "open")
    assert done.stdout.startswith(f"StoreError: {file} cannot be opened: check the folder's permissions")


def test_a_copied_file_is_a_whole_store(tmp_path: Path) -> None:
    file = _made(tmp_path / "store")
    (tmp_path / "copy").mkdir()
    shutil.copy(file, tmp_path / "copy")
    assert _setting(SqliteDatabase(tmp_path / "copy")) == "kept"
