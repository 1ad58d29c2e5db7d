"""Splits: the parts' shares of each class, and near duplicates in one part only."""

import io
import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from retrieval.common.errors import ModelError
from retrieval.datasets.class_folders import DataSet, Sample, find_samples
from retrieval.datasets.near_duplicates import near_duplicates
from retrieval.datasets.split import TEST, TRAIN, VALIDATION, Split, assign_parts, read_split, record_split
from retrieval.model.preprocessing import Pixels, to_pixels
from tests.support.generated import make_set, picture


def dataset(*sizes: int, prefix: str = "") -> DataSet:
    """Make classes of so many pictures, with different contents; `prefix` changes the files' names."""
    samples = [
        Sample(Path(f"{prefix}{number}.png"), f"class {code}", f"{code}-{number}")
        for code, size in enumerate(sizes)
        for number in range(size)
    ]
    return DataSet(Path("set"), tuple(samples), ())


def apart(data: DataSet, seed: int = 0) -> dict[int, list[int]]:
    """Count the pictures of each class that are trained on, validated with, and tested."""
    parts = assign_parts(data, np.arange(len(data.samples)), seed)
    return {code: [int(np.sum(parts[data.codes == code] == part)) for part in range(3)] for code in set(data.codes)}


def test_shares_of_each_class() -> None:
    # A fifth to test, a tenth of the rest to validate: of 100, 20 and 8; of 50, 10 and 4; of 10, 2 and 1 (0.8).
    assert apart(dataset(100, 50, 10)) == {0: [72, 8, 20], 1: [36, 4, 10], 2: [7, 1, 2]}


def test_of_a_class_too_small_for_shares_all_is_trained_on() -> None:
    # round(3 * 0.2) is 1, round(2 * 0.2) is 0
    assert apart(dataset(1, 2, 3, 4)) == {0: [1, 0, 0], 1: [2, 0, 0], 2: [2, 0, 1], 3: [3, 0, 1]}


def test_the_seed_decides_and_names_do_not() -> None:
    one, renamed = dataset(40, 40), dataset(40, 40, prefix="other ")
    backwards = DataSet(one.folder, one.samples[::-1], ())
    groups = np.arange(80)
    np.testing.assert_array_equal(assign_parts(one, groups, 3), assign_parts(renamed, groups, 3))
    np.testing.assert_array_equal(assign_parts(one, groups, 3), assign_parts(backwards, groups, 3)[::-1])
    assert not np.array_equal(assign_parts(one, groups, 3), assign_parts(one, groups, 4))


def test_a_group_is_never_divided() -> None:
    data = dataset(60, 60)
    groups = np.arange(120) // 4 * 4  # fours of one class each
    groups[[59, 61]] = 56, 56  # but for one with a picture of both
    parts = assign_parts(data, groups, 0)
    for group in set(groups.tolist()):
        assert len(set(parts[groups == group])) == 1
    assert Counter(parts.tolist())[TEST] == pytest.approx(24, abs=4)
    assert Counter(parts.tolist())[VALIDATION] > 0


def test_a_group_larger_than_a_part_is_trained_on() -> None:
    groups = np.zeros(10, np.int64)
    assert assign_parts(dataset(10), groups, 0).tolist() == [TRAIN] * 10


def resaved(pixels: Pixels, side: int, quality: int) -> Pixels:
    """Resize a picture and save it as a JPEG, as a person does; return it decoded."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).resize((side, side), Image.Resampling.BICUBIC).save(buffer, "JPEG", quality=quality)
    return to_pixels(Image.open(buffer).convert("RGB"), 96)


def test_near_duplicates_are_grouped_and_others_are_not() -> None:
    seeds = range(12)
    originals = [picture(seed, seed % 6) for seed in seeds]
    again = [resaved(pixels, 90, 85) for pixels in originals[:4]] + [
        resaved(pixels, 110, 60) for pixels in originals[:2]
    ]
    groups = near_duplicates(np.stack([*originals, *again]))
    assert groups.tolist() == [*seeds, 0, 1, 2, 3, 0, 1]


def test_a_group_is_named_by_its_first_picture() -> None:
    one, other = picture(1, 1), picture(2, 2)
    pictures = [other, one, resaved(one, 90, 85), resaved(other, 90, 85), resaved(one, 110, 60)]
    assert near_duplicates(np.stack(pictures)).tolist() == [0, 1, 1, 0, 1]


def test_drawings_on_plain_paper_are_not_near_duplicates() -> None:
    # Most cells are as bright as their neighbours, so that the hashes of any two differ in few bits.
    drawings = np.full((40, 96, 96, 3), 255, np.uint8)
    for number, (top, left) in enumerate(np.random.default_rng(0).permutation(80)[:80].reshape(40, 2)):
        drawings[number, top : top + 16, left : left + 16] = 0
    assert near_duplicates(drawings).tolist() == list(range(40))


def test_near_duplicates_of_two_classes_come_to_one_part(tmp_path: Path) -> None:
    folder = make_set(tmp_path / "set", 2, 20)
    for number in range(10):
        copy = Image.fromarray(picture(number, 0, 64))
        copy.resize((60, 60), Image.Resampling.BICUBIC).save(folder / "c1" / f"again {number}.jpg", quality=80)
    data = find_samples(folder)
    pixels = np.stack([to_pixels(Image.open(sample.path).convert("RGB"), 64) for sample in data.samples])
    parts = assign_parts(data, near_duplicates(pixels), 1)
    part_of = {sample.path.name: part for sample, part in zip(data.samples, parts, strict=True) if sample.label == "c0"}
    for sample, part in zip(data.samples, parts, strict=True):
        if sample.path.name.startswith("again"):
            original = f"{int(sample.path.stem.split()[1]):02}.png"
            assert part == part_of[original]
    assert set(parts) == {TRAIN, VALIDATION, TEST}


def test_a_split_comes_back_as_it_was_written(tmp_path: Path) -> None:
    data = dataset(10, 10)
    parts = assign_parts(data, np.arange(20), 5)
    written = record_split(data, parts, 5)
    written.write(tmp_path)
    read = read_split(tmp_path)
    assert read == written
    assert read is not None
    np.testing.assert_array_equal(read.parts_of(data), parts)
    learnt = {sample.hash for sample, part in zip(data.samples, parts, strict=True) if part != TEST}
    assert read.learnt == learnt
    assert len(learnt) == 16


def test_contents_that_a_split_does_not_name_are_trained_on() -> None:
    given = Split("set", 0, {"train": (), "validation": ("0-1",), "test": ("0-0", "gone")})
    assert given.parts_of(dataset(4)).tolist() == [TEST, VALIDATION, TRAIN, TRAIN]


def test_a_folder_without_a_split_has_none(tmp_path: Path) -> None:
    assert read_split(tmp_path) is None


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"dataset": "x", "seed": 0, "parts": {"train": []}}', "\x00\xff"])
def test_a_damaged_split_is_one_sentence(text: str, tmp_path: Path) -> None:
    (tmp_path / "split.json").write_text(text, "latin-1")
    with pytest.raises(ModelError, match=r"split.json is not the split of a data set \(.*\): remove it"):
        read_split(tmp_path)


def test_the_file_is_json_of_contents(tmp_path: Path) -> None:
    Split("flowers", 7, {"train": ("aa",), "validation": ("bb",), "test": ("cc",)}).write(tmp_path)
    assert json.loads((tmp_path / "split.json").read_text()) == {
        "dataset": "flowers",
        "seed": 7,
        "parts": {"train": ["aa"], "validation": ["bb"], "test": ["cc"]},
    }
