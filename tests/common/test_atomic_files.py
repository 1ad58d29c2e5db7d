"""Atomic writes, and the sentence for a file that cannot be written."""

import errno
from pathlib import Path

import pytest

from retrieval.common.atomic_files import explain_write_errors, write_atomically
from retrieval.common.errors import RetrievalError


def test_text_and_bytes_are_written_and_folders_made(tmp_path: Path) -> None:
    write_atomically(tmp_path / "a" / "b" / "text.json", "é\n")
    write_atomically(tmp_path / "a" / "bytes.png", b"\x89P")
    assert (tmp_path / "a" / "b" / "text.json").read_bytes() == b"\xc3\xa9\n"
    assert (tmp_path / "a" / "bytes.png").read_bytes() == b"\x89P"
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["a", "b", "bytes.png", "text.json"]


def test_a_full_disk_leaves_the_old_file_and_no_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "page.html"
    write_atomically(file, "old")
    write = Path.write_bytes

    def full(self: Path, data: bytes) -> int:
        write(self, data[:1])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(
        RetrievalError, match=r"page.html cannot be written \(No space left on device\): choose a place"
    ):
        write_atomically(file, "new")
    assert file.read_text() == "old"
    assert list(tmp_path.iterdir()) == [file]


def test_a_file_in_place_of_the_folder_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(RetrievalError, match="cannot be written"):
        write_atomically(tmp_path / "file" / "page.html", "new")


def test_an_error_without_strerror_is_described(tmp_path: Path) -> None:
    with pytest.raises(RetrievalError, match=r"\(odd\)"), explain_write_errors(tmp_path / "x"):
        raise OSError("odd")
