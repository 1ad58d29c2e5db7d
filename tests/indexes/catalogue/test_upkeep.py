"""Checksums of rows: given to those of before, seen where they do not hold, and what repair makes of that."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from indexes.catalogue.catalogue import Catalogue
from indexes.catalogue.database.sqlite import CATALOGUE_FILE
from indexes.catalogue.records import NewPicture, Selection
from indexes.catalogue.upkeep import repair
from indexes.errors import StoreError

MODEL, ROOT, COUNT = "model-a", b"/g", 6


def a_picture(number: int) -> NewPicture:
    vector = np.full(8, number, np.float32)
    return NewPicture(b"/g/c/%d.png" % number, 1, 2, bytes([number]) * 32, vector, 3, 4, latitude=1.5)


@pytest.fixture
def store(tmp_path: Path) -> Path:
    with Catalogue(tmp_path, create=True) as catalogue:
        catalogue.scans.record(ROOT, MODEL, [a_picture(number) for number in range(COUNT)])
        catalogue.settings.set(fingerprint=MODEL, model="m", calibration="{}", tuning="{}")
    return tmp_path


def change(store: Path, *statements: str) -> None:
    with closing(sqlite3.connect(store / CATALOGUE_FILE)) as database:
        for statement in statements:
            database.execute(statement)
        database.commit()


def read_all(catalogue: Catalogue) -> Iterator[object]:
    """Read all that answers rest on."""
    yield list(catalogue.descriptors.all(MODEL))
    ids = catalogue.pictures.select_ids(Selection(label="c"))
    yield catalogue.pictures.candidates(ids)
    yield catalogue.pictures.files(ids)
    yield catalogue.pictures.get_many(ids.tolist())
    yield catalogue.pictures.content_hashes()
    yield catalogue.pictures.page(Selection(), b"", 100)
    yield catalogue.scans.roots()
    yield [catalogue.settings.get(name) for name in ("model", "fingerprint", "calibration", "tuning")]


CHANGES = [
    "UPDATE descriptors SET vector = x'00003C00000000000000000000000000' WHERE picture_id = 3",
    "UPDATE descriptors SET vector = substr(vector, 1, 14) WHERE picture_id = 3",
    "UPDATE descriptors SET checksum = checksum + 1 WHERE picture_id = 3",
    "UPDATE pictures SET checksum = checksum + 1 WHERE id = 3",
    "UPDATE roots SET path = x'2F68'",
    "UPDATE settings SET value = 'n' WHERE name = 'model'",
    "UPDATE settings SET value = '{ }' WHERE name = 'calibration'",
    "UPDATE settings SET name = 'tuninh' WHERE name = 'tuning'",
]
COLUMNS = {
    "path": "x'2F672F63'",
    "size": "9",
    "mtime": "9",
    "hash": "x'AA'",
    "height": "5",
    "label": "'d'",
    "taken_at": "'2020'",
    "latitude": "2.5",
    "longitude": "0",
}


@pytest.mark.parametrize("statement", CHANGES[:-1])
def test_a_changed_row_is_seen(statement: str, store: Path) -> None:
    change(store, statement)
    with Catalogue(store) as catalogue, pytest.raises(StoreError, match=r"is damaged in .*: `retrieve index --repair`"):
        list(read_all(catalogue))


@pytest.mark.parametrize("column", COLUMNS)
def test_a_changed_column_is_seen(column: str, store: Path) -> None:
    change(store, "DROP TRIGGER pictures_change", f"UPDATE pictures SET {column} = {COLUMNS[column]} WHERE id = 3")
    with Catalogue(store) as catalogue, pytest.raises(StoreError, match="is damaged in the record of a picture"):
        list(read_all(catalogue))


@pytest.mark.parametrize("column", COLUMNS)
def test_a_column_that_is_changed_on_purpose_gets_a_new_checksum(column: str, store: Path) -> None:
    change(store, f"UPDATE pictures SET {column} = {COLUMNS[column]} WHERE id = 3")
    with Catalogue(store) as catalogue:
        list(read_all(catalogue))
        catalogue.seal()
        list(read_all(catalogue))
    with closing(sqlite3.connect(store / CATALOGUE_FILE)) as database:
        assert database.execute("SELECT count(*) FROM pictures WHERE checksum IS NULL").fetchone() == (0,)


def test_rows_of_before_are_taken_and_get_checksums(store: Path) -> None:
    change(store, *(f"UPDATE {name} SET checksum = NULL" for name in ("settings", "roots", "pictures", "descriptors")))
    with Catalogue(store) as catalogue:
        before = [str(each) for each in read_all(catalogue)]
        catalogue.seal()
        assert [str(each) for each in read_all(catalogue)] == before
    with closing(sqlite3.connect(store / CATALOGUE_FILE)) as database:
        for name in ("settings", "roots", "pictures", "descriptors"):
            assert database.execute(f"SELECT count(*) FROM {name} WHERE checksum IS NULL").fetchone() == (0,)
    change(store, "UPDATE descriptors SET vector = zeroblob(16) WHERE picture_id = 3")
    with Catalogue(store) as catalogue, pytest.raises(StoreError, match="is damaged in a picture's descriptor"):
        list(read_all(catalogue))


@pytest.mark.parametrize("statement", [*CHANGES, "DELETE FROM descriptors WHERE picture_id = 3"])
def test_repair_leaves_what_holds(statement: str, store: Path) -> None:
    change(store, statement)
    notes = repair(store, lambda folder: None)
    assert len(notes) == 1
    with Catalogue(store) as catalogue:
        list(read_all(catalogue))
        left = sum(len(ids) for ids, _ in catalogue.descriptors.all(MODEL))
        assert left == COUNT - ("pictures" in statement or "descriptors" in statement)
        assert catalogue.settings.get("fingerprint") == MODEL
        assert catalogue.scans.root_counts()[0].pictures == left
    assert repair(store, lambda folder: None) == []


def test_a_damaged_descriptor_is_not_taken_for_another_file_of_its_content(store: Path) -> None:
    change(store, "UPDATE descriptors SET vector = zeroblob(16) WHERE picture_id = 3")
    with Catalogue(store) as catalogue:
        contents = [bytes([number]) * 32 for number in range(COUNT)]
        assert set(catalogue.scans.find_by_content(contents, MODEL)) == set(contents) - {contents[2]}
