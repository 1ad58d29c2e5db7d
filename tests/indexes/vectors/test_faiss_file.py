"""The files of FAISS indexes: what is loaded is what was written, or nothing."""

import os
import sys
import time
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pytest

from indexes.errors import StoreError
from indexes.vectors import faiss_file
from indexes.vectors.faiss_file import delete_files, list_generations, load, save
from indexes.vectors.faiss_index import FaissIndex
from tests.support.index_contract import CHANNELS, made
from tests.support.unprivileged import require_binding_permissions, run_unprivileged

PRINT, NOW = "0123456789abcdef", "7"


@pytest.fixture
def index() -> FaissIndex:
    index = FaissIndex.empty(CHANNELS)
    index.add(np.arange(100, 120, dtype=np.int64), made(20))
    return index


def test_a_loaded_index_equals_the_saved_one(index: FaissIndex, tmp_path: Path) -> None:
    file = save(index, tmp_path, PRINT, NOW)
    loaded = load(tmp_path, PRINT, NOW)
    assert loaded is not None
    assert (len(loaded), file.parent, list(tmp_path.iterdir())) == (20, tmp_path, [file])
    queries, among = made(3, seed=1), np.array([101, 107], np.int64)
    for restricted in (None, among):
        before, after = (one.search(queries, 9, restricted) for one in (index, loaded))
        np.testing.assert_array_equal(before[0], after[0])
        np.testing.assert_array_equal(before[1], after[1])


def test_an_index_with_outdated_codes_is_not_loaded(tmp_path: Path) -> None:
    vectors = np.random.default_rng(0).normal(size=(200, 64)).astype(np.float32)
    for codes, is_taken in (("SQ4", False), ("RaBitQ4", True)):
        written = faiss.index_factory(64, f"RR64,IVF2,{codes}", faiss.METRIC_L2)
        written.train(vectors)
        written.add_with_ids(vectors, np.arange(200))
        save(FaissIndex(written), tmp_path, PRINT, NOW)
        assert (load(tmp_path, PRINT, NOW) is not None) == is_taken


def test_a_writable_index_can_be_added_to(index: FaissIndex, tmp_path: Path) -> None:
    save(index, tmp_path, PRINT, NOW)
    loaded = load(tmp_path, PRINT, NOW, writable=True)
    assert loaded is not None
    new = made(1, seed=5)
    loaded.add(np.array([500], np.int64), new)
    assert loaded.search(new, 1)[1].tolist() == [[500]]


def test_an_empty_index_is_saved_too(tmp_path: Path) -> None:
    save(FaissIndex.empty(CHANNELS), tmp_path, PRINT, NOW)
    loaded = load(tmp_path, PRINT, NOW)
    assert loaded is not None
    assert len(loaded) == 0


def test_nothing_is_loaded_without_a_file(tmp_path: Path) -> None:
    assert load(tmp_path, PRINT, NOW) is None
    assert load(tmp_path / "nothing", PRINT, NOW) is None


@pytest.mark.parametrize("other", [(PRINT, "8"), (PRINT, ""), ("1123456789abcdef", NOW)])
def test_an_index_of_another_origin_is_not_loaded(index: FaissIndex, tmp_path: Path, other: tuple[str, str]) -> None:
    save(index, tmp_path, PRINT, NOW)
    assert load(tmp_path, *other) is None


@pytest.mark.parametrize("size", [0, 1, 60, -1])
def test_a_truncated_file_is_not_loaded(index: FaissIndex, tmp_path: Path, size: int) -> None:
    file = save(index, tmp_path, PRINT, NOW)
    os.truncate(file, size % file.stat().st_size)
    assert load(tmp_path, PRINT, NOW) is None


@pytest.mark.parametrize("place", [0, 5, 40, 500, -1])
def test_a_file_with_a_flipped_bit_is_not_loaded(index: FaissIndex, tmp_path: Path, place: int) -> None:
    file = save(index, tmp_path, PRINT, NOW)
    data = bytearray(file.read_bytes())
    data[place] ^= 1
    file.write_bytes(data)
    assert load(tmp_path, PRINT, NOW) is None


def test_a_file_that_faiss_cannot_read_is_not_loaded(tmp_path: Path) -> None:
    # An empty file: its checksum is 0, as its name says.
    (tmp_path / f"{PRINT}-{NOW}-00000000.faiss").touch()
    assert load(tmp_path, PRINT, NOW) is None


def test_files_of_other_origins_are_deleted(index: FaissIndex, tmp_path: Path) -> None:
    save(index, tmp_path, PRINT, NOW)
    index.add(np.array([1], np.int64), made(1, seed=3))
    (tmp_path / "catalogue.sqlite").touch()
    (tmp_path / "writing-abc.faiss").touch()
    file = save(index, tmp_path, PRINT, "8")
    assert {entry.name for entry in tmp_path.iterdir()} == {file.name, "catalogue.sqlite", "writing-abc.faiss"}


def test_unfinished_files_of_killed_processes_are_deleted(index: FaissIndex, tmp_path: Path) -> None:
    left, begun = tmp_path / "writing-old.faiss", tmp_path / "writing-new.faiss"
    for path in (left, begun):
        path.touch()
    os.utime(left, (time.time() - 4000, time.time() - 4000))
    assert set(tmp_path.iterdir()) == {left, begun}
    file = save(index, tmp_path, PRINT, NOW)
    assert set(tmp_path.iterdir()) == {file, begun}


def test_all_files_of_a_store_are_deleted(index: FaissIndex, tmp_path: Path) -> None:
    save(index, tmp_path, PRINT, NOW)
    (tmp_path / "catalogue.sqlite").touch()
    delete_files(tmp_path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["catalogue.sqlite"]


def test_saving_again_keeps_the_file(index: FaissIndex, tmp_path: Path) -> None:
    assert save(index, tmp_path, PRINT, NOW) == save(index, tmp_path, PRINT, NOW)
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_failing_write_leaves_the_old_file_alone(
    index: FaissIndex, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    def full(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    old = save(index, tmp_path, PRINT, NOW)
    monkeypatch.setattr(os, call, full)
    with pytest.raises(StoreError, match=r"-8\.faiss cannot be written \(No space left on device\)"):
        save(index, tmp_path, PRINT, "8")
    assert list(tmp_path.iterdir()) == [old]


def test_a_folder_that_may_not_be_written_is_refused(tmp_path: Path) -> None:
    require_binding_permissions(tmp_path)
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o500)
    code = (
        "import sys, pathlib\nfrom indexes.vectors.faiss_file import save\n"
        "from indexes.vectors.faiss_index import FaissIndex\n"
        "save(FaissIndex.empty(2), pathlib.Path(sys.argv[1]), 'o', '1')"
    )
    last = run_unprivileged(code, closed).stderr.splitlines()[-1]
    assert last.startswith(f"indexes.errors.StoreError: {closed}/o-1.faiss")
    assert last.endswith("cannot be written (Permission denied): make room or allow writing there")


def test_a_loaded_index_is_memory_mapped(index: FaissIndex, tmp_path: Path) -> None:
    file = save(index, tmp_path, PRINT, NOW)
    loaded = load(tmp_path, PRINT, NOW)
    assert loaded is not None
    if sys.platform == "linux":
        assert os.fsencode(file) in Path("/proc/self/maps").read_bytes()
    file.unlink()
    assert loaded.search(made(20)[:1], 1)[1].tolist() == [[100]]


@pytest.mark.parametrize("name", [b"no \xff text", "名前".encode()])
def test_the_folder_may_have_any_name(index: FaissIndex, tmp_path: Path, name: bytes) -> None:
    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name))
    folder.mkdir()
    save(index, folder, PRINT, NOW)
    loaded = load(folder, PRINT, NOW)
    assert loaded is not None
    assert len(loaded) == 20


def test_files_of_others_are_left_alone(index: FaissIndex, tmp_path: Path) -> None:
    for name in ("mine.faiss", "0123-4567-89ab.faiss"):
        (tmp_path / name).write_bytes(b"precious")
    save(index, tmp_path, PRINT, "3f")
    save(index, tmp_path, PRINT, "40")
    delete_files(tmp_path)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["0123-4567-89ab.faiss", "mine.faiss"]


def test_generations_are_read_from_the_names_of_files(index: FaissIndex, tmp_path: Path) -> None:
    assert list_generations(tmp_path, PRINT) == []
    save(index, tmp_path, PRINT, "3f")
    (tmp_path / "writing-abc.faiss").touch()
    (tmp_path / f"{PRINT}-odd.faiss").touch()
    assert list_generations(tmp_path, PRINT) == ["3f"]
    assert list_generations(tmp_path, "another") == []


def test_both_ends_of_a_large_file_are_checked(
    index: FaissIndex, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(faiss_file, "_HEAD", 300)
    monkeypatch.setattr(faiss_file, "_TAIL", 300)
    file = save(index, tmp_path, PRINT, NOW)
    whole = file.read_bytes()
    for place, sound in ((10, False), (1000, True), (-10, False)):
        data = bytearray(whole)
        data[place] ^= 1
        file.write_bytes(data)
        assert (load(tmp_path, PRINT, NOW) is not None) == sound
    file.write_bytes(whole[:-400] + whole[-300:])
    assert load(tmp_path, PRINT, NOW) is None


def test_a_full_disk_is_reported_in_the_systems_words(
    index: FaissIndex, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(index: object, name: str) -> None:
        raise RuntimeError("Error: 'ret == (size)' failed: write error in x: 1 != 2 (No space left on device)")

    monkeypatch.setattr("faiss.write_index", full)
    with pytest.raises(StoreError, match=r"-7\.faiss cannot be written \(No space left on device\): make room"):
        save(index, tmp_path, PRINT, NOW)
    assert list(tmp_path.iterdir()) == []


def test_windows_reads_and_writes_names_that_its_code_page_lacks(
    index: FaissIndex, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """FAISS must not see such a name: it gets the file's bytes."""
    names: list[object] = []
    read: Any = faiss.read_index
    write: Any = faiss.write_index

    def read_index(source: object) -> Any:
        names.append(source)
        return read(source)

    def write_index(written: faiss.Index, target: object) -> None:
        names.append(target)
        write(written, target)

    monkeypatch.setattr(faiss, "read_index", read_index)
    monkeypatch.setattr(faiss, "write_index", write_index)
    monkeypatch.setattr(faiss_file, "IS_WINDOWS", True)
    folder = tmp_path / "\u5199\u771f"
    folder.mkdir()
    save(index, folder, PRINT, NOW)
    for writable in (False, True):
        loaded = load(folder, PRINT, NOW, writable)
        assert loaded is not None
        assert len(loaded) == 20
    assert len(names) == 3
    assert not [name for name in names if isinstance(name, str)]


def test_an_index_that_another_process_has_mapped_is_deleted_later_on_windows(
    index: FaissIndex, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path, missing_ok: bool = False) -> None:
        raise PermissionError(13, "Access is denied")

    save(index, tmp_path, PRINT, NOW)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", refuse)
        save(index, tmp_path, PRINT, "8")
    assert set(list_generations(tmp_path, PRINT)) == {NOW, "8"}
    save(index, tmp_path, PRINT, "9")
    assert list_generations(tmp_path, PRINT) == ["9"]


def test_an_index_is_read_whole_if_faiss_cannot_map_it(
    index: FaissIndex, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = faiss.read_index

    def unmapped(name: str, flags: int = 0) -> faiss.Index:
        if flags:
            raise RuntimeError("Error in mapped_io.cpp: not implemented")
        return real(name)

    save(index, tmp_path, PRINT, NOW)
    monkeypatch.setattr(faiss, "read_index", unmapped)
    loaded = load(tmp_path, PRINT, NOW)
    assert loaded is not None
    assert len(loaded) == 20
