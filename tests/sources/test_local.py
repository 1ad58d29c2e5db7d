"""The walk of a local folder: its order, links that it follows, names that it leaves out, unreadable entries."""

import os
import shutil
import sys
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrieval.sources.entries import OWN_NAMES, PictureFile, Unreadable, storable_time
from retrieval.sources.local import walk
from tests.support.unprivileged import require_binding_permissions, run_unprivileged


def touch(folder: Path, *names: bytes) -> None:
    """Make empty files, and the folders above them."""
    for name in names:
        path = Path(os.fsdecode(os.path.join(os.fsencode(folder), name)))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def walked(folder: Path) -> list[bytes]:
    """Return the relative paths of what a walk yields."""
    start = os.fsencode(folder)
    return [os.path.relpath(entry.path, start) for entry in walk(start)]


def test_paths_are_sorted_by_their_bytes(tmp_path: Path) -> None:
    names = [b"a.jpg", b"a/1.jpg", b"a/b.jpg", b"a/b/1.jpg", b"a0.jpg"]
    names += [b"a b/1.jpg", b"a b.jpg", b"a-/1.jpg", b"B.jpg", b"\xff.jpg"]
    touch(tmp_path, *names)
    assert walked(tmp_path) == sorted(names)
    # ' ' 0x20 < '-' 0x2d < '.' 0x2e < '/' 0x2f < '0' 0x30
    assert walked(tmp_path)[1:5] == [b"a b.jpg", b"a b/1.jpg", b"a-/1.jpg", b"a.jpg"]
    assert walked(tmp_path)[5:] == [b"a/1.jpg", b"a/b.jpg", b"a/b/1.jpg", b"a0.jpg", b"\xff.jpg"]


def test_a_linked_folder_sorts_as_a_folder(tmp_path: Path) -> None:
    touch(tmp_path, b"g/a.jpg", b"g/a0.jpg", b"other/1.jpg")
    (tmp_path / "g" / "a").symlink_to(tmp_path / "other")
    assert walked(tmp_path / "g") == [b"a.jpg", b"a/1.jpg", b"a0.jpg"]


def test_a_file_comes_with_size_and_time(tmp_path: Path) -> None:
    file = tmp_path / "a.jpg"
    file.write_bytes(b"12345")
    os.utime(file, ns=(1, 1_600_000_000_123_456_789))
    changed = file.stat().st_ctime_ns
    expected = PictureFile(os.fsencode(file), 5, 1_600_000_000_123_456_789, ctime=changed)
    assert list(walk(os.fsencode(tmp_path))) == [expected]


def test_only_files_named_like_pictures_are_found(tmp_path: Path) -> None:
    touch(tmp_path, b"a.JPG", b"b.JpEg", b"c.txt", b"d", b"jpg", b"e.jpg.bak", b"f.heic", b"g.jpg ", b"h.tar.png")
    assert walked(tmp_path) == [b"a.JPG", b"b.JpEg", b"f.heic", b"h.tar.png"]


def test_hidden_names_are_left_out(tmp_path: Path) -> None:
    touch(tmp_path, b".hidden.jpg", b"._a.jpg", b".retrieve/1.jpg", b".jpg", b"a/.b/1.jpg", b"a/1.jpg")
    assert walked(tmp_path) == [b"a/1.jpg"]


def test_a_hidden_gallery_itself_is_walked(tmp_path: Path) -> None:
    touch(tmp_path, b".pictures/1.jpg")
    assert walked(tmp_path / ".pictures") == [b"1.jpg"]


def test_folders_may_lie_deeper_than_the_stack(tmp_path: Path) -> None:
    depth = sys.getrecursionlimit() + 100
    deepest = os.fsencode(tmp_path)
    for _ in range(depth):
        deepest += b"/d"
        os.mkdir(deepest)
    open(deepest + b"/1.jpg", "w").close()
    touch(tmp_path, b"d/2.jpg", b"z.jpg")
    assert walked(tmp_path) == [b"d/2.jpg", b"d/" * depth + b"1.jpg", b"z.jpg"]
    for _ in range(depth):  # pytest's own clean-up recurses
        below = tmp_path / "d" / "d"
        if below.exists():
            below.rename(tmp_path / "e")
            shutil.rmtree(tmp_path / "d")
            (tmp_path / "e").rename(tmp_path / "d")


def test_an_empty_folder_has_nothing(tmp_path: Path) -> None:
    assert walked(tmp_path) == []


def test_loops_of_linked_folders_end(tmp_path: Path) -> None:
    touch(tmp_path, b"a/1.jpg", b"b/2.jpg")
    (tmp_path / "a" / "up").symlink_to(tmp_path)
    (tmp_path / "b" / "self").symlink_to(tmp_path / "b")
    assert walked(tmp_path) == [b"a/1.jpg", b"b/2.jpg"]


def test_a_folder_with_two_names_is_entered_once(tmp_path: Path) -> None:
    touch(tmp_path, b"real/1.jpg")
    (tmp_path / "link").symlink_to("real")
    assert walked(tmp_path) == [b"link/1.jpg"]


def test_a_linked_file_is_found_under_both_names(tmp_path: Path) -> None:
    touch(tmp_path, b"real.jpg")
    (tmp_path / "link.jpg").symlink_to("real.jpg")
    assert walked(tmp_path) == [b"link.jpg", b"real.jpg"]


def test_a_dangling_link_is_unreadable(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").symlink_to("nothing")
    (tmp_path / "a.txt").symlink_to("nothing")
    assert list(walk(os.fsencode(tmp_path))) == [Unreadable(os.fsencode(tmp_path / "a.jpg"), "is a link to nothing")]


def test_a_link_to_itself_is_unreadable(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").symlink_to("b.jpg")
    (tmp_path / "b.jpg").symlink_to("a.jpg")
    reason = "cannot be read: Too many levels of symbolic links"
    assert list(walk(os.fsencode(tmp_path))) == [
        Unreadable(os.fsencode(tmp_path / name), reason) for name in ("a.jpg", "b.jpg")
    ]


def test_a_fifo_is_unreadable_and_not_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "x.jpg")
    assert list(walk(os.fsencode(tmp_path))) == [Unreadable(os.fsencode(tmp_path / "x.jpg"), "is not a regular file")]


def test_a_folder_named_like_a_picture_is_entered(tmp_path: Path) -> None:
    touch(tmp_path, b"x.jpg/1.jpg", b"x.jpg/note.txt")
    assert walked(tmp_path) == [b"x.jpg/1.jpg"]


@pytest.mark.parametrize("name", [b"new\nline.jpg", b"\xff\xfe.jpg", "猫🐈.jpg".encode(), b"-rf.jpg", b"$(x)'\".jpg"])
def test_names_of_any_bytes_are_kept(tmp_path: Path, name: bytes) -> None:
    touch(tmp_path, name, b"sub/" + name)
    assert walked(tmp_path) == sorted([name, b"sub/" + name])


def test_a_folder_that_does_not_exist_is_unreadable(tmp_path: Path) -> None:
    folder = os.fsencode(tmp_path / "nothing")
    assert list(walk(folder)) == [Unreadable(folder, "cannot be read: No such file or directory", is_folder=True)]


def test_a_closed_folder_is_unreadable_and_the_rest_is_walked(tmp_path: Path) -> None:
    require_binding_permissions(tmp_path)
    gallery = tmp_path / "g"
    touch(gallery, b"a.jpg", b"closed/1.jpg", b"z.jpg")
    (gallery / "closed").chmod(0)
    code = (
        "import os, sys\nfrom retrieval.sources.local import walk\n"
        "for entry in walk(os.fsencode(sys.argv[1])): print(entry)"
    )
    done = run_unprivileged(code, gallery)
    (gallery / "closed").chmod(0o700)
    first, closed, last = done.stdout.splitlines()
    assert closed == str(
        Unreadable(os.fsencode(gallery / "closed"), "cannot be read: Permission denied", is_folder=True)
    )
    assert (first.split(",")[0], last.split(",")[0]) == (
        f"PictureFile(path={os.fsencode(gallery / 'a.jpg')!r}",
        f"PictureFile(path={os.fsencode(gallery / 'z.jpg')!r}",
    )


def test_other_files_are_counted_and_outputs_of_queries_are_left_out(tmp_path: Path) -> None:
    names = ("a.jpg", "b.CR2", "c.cr2", "d.mov", "e", ".hidden.mov", "contact-sheet.png", "hit-01-query-factual.jpg")
    for name in (*names, "a-factual.jpg", "hit-1.jpg"):
        (tmp_path / name).write_bytes(b"x")
    passed_over: Counter[str] = Counter()
    pictures = [os.path.basename(entry.path) for entry in walk(os.fsencode(tmp_path), passed_over)]
    assert pictures == [b"a.jpg", b"hit-1.jpg"]
    assert passed_over == {".cr2": 2, ".mov": 1, "": 1, OWN_NAMES: 3}


def test_folders_that_a_network_disk_keeps_for_itself_are_passed_over(tmp_path: Path) -> None:
    touch(tmp_path, b"a.jpg", b"@eaDir/a.jpg/THUMB_S.jpg", b"b/#recycle/1.jpg", b"b/$RECYCLE.BIN/1.jpg")
    touch(tmp_path, b"b/recycle/1.jpg")
    passed_over = Counter[str]()
    assert [os.path.basename(entry.path) for entry in walk(os.fsencode(tmp_path), passed_over)] == [b"a.jpg", b"1.jpg"]
    assert passed_over == {"@eaDir/": 1, "#recycle/": 1, "$RECYCLE.BIN/": 1}
    assert len(list(walk(os.fsencode(tmp_path / "@eaDir")))) == 1  # unless it is the gallery


@given(st.integers(-(2**70), 2**70))
def test_a_time_that_no_catalogue_can_keep_is_the_nearest_that_it_can(nanoseconds: int) -> None:
    stored = storable_time(nanoseconds)
    assert -(2**63) < stored < 2**63
    assert stored == nanoseconds or (abs(nanoseconds) >= 2**63 and stored * nanoseconds > 0)


@pytest.mark.parametrize("name", [b"contact-sheet.png", b"curves.png", b"a-factual.jpg", b"hit-01-query-factual.jpg"])
def test_a_picture_that_is_only_named_like_an_output_is_found(tmp_path: Path, name: bytes) -> None:
    touch(tmp_path, name, b"other.jpg")
    assert walked(tmp_path) == sorted([name, b"other.jpg"])
    touch(tmp_path, b"model.json" if name == b"curves.png" else b"b-factual.jpg")
    assert walked(tmp_path) == [b"other.jpg"]
