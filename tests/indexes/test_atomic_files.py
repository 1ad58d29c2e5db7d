"""Files that are written whole or not at all."""

import errno
import os
import stat
from pathlib import Path

import pytest

from indexes import atomic_files
from indexes.atomic_files import move_into_place, replace_file, temporary_file, write_file


def test_a_file_is_written_and_replaced(tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    for content in (b"old", b"new"):
        write_file(file, content)
        assert file.read_bytes() == content
    assert list(tmp_path.iterdir()) == [file]


def test_the_temporary_file_lies_beside_with_the_same_suffix(tmp_path: Path) -> None:
    with replace_file(tmp_path / "a.npz") as part:
        assert (part.parent, part.suffix, part.name.startswith(".")) == (tmp_path, ".npz", True)
        part.write_bytes(b"x")
        assert not (tmp_path / "a.npz").exists()
    assert [file.name for file in tmp_path.iterdir()] == ["a.npz"]


def test_the_longest_names_can_be_written(tmp_path: Path) -> None:
    for name in ("a" * 255, "a." + "b" * 253):
        write_file(tmp_path / name, b"x")
        assert (tmp_path / name).read_bytes() == b"x"


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_failing_disk_leaves_the_old_file_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    def fail(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    file = tmp_path / "a"
    write_file(file, b"old")
    monkeypatch.setattr(os, call, fail)
    with pytest.raises(OSError, match="No space left"):
        write_file(file, b"new")
    assert (file.read_bytes(), list(tmp_path.iterdir())) == (b"old", [file])


def test_an_error_of_the_block_leaves_the_old_file_alone(tmp_path: Path) -> None:
    file = tmp_path / "a"
    write_file(file, b"old")

    def interrupt() -> None:
        with replace_file(file) as part:
            part.write_bytes(b"half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupt()
    assert (file.read_bytes(), list(tmp_path.iterdir())) == (b"old", [file])


def test_the_content_is_synced_before_the_name_and_the_folder_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    fsync, replace = os.fsync, os.replace

    def record_fsync(descriptor: int) -> None:
        calls.append("folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file")
        fsync(descriptor)

    def record_replace(source: Path, target: Path) -> None:
        calls.append("name")
        replace(source, target)

    monkeypatch.setattr(os, "fsync", record_fsync)
    monkeypatch.setattr(os, "replace", record_replace)
    write_file(tmp_path / "a", b"x")
    assert calls == ["file", "name", "folder"]


def test_a_file_system_that_syncs_no_folders_is_accepted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fsync = os.fsync

    def refuse_folders(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "Invalid argument")
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", refuse_folders)
    write_file(tmp_path / "a", b"x")
    assert (tmp_path / "a").read_bytes() == b"x"


def test_files_have_the_usual_permissions(tmp_path: Path) -> None:
    write_file(tmp_path / "a", b"x")
    (tmp_path / "plain").write_bytes(b"x")
    assert (tmp_path / "a").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_a_temporary_file_may_be_moved_to_a_name_that_depends_on_its_content(tmp_path: Path) -> None:
    with temporary_file(tmp_path, prefix="writing-", suffix=".x") as part:
        part.write_bytes(b"abc")
        move_into_place(part, tmp_path / f"{part.stat().st_size}.x")
    assert [file.name for file in tmp_path.iterdir()] == ["3.x"]


def test_a_missing_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        write_file(tmp_path / "none" / "a", b"x")


@pytest.mark.parametrize("is_windows", [True, False])
def test_windows_has_time_to_close_a_file_that_is_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_windows: bool
) -> None:
    replace, refused = os.replace, [1, 2]

    def refuse_twice(source: Path, target: Path) -> None:
        if refused:
            refused.pop()
            raise PermissionError(errno.EACCES, "Access is denied")
        replace(source, target)

    write_file(tmp_path / "a", b"old")
    monkeypatch.setattr(os, "replace", refuse_twice)
    monkeypatch.setattr(atomic_files, "IS_WINDOWS", is_windows)
    if is_windows:
        write_file(tmp_path / "a", b"new")
    else:
        with pytest.raises(PermissionError):
            write_file(tmp_path / "a", b"new")
    assert (tmp_path / "a").read_bytes() == (b"new" if is_windows else b"old")
