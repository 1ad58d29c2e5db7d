"""The journal: what an index of an earlier generation must follow, no more and no less."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from indexes.catalogue import Catalogue
from indexes.records import Counts, NewPicture

MODEL = "model-a"


@pytest.fixture
def catalogue(tmp_path: Path) -> Catalogue:
    catalogue = Catalogue(tmp_path / "store", create=True)
    record(catalogue, b"/g/a", b"/g/b", b"/g/c")
    return catalogue


def record(catalogue: Catalogue, *paths: bytes, failures: tuple[bytes, ...] = ()) -> None:
    vector = np.array([1, 2], np.float32)
    pictures = [NewPicture(path, 10, 20, path, vector, 30, 40) for path in paths]
    catalogue.record(b"/g", MODEL, pictures, [(path, "is broken") for path in failures])


def touched(catalogue: Catalogue, generation: str) -> list[int]:
    changes = catalogue.changes_since(generation)
    assert changes is not None
    assert changes.generation == catalogue.generation
    return changes.touched.tolist()


def test_nothing_has_changed_since_now(catalogue: Catalogue) -> None:
    assert touched(catalogue, catalogue.generation) == []


def test_what_each_change_touches(catalogue: Catalogue) -> None:
    before = catalogue.generation
    record(catalogue, b"/g/d")
    assert touched(catalogue, before) == [4]
    replaced = catalogue.generation
    record(catalogue, b"/g/b")
    assert touched(catalogue, replaced) == [2]
    gone = catalogue.generation
    catalogue.set_missing([1], True)
    catalogue.set_missing([1], True)
    assert touched(catalogue, gone) == [1]
    failed = catalogue.generation
    record(catalogue, failures=(b"/g/c",))
    assert touched(catalogue, failed) == [3]
    removed = catalogue.generation
    catalogue.remove(b"/g/b")
    assert touched(catalogue, removed) == [2]
    assert touched(catalogue, before) == [1, 2, 3, 4]


def test_generations_of_nowhere_are_not_known(catalogue: Catalogue) -> None:
    assert catalogue.changes_since("") is None
    assert catalogue.changes_since("0123456789abcdef") is None


def test_what_is_forgotten_is_not_known(catalogue: Catalogue) -> None:
    first = catalogue.generation
    record(catalogue, b"/g/d")
    second = catalogue.generation
    record(catalogue, b"/g/e")
    catalogue.forget_changes(second)
    assert catalogue.changes_since(first) is None
    assert touched(catalogue, second) == [5]
    catalogue.forget_changes(catalogue.generation)
    record(catalogue, b"/g/f")
    assert catalogue.changes_since(second) is None
    catalogue.forget_changes("unknown")
    assert catalogue.changes_since(second) is None


def test_positions_do_not_come_again_once_forgotten(catalogue: Catalogue) -> None:
    catalogue.forget_changes(catalogue.generation)
    kept = catalogue.generation
    record(catalogue, b"/g/d")
    assert touched(catalogue, kept) == [4]


def test_a_store_that_was_restored_knows_nothing_of_what_came_after_the_copy(
    catalogue: Catalogue, tmp_path: Path
) -> None:
    copied = catalogue.generation
    catalogue.close()
    shutil.copytree(catalogue.folder, tmp_path / "copy")
    record(catalogue, b"/g/d")
    later = catalogue.generation
    restored = Catalogue(tmp_path / "copy")
    record(restored, b"/g/e")
    assert restored.changes_since(later) is None
    assert touched(restored, copied) == [4]


def test_vectors_of_some_pictures(catalogue: Catalogue) -> None:
    catalogue.set_missing([2], True)
    ((ids, vectors),) = catalogue.vectors_of(np.array([3, 2, 77], np.int64), MODEL)
    assert (ids.tolist(), vectors.tolist()) == ([3], [[1.0, 2.0]])
    assert list(catalogue.vectors_of(np.array([2], np.int64), MODEL)) == []
    assert list(catalogue.vectors_of(np.array([3], np.int64), "model-b")) == []


def test_a_sample_is_drawn_without_repetition_from_what_is_there(catalogue: Catalogue) -> None:
    record(catalogue, *(b"/g/%03d" % number for number in range(300)))
    catalogue.set_missing(list(range(1, 152)), True)
    ids, vectors = catalogue.sample(MODEL, 50)
    assert len(set(ids.tolist())) == len(ids) == len(vectors) == 50
    assert ids.min() > 151
    assert ids.max() - ids.min() > 75
    assert catalogue.sample(MODEL, 50, seed=1)[0].tolist() != ids.tolist()
    assert sorted(catalogue.sample(MODEL, 1000)[0].tolist()) == list(range(152, 304))


def test_a_sample_of_nothing(tmp_path: Path) -> None:
    ids, vectors = Catalogue(tmp_path / "empty", create=True).sample(MODEL, 10)
    assert (len(ids), len(vectors)) == (0, 0)


def test_counters_follow_every_change(catalogue: Catalogue) -> None:
    assert (catalogue.counts(), catalogue.count()) == ([Counts(b"/g", 3, 0)], 3)
    record(catalogue, b"/g/a", b"/g/d")
    assert (catalogue.counts(), catalogue.count()) == ([Counts(b"/g", 4, 0)], 4)
    catalogue.set_missing([1, 2], True)
    assert (catalogue.counts(), catalogue.count()) == ([Counts(b"/g", 2, 2)], 2)
    record(catalogue, b"/g/a")  # back, as it is recorded anew
    assert (catalogue.counts(), catalogue.count()) == ([Counts(b"/g", 3, 1)], 3)
    catalogue.remove(b"/g/b")
    catalogue.remove(b"/g/c")
    assert (catalogue.counts(), catalogue.count()) == ([Counts(b"/g", 2, 0)], 2)
    catalogue.root_of(b"/")
    assert (catalogue.counts(), catalogue.count()) == ([Counts(b"/", 2, 0)], 2)
    catalogue.remove(b"/")
    assert (catalogue.counts(), catalogue.count()) == ([], 0)


def test_labels_are_told_once_each_and_only_of_what_is_there(catalogue: Catalogue) -> None:
    record(catalogue, b"/g/cat/1", b"/g/cat/2", b"/g/ant/1", b"/g/bee/1", b"/g/bee/2")
    assert catalogue.labels() == ["ant", "bee", "cat"]
    ids = {known.path: known.id for known in catalogue.known_files(b"/g")}
    catalogue.set_missing([ids[b"/g/ant/1"], ids[b"/g/bee/1"]], True)
    assert catalogue.labels() == ["bee", "cat"]
