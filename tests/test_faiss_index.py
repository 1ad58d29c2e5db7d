"""FAISS keeps the contract of vector indexes, and its file is what was written or is taken for none."""

from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np
import pytest

from indexes.errors import StoreError
from indexes.faiss_index import FaissIndex, delete_files, unit
from tests.index_contract import CHANNELS, IndexContract, made
from tests.unprivileged import require_binding_permissions, run_unprivileged

ORIGIN = "0123456789abcdef-7"


class TestFaissKeepsTheContract(IndexContract):
    def empty(self, channels: int) -> FaissIndex:
        return FaissIndex.empty(channels)


@pytest.fixture
def index() -> FaissIndex:
    index = FaissIndex.empty(CHANNELS)
    index.add(np.arange(100, 120, dtype=np.int64), made(20))
    return index


def test_what_is_loaded_equals_what_was_saved(index: FaissIndex, tmp_path: Path) -> None:
    file = index.save(tmp_path, ORIGIN)
    loaded = FaissIndex.load(tmp_path, ORIGIN)
    assert loaded is not None
    assert (len(loaded), file.parent, list(tmp_path.iterdir())) == (20, tmp_path, [file])
    queries, among = made(3, seed=1), np.array([101, 107], np.int64)
    for restricted in (None, among):
        before, after = (one.search(queries, 9, restricted) for one in (index, loaded))
        np.testing.assert_array_equal(before[0], after[0])
        np.testing.assert_array_equal(before[1], after[1])


def test_a_loaded_index_takes_more(index: FaissIndex, tmp_path: Path) -> None:
    index.save(tmp_path, ORIGIN)
    loaded = FaissIndex.load(tmp_path, ORIGIN)
    assert loaded is not None
    new = made(1, seed=5)
    loaded.add(np.array([500], np.int64), new)
    assert loaded.search(new, 1)[1].tolist() == [[500]]


def test_an_empty_index_is_saved_too(tmp_path: Path) -> None:
    FaissIndex.empty(CHANNELS).save(tmp_path, ORIGIN)
    loaded = FaissIndex.load(tmp_path, ORIGIN)
    assert loaded is not None
    assert len(loaded) == 0


def test_no_file_gives_none(tmp_path: Path) -> None:
    assert FaissIndex.load(tmp_path, ORIGIN) is None
    assert FaissIndex.load(tmp_path / "nothing", ORIGIN) is None


@pytest.mark.parametrize("other", ["0123456789abcdef-8", "0123456789abcdef-", "0123456789abcdef", "1123456789abcdef-7"])
def test_another_origin_gives_none(index: FaissIndex, tmp_path: Path, other: str) -> None:
    index.save(tmp_path, ORIGIN)
    assert FaissIndex.load(tmp_path, other) is None


@pytest.mark.parametrize("size", [0, 1, 60, -1])
def test_a_truncated_file_gives_none(index: FaissIndex, tmp_path: Path, size: int) -> None:
    file = index.save(tmp_path, ORIGIN)
    os.truncate(file, size % file.stat().st_size)
    assert FaissIndex.load(tmp_path, ORIGIN) is None


@pytest.mark.parametrize("place", [0, 5, 40, 500, -1])
def test_a_flipped_bit_gives_none(index: FaissIndex, tmp_path: Path, place: int) -> None:
    file = index.save(tmp_path, ORIGIN)
    data = bytearray(file.read_bytes())
    data[place] ^= 1
    file.write_bytes(data)
    assert FaissIndex.load(tmp_path, ORIGIN) is None


def test_a_file_that_faiss_cannot_read_gives_none(tmp_path: Path) -> None:
    # An empty file: its checksum is 0, as its name says.
    (tmp_path / f"{ORIGIN}-00000000.faiss").touch()
    assert FaissIndex.load(tmp_path, ORIGIN) is None


def test_files_of_other_origins_are_deleted(index: FaissIndex, tmp_path: Path) -> None:
    index.save(tmp_path, ORIGIN)
    index.add(np.array([1], np.int64), made(1, seed=3))
    (tmp_path / "catalogue.sqlite").touch()
    (tmp_path / "writing-abc.faiss").touch()
    file = index.save(tmp_path, "0123456789abcdef-8")
    assert {entry.name for entry in tmp_path.iterdir()} == {file.name, "catalogue.sqlite", "writing-abc.faiss"}


def test_files_that_a_killed_process_left_are_deleted(index: FaissIndex, tmp_path: Path) -> None:
    left, begun = tmp_path / "writing-old.faiss", tmp_path / "writing-new.faiss"
    for path in (left, begun):
        path.touch()
    os.utime(left, (time.time() - 4000, time.time() - 4000))
    assert set(tmp_path.iterdir()) == {left, begun}
    file = index.save(tmp_path, ORIGIN)
    assert set(tmp_path.iterdir()) == {file, begun}


def test_all_files_of_a_store_are_deleted(index: FaissIndex, tmp_path: Path) -> None:
    index.save(tmp_path, ORIGIN)
    (tmp_path / "catalogue.sqlite").touch()
    delete_files(tmp_path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["catalogue.sqlite"]


def test_saving_again_keeps_the_file(index: FaissIndex, tmp_path: Path) -> None:
    assert index.save(tmp_path, ORIGIN) == index.save(tmp_path, ORIGIN)
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_failing_write_leaves_the_old_file_alone(
    index: FaissIndex, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    def full(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    old = index.save(tmp_path, ORIGIN)
    monkeypatch.setattr(os, call, full)
    with pytest.raises(StoreError, match=r"8-[0-9a-f]{8}\.faiss cannot be written \(No space left on device\)"):
        index.save(tmp_path, "0123456789abcdef-8")
    assert list(tmp_path.iterdir()) == [old]


def test_a_folder_that_may_not_be_written_is_refused(tmp_path: Path) -> None:
    require_binding_permissions(tmp_path)
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o500)
    code = (
        "import sys, pathlib\nfrom indexes.faiss_index import FaissIndex\n"
        "FaissIndex.empty(2).save(pathlib.Path(sys.argv[1]), 'o')"
    )
    last = run_unprivileged(code, closed).stderr.splitlines()[-1]
    assert last.startswith(f"indexes.errors.StoreError: {closed}/o-")
    assert last.endswith("cannot be written (Permission denied): make room or allow writing there")


def test_unit_by_hand() -> None:
    vectors = np.array([[3, 4], [0, 0], [0, -1e-3]], np.float32)
    expected = np.array([[0.6, 0.8], [0, 0], [0, -1]], np.float32)
    np.testing.assert_allclose(unit(vectors), expected, rtol=1e-6)
    assert unit(vectors).dtype == np.float32
