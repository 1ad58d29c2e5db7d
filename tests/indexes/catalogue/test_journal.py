"""What triggers keep: each gallery's counts, and the journal that brings an index up to date."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import closing
from operator import attrgetter
from pathlib import Path

import numpy as np
import pytest

from indexes.catalogue.catalogue import Catalogue
from indexes.catalogue.database.sqlite import CATALOGUE_FILE, SqliteDatabase
from indexes.catalogue.records import FailedFile, NewPicture, RootCounts, Selection
from tests.support.postgres import AddressOf

MODEL = "model-a"

sqlite_only = pytest.mark.parametrize("address_of", ["sqlite"], indirect=True)


@pytest.fixture
def catalogue(tmp_path: Path, address_of: AddressOf) -> Iterator[Catalogue]:
    """Two pictures, 1 and 2, in /g."""
    store = tmp_path / "store"
    with closing(Catalogue(store, create=True, address=address_of(store))) as catalogue:
        record(catalogue, b"/g/a/1.jpg", b"/g/b/2.jpg")
        yield catalogue


def record(catalogue: Catalogue, *paths: bytes, root: bytes = b"/g") -> None:
    vector = np.array([1, 2], np.float32)
    catalogue.scans.record(root, MODEL, [NewPicture(path, 10, 20, path, vector, 30, 40) for path in paths])


def touched(catalogue: Catalogue, generation: str) -> list[int] | None:
    changes = catalogue.journal.changes_since(generation)
    assert changes is None or changes[0] == catalogue.generation
    return None if changes is None else changes[1].tolist()


def rows(catalogue: Catalogue, table: str) -> int:
    with catalogue._database.read() as connection:
        return int(connection.exec_driver_sql(f"SELECT count(*) FROM {table}").scalar_one())


# --- counts


def test_counts_follow_every_change(catalogue: Catalogue) -> None:
    assert catalogue.scans.root_counts() == [RootCounts(b"/g", 2, 0)]
    record(catalogue, b"/g/a/1.jpg", b"/g/c/3.jpg")  # one replaced, one new
    assert catalogue.scans.root_counts() == [RootCounts(b"/g", 3, 0)]
    catalogue.scans.set_missing([1, 2], True)
    catalogue.scans.set_missing([1], True)  # again
    assert catalogue.scans.root_counts() == [RootCounts(b"/g", 1, 2)]
    record(catalogue, b"/g/a/1.jpg")  # back
    assert catalogue.scans.root_counts() == [RootCounts(b"/g", 2, 1)]
    catalogue.scans.record(b"/g", MODEL, [], [FailedFile(b"/g/a/1.jpg", "is empty")])
    assert catalogue.scans.root_counts() == [RootCounts(b"/g", 1, 2)]
    catalogue.remove(b"/g/b")  # a missing one
    catalogue.remove(b"/g/c")  # a present one
    assert catalogue.scans.root_counts() == [RootCounts(b"/g", 0, 1)]
    assert catalogue.pictures.count() == 0


def test_counts_move_to_the_root_that_takes_over_others(catalogue: Catalogue) -> None:
    record(catalogue, b"/h/1.jpg", root=b"/h")
    catalogue.scans.set_missing([2], True)
    catalogue.scans.ensure_root(b"/")
    assert catalogue.scans.root_counts() == [RootCounts(b"/", 2, 1)]
    assert catalogue.pictures.count() == 2


def test_a_batch_that_has_a_path_twice_counts_it_once(catalogue: Catalogue) -> None:
    first, last = (NewPicture(b"/g/x.jpg", 1, 1, b"x", np.array([n], np.float32), 1, 1) for n in (3, 4))
    catalogue.scans.record(b"/g", MODEL, [first, last])
    assert catalogue.scans.root_counts() == [RootCounts(b"/g", 3, 0)]
    assert catalogue.scans.find_by_content([b"x"], MODEL)[b"x"].vector.tolist() == [4.0]


# --- labels


def test_labels_whose_pictures_are_all_missing_are_left_out(catalogue: Catalogue) -> None:
    record(catalogue, b"/g/a/3.jpg", b"/g/c/4.jpg", b"/g/5.jpg")
    catalogue.scans.set_missing([1, 2], True)  # one of two in a, the only one in b
    assert catalogue.pictures.labels() == ["a", "c"]
    assert catalogue.pictures.select_ids(Selection("a")).tolist() == [3]
    catalogue.remove(b"/g")
    assert catalogue.pictures.labels() == []


# --- the journal


@pytest.mark.parametrize(
    ("change", "ids"),
    [
        (lambda catalogue: record(catalogue, b"/g/c/3.jpg"), [3]),
        (lambda catalogue: record(catalogue, b"/g/a/1.jpg"), [1]),
        (lambda catalogue: catalogue.scans.set_missing([2], True), [2]),
        (lambda catalogue: catalogue.scans.set_missing([2], False), []),
        (lambda catalogue: catalogue.scans.record(b"/g", MODEL, [], [FailedFile(b"/g/a/1.jpg", "is empty")]), [1]),
        (lambda catalogue: catalogue.remove(b"/g"), [1, 2]),
        (lambda catalogue: catalogue.scans.ensure_root(b"/"), []),
    ],
)
def test_each_change_is_journalled(catalogue: Catalogue, change: Callable[[Catalogue], object], ids: list[int]) -> None:
    before = catalogue.generation
    assert touched(catalogue, before) == []
    change(catalogue)
    assert touched(catalogue, before) == ids


def test_a_scan_that_changes_nothing_searched_keeps_the_generation(catalogue: Catalogue) -> None:
    catalogue.scans.record(b"/g", MODEL, [], [FailedFile(b"/g/bad.jpg", "is empty")])
    before = catalogue.generation
    catalogue.scans.record(b"/g", MODEL, [], [FailedFile(b"/g/bad.jpg", "is empty")])
    catalogue.scans.set_missing([1], False)
    assert catalogue.generation == before


def test_changes_add_up_and_name_a_picture_once(catalogue: Catalogue) -> None:
    first = catalogue.generation
    record(catalogue, b"/g/c/3.jpg")
    second = catalogue.generation
    catalogue.scans.set_missing([1, 3], True)
    catalogue.remove(b"/g/a/1.jpg")
    assert touched(catalogue, first) == [1, 3]
    assert touched(catalogue, second) == [1, 3]
    assert touched(catalogue, catalogue.generation) == []


def test_the_vectors_of_touched_pictures_are_read(catalogue: Catalogue) -> None:
    catalogue.scans.set_missing([1], True)
    chunks = list(catalogue.descriptors.of(np.array([1, 2, 9]), MODEL))
    assert [(ids.tolist(), vectors.tolist()) for ids, vectors in chunks] == [([2], [[1.0, 2.0]])]
    assert list(catalogue.descriptors.of(np.array([2]), "model-b")) == []


def test_forgotten_generations_are_unknown(catalogue: Catalogue) -> None:
    first = catalogue.generation
    record(catalogue, b"/g/c/3.jpg")
    second = catalogue.generation
    record(catalogue, b"/g/d/4.jpg")
    catalogue.journal.forget_changes(second)
    assert touched(catalogue, first) is None
    assert touched(catalogue, second) == [4]
    assert rows(catalogue, "changes") == 1
    catalogue.journal.forget_changes(catalogue.generation)
    assert rows(catalogue, "changes") == 0
    last = catalogue.generation
    record(catalogue, b"/g/e/5.jpg")  # positions go on where they were
    assert touched(catalogue, last) == [5]


def test_forgetting_an_unknown_generation_forgets_nothing(catalogue: Catalogue) -> None:
    before = rows(catalogue, "changes"), rows(catalogue, "generations")
    catalogue.journal.forget_changes("unknown")
    assert (rows(catalogue, "changes"), rows(catalogue, "generations")) == before


@sqlite_only
def test_generations_after_a_restored_copy_are_unknown(catalogue: Catalogue, tmp_path: Path) -> None:
    copied = catalogue.generation
    catalogue.close()
    shutil.copy(catalogue.folder / CATALOGUE_FILE, tmp_path)
    later = Catalogue(catalogue.folder)
    record(later, b"/g/c/3.jpg")
    lost = later.generation
    later.close()
    shutil.copy(tmp_path / CATALOGUE_FILE, catalogue.folder)
    restored = Catalogue(catalogue.folder)
    record(restored, b"/g/d/4.jpg")
    assert touched(restored, lost) is None
    assert touched(restored, copied) == [3]


# --- a sample


@pytest.mark.parametrize(("most", "found"), [(0, 0), (5, 5), (60, 60), (100, 90), (1000, 90)])
def test_a_sample_has_no_missing_pictures(catalogue: Catalogue, most: int, found: int) -> None:
    record(catalogue, *(b"/g/%03d.jpg" % number for number in range(98)))
    catalogue.scans.set_missing(list(range(11, 21)), True)
    ids, vectors = catalogue.descriptors.sample(MODEL, most)
    assert len(set(ids.tolist())) == len(ids) == len(vectors) == found
    assert not set(ids.tolist()) & set(range(11, 21))
    assert catalogue.descriptors.sample(MODEL, most)[0].tolist() == ids.tolist()


def test_samples_differ_by_seed_and_may_be_empty(catalogue: Catalogue) -> None:
    record(catalogue, *(b"/g/%03d.jpg" % number for number in range(98)))
    assert (
        catalogue.descriptors.sample(MODEL, 10, seed=0)[0].tolist()
        != catalogue.descriptors.sample(MODEL, 10, seed=1)[0].tolist()
    )
    catalogue.remove(b"/g")
    assert len(catalogue.descriptors.sample(MODEL, 10)[0]) == 0


# --- the size of the tables does not matter


@sqlite_only
@pytest.mark.parametrize(
    ("method", "arguments"),
    [
        ("pictures.candidates", (np.array([1, 2]),)),
        ("descriptors.of", (np.array([1, 2]), MODEL)),
        ("pictures.labels", ()),
        ("scans.root_counts", ()),
        ("pictures.count", ()),
        ("pictures.count_selected", (Selection(label="a"),)),
        ("pictures.count_selected", (Selection(folder=b"/g/a"),)),
        ("pictures.page", (Selection(), b"", 10)),
        ("pictures.page", (Selection(folder=b"/g/a"), b"", 10)),
        ("pictures.get", (1,)),
    ],
)
def test_no_query_or_status_reads_a_whole_table(
    catalogue: Catalogue, method: str, arguments: tuple[object, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    opened = SqliteDatabase._connect

    def traced(database: SqliteDatabase) -> object:
        connection = opened(database)
        connection.set_trace_callback(said.append)
        return connection

    monkeypatch.setattr(SqliteDatabase, "_connect", traced)
    mine = Catalogue(catalogue.folder)
    said.clear()
    answer = attrgetter(method)(mine)(*arguments)
    _ = list(answer) if isinstance(answer, Iterator) else answer
    statements = [each for each in said if each.startswith(("SELECT", "WITH"))]
    assert statements
    for statement in statements:
        with SqliteDatabase(catalogue.folder).read() as connection:
            plan = [row[3] for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}")]
        whole = [step for step in plan if step.startswith("SCAN") and step.split()[1] in ("p", "d", "pictures")]
        assert whole == [], plan
