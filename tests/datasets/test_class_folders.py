"""Class folders: each content once, every file that is left out with its reason, pixels of readable files."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from retrieval.common.errors import GalleryError
from retrieval.datasets.class_folders import find_samples, read_pixels
from retrieval.model.preprocessing import read_at_size
from retrieval.sources.local import walk
from tests.support.generated import make_set, picture
from tests.support.progress import RecordedProgress
from tests.support.unprivileged import require_binding_permissions, run_unprivileged


def save(path: Path, seed: int, side: int = 40) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture(seed, side=side)).save(path)
    return path


def test_labels_are_the_folders_that_hold_the_pictures(tmp_path: Path) -> None:
    for number, name in enumerate(("b/1.png", "a/1.png", "a/deep/1.png", "b/2.png")):
        save(tmp_path / name, number)
    progress = RecordedProgress()
    dataset = find_samples(tmp_path, progress)
    assert [(sample.path.relative_to(tmp_path).as_posix(), sample.label) for sample in dataset.samples] == [
        ("a/1.png", "a"),
        ("a/deep/1.png", "deep"),
        ("b/1.png", "b"),
        ("b/2.png", "b"),
    ]
    assert dataset.classes == ["a", "b", "deep"]
    assert dataset.codes.tolist() == [0, 2, 1, 1]
    assert dataset.left_out == ()
    assert progress.totals == [(f"Reading {tmp_path.name}", 4)]
    assert progress.stages[0].advances == [1] * 4 == [1] * len(list(walk(os.fsencode(tmp_path))))


def test_equal_contents_in_one_class_count_once(tmp_path: Path) -> None:
    first = save(tmp_path / "a" / "1.png", 1)
    shutil.copy(first, tmp_path / "a" / "2.png")
    shutil.copy(first, tmp_path / "a" / "3.png")
    dataset = find_samples(tmp_path)
    assert [sample.path.name for sample in dataset.samples] == ["1.png"]
    assert [(path.name, reason) for path, reason in dataset.left_out] == [
        ("2.png", "has the same content as a/1.png"),
        ("3.png", "has the same content as a/1.png"),
    ]


def test_a_content_in_two_classes_is_left_out_of_both(tmp_path: Path) -> None:
    first = save(tmp_path / "a" / "1.png", 1)
    shutil.copy(first, tmp_path / "a" / "2.png")
    shutil.copy(save(tmp_path / "b" / "1.png", 2), tmp_path / "b" / "3.png")
    shutil.copy(first, tmp_path / "b" / "2.png")
    dataset = find_samples(tmp_path)
    assert [(sample.label, sample.path.name) for sample in dataset.samples] == [("b", "1.png")]
    left_out = {path.relative_to(tmp_path).as_posix(): reason for path, reason in dataset.left_out}
    assert left_out == {
        "a/1.png": "is in two classes: a and b, as b/2.png",
        "a/2.png": "is in two classes: a and b, as b/2.png",
        "b/2.png": "is in two classes: a and b, as a/1.png",
        "b/3.png": "has the same content as b/1.png",
    }


def test_files_outside_class_folders_are_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(tmp_path / "a" / "1.png", 1)
    save(tmp_path / "loose.png", 2)
    (tmp_path / "notes.txt").write_text("no picture by its name")
    monkeypatch.chdir(tmp_path)
    for folder in (tmp_path, Path(), tmp_path / "a" / ".."):
        dataset = find_samples(folder)
        assert [sample.label for sample in dataset.samples] == ["a"]
        assert [(path.name, reason) for path, reason in dataset.left_out] == [("loose.png", "lies in no class folder")]


def test_names_of_other_scripts_and_of_bytes_that_are_no_text(tmp_path: Path) -> None:
    for number, name in enumerate((b"\xff\xfe", "花".encode(), "Ωμέγα".encode(), b"[red]", b"two\nlines")):
        save(Path(os.fsdecode(os.path.join(os.fsencode(tmp_path), name, b"caf\xe9 \xff.png"))), number)
    dataset = find_samples(tmp_path)
    assert dataset.classes == sorted(["\ufffd\ufffd", "花", "Ωμέγα", "[red]", "two\nlines"])
    assert read_pixels(dataset, 8, tmp_path / "out.npy")[1].shape == (5, 8, 8, 3)


def test_a_folder_without_pictures(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    with pytest.raises(GalleryError, match=r"\(a holds no picture that can be used\): give a folder"):
        find_samples(tmp_path)
    save(tmp_path / "loose.png", 1)
    with pytest.raises(GalleryError, match="holds no picture in a class folder"):
        find_samples(tmp_path)
    save(tmp_path / "b" / "1.png", 2)
    dataset = find_samples(tmp_path)
    assert dataset.classes == ["b"]
    assert (tmp_path / "a", "holds no picture that can be used") in dataset.left_out


@pytest.mark.parametrize("name", ["gone", "file.png"])
def test_what_is_no_folder(name: str, tmp_path: Path) -> None:
    save(tmp_path / "file.png", 1)
    with pytest.raises(GalleryError, match=f"{name} is not a folder: give a folder of class folders"):
        find_samples(tmp_path / name)


@pytest.mark.process
@pytest.mark.slow
def test_a_file_that_cannot_be_opened_is_reported(tmp_path: Path) -> None:
    require_binding_permissions(tmp_path)
    save(tmp_path / "a" / "1.png", 1)
    save(tmp_path / "a" / "2.png", 2).chmod(0)
    code = """
import sys
from pathlib import Path
from retrieval.datasets.class_folders import find_samples
for path, reason in find_samples(Path(sys.argv[1])).left_out:
    print(path.name, reason)
"""
    done = run_unprivileged(code, tmp_path)
    assert done.stdout == "2.png cannot be read: Permission denied\n", done.stderr


def test_pixels_are_what_the_network_sees_in_the_order_of_the_samples(tmp_path: Path) -> None:
    dataset = find_samples(make_set(tmp_path / "set", 3, 2))
    progress = RecordedProgress()
    readable, pixels = read_pixels(dataset, 32, tmp_path / "pixels.npy", progress)
    assert readable == dataset
    assert pixels.dtype == np.uint8
    assert pixels.shape == (6, 32, 32, 3)
    for sample, row in zip(readable.samples, pixels, strict=True):
        np.testing.assert_array_equal(row, read_at_size(sample.path, 32)[0])
    assert progress.totals == [("Decoding", 6)]
    assert progress.stages[0].advances == [1] * 6
    assert sorted(path.name for path in tmp_path.iterdir()) == ["pixels.npy", "set"]


def test_broken_and_empty_files_are_dropped_with_their_reason_and_rows_still_match(tmp_path: Path) -> None:
    folder = make_set(tmp_path / "set", 2, 3)
    (folder / "c0" / "00.png").write_text("no picture")
    (folder / "c0" / "02.png").write_bytes(b"")
    whole = (folder / "c1" / "01.png").read_bytes()
    (folder / "c1" / "01.png").write_bytes(whole[: len(whole) // 2])
    dataset = find_samples(folder)
    assert len(dataset.samples) == 6  # contents differ: what they hold is seen on decoding only
    readable, pixels = read_pixels(dataset, 16, tmp_path / "pixels.npy")
    assert [sample.path.relative_to(folder).as_posix() for sample in readable.samples] == [
        "c0/01.png",
        "c1/00.png",
        "c1/02.png",
    ]
    for sample, row in zip(readable.samples, pixels, strict=True):
        np.testing.assert_array_equal(row, read_at_size(sample.path, 16)[0])
    reasons = {path.relative_to(folder).as_posix(): reason for path, reason in readable.left_out}
    assert set(reasons) == {"c0/00.png", "c0/02.png", "c1/01.png"}
    assert reasons["c0/00.png"] == "is not a picture in a known format"
    assert reasons["c0/02.png"] == "is empty"
    assert reasons["c1/01.png"].startswith("is damaged or not a picture: ")
    assert readable.codes.tolist() == [0, 1, 1]


def test_what_is_not_named_like_a_picture_is_counted_in_words(tmp_path: Path) -> None:
    for number, name in enumerate(("a/1.png", "b/2.png", "b/.hidden.png")):
        save(tmp_path / name, number)
    for name in ("a/3.cr2", "split.json"):
        (tmp_path / name).touch()
    progress = RecordedProgress()
    assert len(find_samples(tmp_path, progress).samples) == 2
    assert progress.messages == [
        f"{tmp_path}: passed over, by the endings of their names: 1 .cr2",
        f"{tmp_path}: left out: hidden names: 1",
    ]


def test_folders_named_like_parts_are_a_split(tmp_path: Path) -> None:
    for number, name in enumerate(("Train/a/1.png", "Train/b/2.png", "test/a/3.png", "val/b/4.png", "test/b/5.png")):
        save(tmp_path / name, number)
    shutil.copy(tmp_path / "Train/a/1.png", tmp_path / "test/a/leak.png")
    progress = RecordedProgress()
    dataset = find_samples(tmp_path, progress)
    assert [sample.path.relative_to(tmp_path).as_posix() for sample in dataset.samples] == [
        "Train/a/1.png",
        "Train/b/2.png",
        "test/a/3.png",
        "test/b/5.png",
        "val/b/4.png",
    ]
    assert dataset.classes == ["a", "b"]
    parts = [dataset.folder_parts[each.hash] for each in dataset.samples]
    assert parts == ["train", "train", "test", "test", "validation"]
    assert dataset.left_out == (
        (tmp_path / "test/a/leak.png", "is in two parts of the data set, with the same content as Train/a/1.png"),
    )
    assert progress.messages == [f"{tmp_path} is split by its folders: 2 train, 1 validation, 2 test pictures"]


@pytest.mark.parametrize(
    "names",
    [("train/1.png", "test/2.png"), ("train/a/1.png", "bus/b/2.png"), ("train/a/1.png", "training/b/2.png")],
    ids=["classes of that name", "another class", "one part"],
)
def test_other_folders_are_no_split(names: tuple[str, str], tmp_path: Path) -> None:
    for number, name in enumerate(names):
        save(tmp_path / name, number)
    assert find_samples(tmp_path).folder_parts == {}
