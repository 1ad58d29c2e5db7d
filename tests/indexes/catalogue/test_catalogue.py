"""The catalogue: what is recorded comes back, changes are whole, and an index can follow them."""

import os
import shutil
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from indexes.arrays import Ids, Vectors
from indexes.catalogue import descriptors, pictures, scans
from indexes.catalogue.catalogue import Catalogue
from indexes.catalogue.database import dialects
from indexes.catalogue.paths import contains
from indexes.catalogue.records import (
    Candidate,
    FailedFile,
    KnownContent,
    KnownFile,
    NewPicture,
    RemovedCounts,
    RootCounts,
    Selection,
    StoredFile,
)
from indexes.errors import StoreError
from tests.support.postgres import AddressOf

MODEL = "model-a"


@pytest.fixture
def catalogue(tmp_path: Path, address_of: AddressOf) -> Iterator[Catalogue]:
    with closing(made(tmp_path / "store", address_of)) as catalogue:
        yield catalogue


def made(folder: Path, address_of: AddressOf) -> Catalogue:
    """Create a store in this folder."""
    return Catalogue(folder, create=True, address=address_of(folder))


def picture(path: bytes, *vector: float, content: bytes | None = None) -> NewPicture:
    """Return a picture to record; its content hash is its path by default."""
    descriptor = np.array(vector or (1.0, 2.0), np.float32)
    return NewPicture(path, 10, 20, content or path, descriptor, 30, 40)


def recorded(catalogue: Catalogue, *pictures: NewPicture, root: bytes = b"/g") -> None:
    """Record pictures in a root."""
    catalogue.scans.record(root, MODEL, pictures)


def labels(catalogue: Catalogue) -> dict[bytes, str | None]:
    """Return the label of every picture by its path."""
    ids = np.array(list(stored(catalogue)), np.int64)
    return {candidate.path: candidate.label for candidate in catalogue.pictures.candidates(ids)}


def paths(catalogue: Catalogue, folder: bytes = b"/g") -> list[bytes]:
    return [known.path for known in catalogue.scans.known_files(folder)]


def stored(catalogue: Catalogue, fingerprint: str = MODEL) -> dict[int, list[float]]:
    """Every vector by id, as an index would be built from."""
    chunks = catalogue.descriptors.all(fingerprint)
    return {int(id_): row.tolist() for ids, rows in chunks for id_, row in zip(ids, rows, strict=True)}


# --- settings


def test_settings_are_kept_and_replaced(catalogue: Catalogue) -> None:
    assert catalogue.settings.get("model") is None
    catalogue.settings.set(model="default", fingerprint="ab")
    catalogue.settings.set(model="paper")
    assert (catalogue.settings.get("model"), catalogue.settings.get("fingerprint")) == ("paper", "ab")


def test_settings_persist(catalogue: Catalogue) -> None:
    catalogue.settings.set(model="default")
    catalogue.close()
    assert Catalogue(catalogue.folder).settings.get("model") == "default"


# --- galleries


def test_a_root_is_found_again(catalogue: Catalogue) -> None:
    first = catalogue.scans.ensure_root(b"/g")
    assert catalogue.scans.ensure_root(b"/g") == first
    assert first == b"/g"
    assert catalogue.scans.roots() == [b"/g"]


def test_a_folder_in_a_root_belongs_to_it(catalogue: Catalogue) -> None:
    outer = catalogue.scans.ensure_root(b"/g")
    assert catalogue.scans.ensure_root(b"/g/sub/deeper") == outer
    assert catalogue.scans.roots() == [b"/g"]


def test_a_name_that_only_begins_alike_is_another_root(catalogue: Catalogue) -> None:
    catalogue.scans.ensure_root(b"/g")
    assert catalogue.scans.ensure_root(b"/g2") == b"/g2"
    assert catalogue.scans.ensure_root(b"/g-old") == b"/g-old"
    assert catalogue.scans.roots() == [b"/g", b"/g-old", b"/g2"]


def test_a_root_takes_over_those_below_with_their_pictures(catalogue: Catalogue) -> None:
    recorded(catalogue, picture(b"/g/a/1.jpg"), root=b"/g/a")
    recorded(catalogue, picture(b"/g/b/1.jpg"), root=b"/g/b")
    recorded(catalogue, picture(b"/h/1.jpg"), root=b"/h")
    assert catalogue.scans.ensure_root(b"/g") == b"/g"
    assert catalogue.scans.root_counts() == [RootCounts(b"/g", 2, 0), RootCounts(b"/h", 1, 0)]
    assert catalogue.scans.ensure_root(b"/g/a") == b"/g"


def test_labels_do_not_depend_on_the_order_of_galleries(tmp_path: Path, address_of: AddressOf) -> None:
    moon = [picture(b"/n/moon/1.jpg"), picture(b"/n/moon/full/2.jpg")]
    recorded_labels = []
    for place, order in enumerate(((b"/n/moon", b"/n"), (b"/n", b"/n/moon"), (b"/n/moon", b"/"))):
        catalogue = made(tmp_path / str(place), address_of)
        catalogue.scans.ensure_root(order[0])
        recorded(catalogue, *moon, root=b"/n/moon")
        catalogue.scans.ensure_root(order[1])
        recorded_labels.append(labels(catalogue))
    assert recorded_labels == [{b"/n/moon/1.jpg": "moon", b"/n/moon/full/2.jpg": "full"}] * 3


@pytest.mark.parametrize("order", [(b"/g", b"/g/a/.h/b"), (b"/g/a/.h/b", b"/g")])
def test_a_hidden_gallery_within_another_is_separate(catalogue: Catalogue, order: tuple[bytes, bytes]) -> None:
    for folder in order:
        assert catalogue.scans.ensure_root(folder) == folder
    assert catalogue.scans.roots() == [b"/g", b"/g/a/.h/b"]
    assert catalogue.scans.ensure_root(b"/g/a/.h/b/c") == b"/g/a/.h/b"


def test_a_folder_contains_what_is_below_and_not_hidden() -> None:
    assert contains(b"/g", b"/g/1.jpg")
    assert contains(b"/", b"/g/a.b/1.jpg")
    assert contains(b"/.h", b"/.h/1.jpg")
    for path in (b"/g", b"/g2/1.jpg", b"/g/.1.jpg", b"/g/a/.h/1.jpg"):
        assert not contains(b"/g", path)


def test_the_file_systems_root_contains_everything(catalogue: Catalogue) -> None:
    recorded(catalogue, picture(b"/g/1.jpg"))
    catalogue.scans.ensure_root(b"/")
    assert catalogue.scans.roots() == [b"/"]
    assert catalogue.scans.ensure_root(b"/elsewhere") == b"/"
    assert paths(catalogue, b"/") == [b"/g/1.jpg"]


# --- a scan


def test_known_files_come_in_the_order_of_their_bytes(catalogue: Catalogue) -> None:
    names = [b"/g/a0.jpg", b"/g/a/x.jpg", b"/g/a.jpg", b"/g/\xff\n.jpg", b"/g/B.jpg", b"/g/a b.jpg"]
    recorded(catalogue, *map(picture, names))
    assert paths(catalogue) == sorted(names)


def test_known_files_have_what_a_scan_compares(catalogue: Catalogue) -> None:
    recorded(catalogue, picture(b"/g/1.jpg"))
    (known,) = catalogue.scans.known_files(b"/g")
    assert known == KnownFile(known.id, b"/g/1.jpg", size=10, mtime=20, version=None, missing=False)


def test_known_files_are_those_below_the_folder(catalogue: Catalogue) -> None:
    recorded(catalogue, *map(picture, [b"/g/1.jpg", b"/g/a/1.jpg", b"/g/a.jpg", b"/g/a0/1.jpg"]))
    assert paths(catalogue, b"/g/a") == [b"/g/a/1.jpg"]
    assert paths(catalogue, b"/g/a/1.jpg") == []


@pytest.mark.parametrize("count", [0, 1, 3, 4, 7])
def test_known_files_are_complete_at_any_number_of_pages(
    catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    monkeypatch.setattr(scans, "_PAGE", 2)
    names = [b"/g/%d.jpg" % number for number in range(count)]
    recorded(catalogue, *map(picture, names))
    assert paths(catalogue) == names


def test_a_scan_may_write_while_it_reads(catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scans, "_PAGE", 1)
    names = [b"/g/1.jpg", b"/g/2.jpg", b"/g/3.jpg"]
    recorded(catalogue, *map(picture, names))
    seen = []
    for known in catalogue.scans.known_files(b"/g"):
        catalogue.scans.record(b"/g", MODEL, [picture(known.path, 5.0, 6.0)])
        seen.append(known.path)
    assert seen == names
    assert list(stored(catalogue).values()) == [[5.0, 6.0]] * 3


def test_a_picture_recorded_again_keeps_its_id_and_takes_the_new_values(catalogue: Catalogue) -> None:
    recorded(catalogue, picture(b"/g/1.jpg", 1, 2))
    (before,) = catalogue.scans.known_files(b"/g")
    changed = NewPicture(b"/g/1.jpg", 11, 21, b"new", np.array([3, 4], np.float32), 31, 41)
    catalogue.scans.record(b"/g", MODEL, [changed])
    (after,) = catalogue.scans.known_files(b"/g")
    assert after == KnownFile(before.id, b"/g/1.jpg", 11, 21, None, False)
    assert stored(catalogue) == {before.id: [3.0, 4.0]}
    assert catalogue.scans.find_by_content([b"/g/1.jpg"], MODEL) == {}


def test_a_changed_picture_loses_other_models_descriptors(catalogue: Catalogue) -> None:
    recorded(catalogue, picture(b"/g/1.jpg", 1, 2))
    catalogue.scans.record(b"/g", "model-b", [picture(b"/g/1.jpg", 5, 6, 7)])
    assert stored(catalogue) == {}
    assert list(stored(catalogue, "model-b").values()) == [[5.0, 6.0, 7.0]]


def test_descriptors_are_kept_as_float16(catalogue: Catalogue) -> None:
    recorded(catalogue, picture(b"/g/1.jpg", 0.1, -65504.0, 1e-8))
    # The float16 next to 0.1 is 1638 / 2^14; the least above 0 is 2^-24, of which 1e-8 is less than half.
    assert list(stored(catalogue).values()) == [[1638 / 2**14, -65504.0, 0.0]]


def test_known_contents_are_found_by_hash_and_model(catalogue: Catalogue) -> None:
    known = NewPicture(
        b"/g/1.jpg", 1, 2, b"hash", np.array([1, 2], np.float32), 30, 40, "2020-01-02T03:04:05", 45.5, -120.25
    )
    catalogue.scans.record(b"/g", MODEL, [known, picture(b"/g/2.jpg", content=b"other")])
    twins = catalogue.scans.find_by_content([b"hash", b"unknown"], MODEL)
    assert list(twins) == [b"hash"]
    twin = twins[b"hash"]
    assert twin.vector.tolist() == [1.0, 2.0]
    assert twin == KnownContent(twin.vector, 30, 40, "2020-01-02T03:04:05", 45.5, -120.25)
    assert catalogue.scans.find_by_content([b"hash"], "model-b") == {}
    assert catalogue.scans.find_by_content([], MODEL) == {}


def test_only_one_of_many_copies_is_read(catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch) -> None:
    recorded(catalogue, *(picture(b"/g/%03d.jpg" % place, place, content=b"hash") for place in range(200)))
    matrix, read = descriptors.decode_vectors, 0

    def counting(blobs: list[bytes]) -> Vectors:
        nonlocal read
        read += len(blobs)
        return matrix(blobs)

    monkeypatch.setattr(scans, "decode_vectors", counting)
    assert catalogue.scans.find_by_content([b"hash"], MODEL)[b"hash"].vector.tolist() == [0.0]
    assert read == 1


def test_any_number_of_contents_takes_one_statement(catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch) -> None:
    recorded(catalogue, *(picture(b"/g/%03d.jpg" % number, number) for number in range(40)))
    fetch, statements = catalogue._database.fetch, list[str]()

    def counting(statement: str, values: Sequence[Any]) -> list[Any]:
        statements.append(statement)
        return fetch(statement, values)

    monkeypatch.setattr(catalogue._database, "fetch", counting)
    contents = [b"/g/%03d.jpg" % number for number in range(0, 60, 2)]
    known = catalogue.scans.find_by_content([*contents, contents[0]], MODEL)
    assert {content: content_.vector.tolist() for content, content_ in known.items()} == {
        b"/g/%03d.jpg" % number: [float(number)] for number in range(0, 40, 2)
    }
    assert len(statements) == 1


def test_the_content_of_a_missing_picture_is_known(catalogue: Catalogue) -> None:
    recorded(catalogue, picture(b"/g/old.jpg", 3, 4, content=b"hash"))
    catalogue.scans.set_missing([known.id for known in catalogue.scans.known_files(b"/g")], True)
    assert catalogue.scans.find_by_content([b"hash"], MODEL)[b"hash"].vector.tolist() == [3.0, 4.0]


def test_missing_pictures_are_excluded_until_they_are_back(catalogue: Catalogue) -> None:
    recorded(catalogue, picture(b"/g/a/1.jpg"), picture(b"/g/b/2.jpg"))
    first, second = (known.id for known in catalogue.scans.known_files(b"/g"))
    catalogue.scans.set_missing([first], True)
    assert list(stored(catalogue)) == [second]
    assert catalogue.pictures.labels() == ["b"]
    assert catalogue.pictures.select_ids(Selection("a")).tolist() == []
    assert catalogue.scans.root_counts() == [RootCounts(b"/g", 1, 1)]
    assert [known.missing for known in catalogue.scans.known_files(b"/g")] == [True, False]
    catalogue.scans.set_missing([first], False)
    assert list(stored(catalogue)) == [first, second]


def test_a_missing_picture_recorded_again_is_back(catalogue: Catalogue) -> None:
    recorded(catalogue, picture(b"/g/1.jpg"))
    catalogue.scans.set_missing([known.id for known in catalogue.scans.known_files(b"/g")], True)
    recorded(catalogue, picture(b"/g/1.jpg"))
    assert [known.missing for known in catalogue.scans.known_files(b"/g")] == [False]


def test_more_ids_than_a_statement_takes(catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dialects, "_VARIABLES", 2)
    recorded(catalogue, *(picture(b"/g/%d.jpg" % number, number) for number in range(5)))
    ids = [known.id for known in catalogue.scans.known_files(b"/g")]
    ((_, vectors),) = catalogue.descriptors.of(np.array(ids, np.int64), MODEL)
    assert vectors.tolist() == [[0.0], [1.0], [2.0], [3.0], [4.0]]
    catalogue.scans.set_missing(ids, True)
    assert catalogue.scans.root_counts() == [RootCounts(b"/g", 0, 5)]


# --- failures


def test_a_failure_is_kept_with_its_reason_and_replaced(catalogue: Catalogue) -> None:
    recorded(catalogue)
    catalogue.scans.record(
        b"/g", MODEL, [], [FailedFile(b"/g/b.jpg", "is empty"), FailedFile(b"/g/a\xff.jpg", "is damaged")]
    )
    catalogue.scans.record(b"/g", MODEL, [], [FailedFile(b"/g/b.jpg", "is not a picture")])
    assert catalogue.scans.failures() == [(b"/g/a\xff.jpg", "is damaged"), (b"/g/b.jpg", "is not a picture")]


def test_a_null_character_in_a_text_is_accepted(catalogue: Catalogue) -> None:
    recorded(catalogue, picture(b"/g/a/1.jpg"))
    catalogue.scans.record(b"/g", MODEL, [], [FailedFile(b"/g/b.jpg", "is\0damaged")])
    assert catalogue.scans.failures() == [(b"/g/b.jpg", "is damaged")]
    assert catalogue.pictures.select_ids(Selection("a\0")).tolist() == []
    assert catalogue.pictures.count_selected(Selection("a\0")) == 0


def test_a_picture_that_fails_becomes_missing(catalogue: Catalogue) -> None:
    recorded(catalogue, picture(b"/g/1.jpg"))
    catalogue.scans.record(b"/g", MODEL, [], [FailedFile(b"/g/1.jpg", "is empty")])
    assert catalogue.scans.root_counts() == [RootCounts(b"/g", 0, 1)]
    assert stored(catalogue) == {}


def test_the_failure_of_a_repaired_file_is_deleted(catalogue: Catalogue) -> None:
    recorded(catalogue)
    catalogue.scans.record(b"/g", MODEL, [], [FailedFile(b"/g/1.jpg", "is empty"), FailedFile(b"/g/2.jpg", "is empty")])
    catalogue.scans.record(b"/g", MODEL, [picture(b"/g/1.jpg")])
    assert catalogue.scans.failures() == [(b"/g/2.jpg", "is empty")]


def test_failures_that_a_scan_no_longer_finds_are_deleted(catalogue: Catalogue) -> None:
    recorded(catalogue)
    names = [b"/g", b"/g/.hidden/1.jpg", b"/g/1.jpg", b"/g/2.jpg", b"/g2/1.jpg"]
    catalogue.scans.record(b"/g", MODEL, [], [FailedFile(name, "is empty") for name in names])
    catalogue.scans.prune_failures(b"/g", {b"/g/2.jpg"})
    assert [path for path, _ in catalogue.scans.failures()] == [b"/g/.hidden/1.jpg", b"/g/2.jpg", b"/g2/1.jpg"]


# --- removal


def test_one_picture_is_removed(catalogue: Catalogue) -> None:
    recorded(catalogue, picture(b"/g/1.jpg"), picture(b"/g/1.jpg.jpg"))
    assert catalogue.remove(b"/g/1.jpg") == RemovedCounts(pictures=1)
    assert paths(catalogue) == [b"/g/1.jpg.jpg"]
    assert len(stored(catalogue)) == 1
    assert catalogue.scans.roots() == [b"/g"]


def test_a_folder_is_removed_with_its_failures_and_roots(catalogue: Catalogue) -> None:
    recorded(catalogue, picture(b"/g/1.jpg"), picture(b"/g/a/2.jpg"))
    recorded(catalogue, picture(b"/g2/1.jpg"), root=b"/g2")
    catalogue.scans.record(
        b"/g", MODEL, [], [FailedFile(b"/g/a/3.jpg", "is empty"), FailedFile(b"/g2/3.jpg", "is empty")]
    )
    assert catalogue.remove(b"/g") == RemovedCounts(pictures=2, failures=1, roots=1)
    assert catalogue.scans.roots() == [b"/g2"]
    assert catalogue.scans.failures() == [(b"/g2/3.jpg", "is empty")]
    assert paths(catalogue) == []
    assert len(stored(catalogue)) == 1


def test_removing_an_unknown_path_removes_nothing(catalogue: Catalogue) -> None:
    recorded(catalogue, picture(b"/g/1.jpg"))
    before = catalogue.generation
    assert not catalogue.remove(b"/g/2.jpg")
    assert catalogue.generation == before
    assert paths(catalogue) == [b"/g/1.jpg"]


def test_an_id_is_never_reused(catalogue: Catalogue) -> None:
    recorded(catalogue, picture(b"/g/1.jpg"))
    (old,) = stored(catalogue)
    catalogue.remove(b"/g/1.jpg")
    recorded(catalogue, picture(b"/g/2.jpg"))
    assert list(stored(catalogue)) != [old]


def test_a_removed_pictures_descriptor_is_deleted(catalogue: Catalogue) -> None:
    recorded(catalogue, picture(b"/g/1.jpg", content=b"hash"))
    catalogue.remove(b"/g/1.jpg")
    assert catalogue.scans.find_by_content([b"hash"], MODEL) == {}


# --- search


@pytest.mark.parametrize("count", [0, 1, 2, 3, 5])
def test_vectors_are_complete_at_any_number_of_chunks(
    catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    monkeypatch.setattr(descriptors, "_CHUNK", 2)
    recorded(catalogue, *(picture(b"/g/%d.jpg" % number, number, 1) for number in range(count)))
    assert list(stored(catalogue).values()) == [[float(number), 1.0] for number in range(count)]
    assert [len(ids) for ids, _ in catalogue.descriptors.all(MODEL)] == [2] * (count // 2) + [1] * (count % 2)


def test_candidates_come_in_the_order_of_the_ids(catalogue: Catalogue) -> None:
    recorded(catalogue, picture(b"/g/1.jpg", 1), picture(b"/g/cats/2.jpg", 2), picture(b"/g/3.jpg", 3))
    first, third, second = (known.id for known in catalogue.scans.known_files(b"/g"))
    ids: Ids = np.array([third, 999, -1, second, first], np.int64)
    assert catalogue.pictures.candidates(ids) == [
        Candidate(third, b"/g/3.jpg", b"/g", None, 30, 40),
        Candidate(second, b"/g/cats/2.jpg", b"/g", "cats", 30, 40),
        Candidate(first, b"/g/1.jpg", b"/g", None, 30, 40),
    ]
    ((found, vectors),) = catalogue.descriptors.of(ids, MODEL)
    assert (found.tolist(), vectors.tolist()) == ([third, second, first], [[3.0], [2.0], [1.0]])


def test_missing_pictures_are_no_candidates(catalogue: Catalogue) -> None:
    recorded(catalogue, picture(b"/g/1.jpg", 1), picture(b"/g/2.jpg", 2))
    first, second = (known.id for known in catalogue.scans.known_files(b"/g"))
    catalogue.scans.set_missing([first], True)
    ids: Ids = np.array([first, second], np.int64)
    assert [candidate.id for candidate in catalogue.pictures.candidates(ids)] == [second]
    ((found, vectors),) = catalogue.descriptors.of(ids, MODEL)
    assert (found.tolist(), vectors.tolist()) == ([second], [[2.0]])


def test_a_label_that_is_not_utf8_is_selected_as_it_is_stored(catalogue: Catalogue) -> None:
    recorded(catalogue, picture(b"/g/\xff/1.jpg"))
    assert len(catalogue.pictures.select_ids(Selection(os.fsdecode(b"\xff")))) == 1
    assert len(catalogue.pictures.select_ids(Selection(os.fsdecode(b"\xff\xff")))) == 0


def test_there_are_no_descriptors_of_another_model(catalogue: Catalogue) -> None:
    recorded(catalogue, picture(b"/g/1.jpg"))
    ids = np.array([known.id for known in catalogue.scans.known_files(b"/g")], np.int64)
    assert list(catalogue.descriptors.of(ids, "model-b")) == []


def test_content_hashes_are_complete_at_any_number_of_pages(
    catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pictures, "_PAGE", 2)
    assert [len(each) for each in catalogue.pictures.content_hashes()] == [0, 0]
    recorded(catalogue, *(picture(b"/g/%d" % number, content=b"%032d" % (number % 3)) for number in range(7)))
    catalogue.scans.set_missing([2], True)
    ids, hashes = catalogue.pictures.content_hashes()
    assert ids.tolist() == [1, 3, 4, 5, 6, 7]
    assert hashes.tolist() == [b"%032d" % number for number in (0, 2, 0, 1, 2, 0)]


def test_files_come_by_id_as_they_were_read(catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dialects, "_VARIABLES", 2)
    recorded(catalogue, *(picture(b"/g/a/%d" % number) for number in range(4)))
    catalogue.scans.set_missing([2], True)
    found = catalogue.pictures.files(np.array([4, 1, 2, 9]))
    assert found == [StoredFile(1, b"/g/a/0", "a", 30, 40, 10, 20), StoredFile(4, b"/g/a/3", "a", 30, 40, 10, 20)]


def test_each_label_is_listed_once(catalogue: Catalogue) -> None:
    recorded(catalogue, *map(picture, [b"/g/a/dogs/0.jpg", b"/g/cats/1.jpg", b"/g/2.jpg", b"/g/dogs/3.jpg"]))
    assert catalogue.pictures.labels() == ["cats", "dogs"]
    ids = {known.path: known.id for known in catalogue.scans.known_files(b"/g")}
    assert sorted(catalogue.pictures.select_ids(Selection("dogs")).tolist()) == sorted(
        [ids[b"/g/a/dogs/0.jpg"], ids[b"/g/dogs/3.jpg"]]
    )
    assert catalogue.pictures.select_ids(Selection("horses")).tolist() == []


def test_counts_include_a_gallery_without_pictures(catalogue: Catalogue) -> None:
    catalogue.scans.ensure_root(b"/empty")
    assert catalogue.scans.root_counts() == [RootCounts(b"/empty", 0, 0)]


# --- generation and transactions


def test_generation_is_new_with_every_change_of_what_is_searched(catalogue: Catalogue) -> None:
    generations = [catalogue.generation]
    recorded(catalogue, picture(b"/g/1.jpg"))
    generations.append(catalogue.generation)
    (known,) = catalogue.scans.known_files(b"/g")
    for change in (
        lambda: catalogue.scans.set_missing([known.id], True),
        lambda: catalogue.scans.set_missing([known.id], False),
        lambda: catalogue.scans.record(b"/g", MODEL, [], [FailedFile(b"/g/1.jpg", "is empty")]),
        lambda: catalogue.remove(b"/g"),
    ):
        change()
        generations.append(catalogue.generation)
    assert len(set(generations)) == 6
    assert generations[0] == ""


def test_generations_of_a_restored_store_are_not_reused(tmp_path: Path) -> None:
    seen = set()
    for _ in range(2):
        catalogue = Catalogue(tmp_path / "store", create=True)
        recorded(catalogue, picture(b"/g/1.jpg"))
        seen.add(catalogue.generation)
        catalogue.close()
        shutil.rmtree(tmp_path / "store")
    assert len(seen) == 2


def test_generation_stays_if_nothing_searched_changes(catalogue: Catalogue) -> None:
    recorded(catalogue, picture(b"/g/1.jpg"))
    before = catalogue.generation
    catalogue.scans.ensure_root(b"/g")
    catalogue.settings.set(model="default")
    catalogue.scans.prune_failures(b"/g", set())
    assert catalogue.generation == before


def test_a_batch_that_raises_half_way_leaves_nothing(catalogue: Catalogue) -> None:
    recorded(catalogue, picture(b"/g/1.jpg", 1, 2))
    before = (catalogue.generation, stored(catalogue), paths(catalogue))
    broken = NewPicture(b"/g/3.jpg", 1, 2, None, np.array([1], np.float32), 3, 4)  # type: ignore[arg-type]
    batch = [picture(b"/g/1.jpg", 8, 9), picture(b"/g/2.jpg"), broken]
    with pytest.raises(StoreError, match="was changed by another process: run the command again"):
        catalogue.scans.record(b"/g", MODEL, batch, [FailedFile(b"/g/4.jpg", "is empty")])
    assert (catalogue.generation, stored(catalogue), paths(catalogue)) == before
    assert catalogue.scans.failures() == []


def test_a_failure_that_cannot_be_recorded_rolls_its_batch_back(catalogue: Catalogue) -> None:
    recorded(catalogue)
    before = catalogue.generation
    with pytest.raises(StoreError, match="was changed by another process: run the command again"):
        catalogue.scans.record(b"/g", MODEL, [picture(b"/g/1.jpg")], [FailedFile(b"/g/2.jpg", None)])  # type: ignore[arg-type]
    assert (catalogue.generation, paths(catalogue)) == (before, [])


def test_a_root_that_was_removed_during_a_scan_is_recorded_again(catalogue: Catalogue) -> None:
    recorded(catalogue, picture(b"/g/1.jpg"))
    Catalogue(catalogue.folder).remove(b"/g")
    recorded(catalogue, picture(b"/g/2.jpg"))
    assert catalogue.scans.root_counts() == [RootCounts(b"/g", 1, 0)]


def test_a_root_that_was_taken_over_during_a_scan_stays_with_the_other(catalogue: Catalogue) -> None:
    recorded(catalogue, picture(b"/g/sub/1.jpg"), root=b"/g/sub")
    Catalogue(catalogue.folder).scans.ensure_root(b"/g")
    recorded(catalogue, picture(b"/g/sub/2.jpg"), root=b"/g/sub")
    assert catalogue.scans.root_counts() == [RootCounts(b"/g", 2, 0)]
    assert labels(catalogue) == {b"/g/sub/1.jpg": "sub", b"/g/sub/2.jpg": "sub"}


@pytest.mark.slow
def test_two_catalogues_write_one_store(catalogue: Catalogue) -> None:
    problems: list[Exception] = []

    def write(name: bytes) -> None:
        try:
            mine = Catalogue(catalogue.folder)
            for number in range(20):
                mine.scans.record(b"/g", MODEL, [picture(b"/g/%s%02d.jpg" % (name, number))])
        except Exception as error:
            problems.append(error)

    threads = [threading.Thread(target=write, args=(name,)) for name in (b"a", b"b")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert problems == []
    assert len(paths(catalogue)) == 40


def test_two_catalogues_created_at_once_are_one(tmp_path: Path, address_of: AddressOf) -> None:
    ready = threading.Barrier(4)
    found: list[str | None] = []

    def make() -> None:
        ready.wait()
        mine = made(tmp_path / "store", address_of)
        found.append(mine.settings.get("model"))

    threads = [threading.Thread(target=make) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [None] * 4


def test_paths_of_any_bytes_are_kept(catalogue: Catalogue) -> None:
    names = [b"/g/\xff\xfe.jpg", b"/g/new\nline.jpg", "/g/猫 🐈.jpg".encode(), b"/g/'\";--.jpg", b"/g/ .jpg "]
    recorded(catalogue, *map(picture, names))
    assert paths(catalogue) == sorted(names)
    assert [os.fsencode(os.fsdecode(path)) for path in paths(catalogue)] == sorted(names)
    assert [catalogue.remove(name).pictures for name in names] == [1] * len(names)


def test_a_store_that_was_never_made_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="is not a store: make one with `retrieve index GALLERY`"):
        Catalogue(tmp_path / "nothing")
    assert not (tmp_path / "nothing").exists()


# --- turns, and values that are kept once


def test_the_index_lock_is_held_by_one_process_at_a_time(catalogue: Catalogue) -> None:
    other = Catalogue(catalogue.folder)
    with catalogue.index_lock(False) as granted:
        assert granted
        with other.index_lock(False) as refused:
            assert not refused
        waited: list[bool] = []

        def wait() -> None:
            with other.index_lock(True) as granted:
                waited.append(granted)

        waiting = threading.Thread(target=wait)
        waiting.start()
        waiting.join(0.3)
        assert waited == []
    waiting.join(10)
    assert waited == [True]
    with other.index_lock(False) as granted:
        assert granted
    other.close()


def test_an_error_under_the_index_lock_is_raised_as_it_is(catalogue: Catalogue) -> None:
    with pytest.raises(StoreError, match=r"^the index is full$"), catalogue.index_lock(True):
        raise StoreError("the index is full")
    with catalogue.index_lock(False) as granted:
        assert granted


def test_a_default_is_set_once(catalogue: Catalogue) -> None:
    catalogue.settings.set(empty="")
    catalogue.settings.set_defaults(store="first", empty="now")
    catalogue.settings.set_defaults(store="second", more="third")
    assert [catalogue.settings.get(name) for name in ("store", "empty", "more")] == ["first", "now", "third"]


def test_too_many_requests_are_reported(catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch) -> None:
    pool = catalogue._database._engine.pool
    monkeypatch.setattr(pool, "_timeout", 0.1)
    monkeypatch.setattr(pool, "_max_overflow", 0)
    held = [pool.connect() for _ in range(5)]
    with pytest.raises(StoreError, match="has too many requests at once: try again"):
        catalogue.pictures.labels()
    with pytest.raises(StoreError, match="has too many requests at once: try again"):
        catalogue.settings.get("store")
    for connection in held:
        connection.close()
