"""Cropped copies of data sets: which files are cropped, which are copied unchanged, and the split."""

import json
import os
import shutil
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from retrieval.common.errors import RetrievalError
from retrieval.common.progress import Progress, Total, WorkStage
from retrieval.common.settings import ExplainOptions, MethodName
from retrieval.datasets.class_folders import PART_NAMES, DataSet, find_samples
from retrieval.datasets.crop import CropReport, check_new_folder, crop_dataset, draw_partners
from retrieval.datasets.crop_files import CropRules, UncroppedReason
from retrieval.datasets.split import Split, read_split
from retrieval.explain.pair_explainer import PairExplainer
from retrieval.model.bundle import Bundle
from retrieval.model.encoder import Encoder
from retrieval.model.preprocessing import read_image
from tests.support.command import answer, retrieve_here, sentence
from tests.support.generated import CLASSES, PICTURES_A_CLASS, blocks
from tests.support.odd_files import GOOD, JPEG, truncated
from tests.support.progress import RecordedProgress

ALL = CropRules(similarity=0.0, threshold=0.6, margin=0.0)
"""Crops every picture that has a partner, to a small box."""


@pytest.fixture
def encoder(tiny_bundle: Bundle) -> Encoder:
    return Encoder(tiny_bundle, "cpu")


@pytest.fixture
def trained(tiny_bundle: Bundle, small_gallery: Path, tmp_path: Path) -> Bundle:
    """Return the bundle with a split: of each class two to train on, one to validate, one to test."""
    folder = tmp_path / "trained"
    shutil.copytree(tiny_bundle.folder, folder)
    samples = find_samples(small_gallery).samples
    order = ("train", "train", "validation", "test")
    parts = {name: tuple(s.hash for s in samples if order[int(s.path.stem)] == name) for name in PART_NAMES}
    Split("elsewhere", 3, parts).write(folder)
    return replace(tiny_bundle, folder=folder)


def contents(folder: Path) -> dict[str, bytes]:
    return {os.fspath(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def crop(folder: Path, out: Path, encoder: Encoder, rules: CropRules = ALL) -> CropReport:
    return crop_dataset(find_samples(folder), out, encoder, rules)


@pytest.mark.slow
def test_pictures_are_replaced_by_their_boxes(small_gallery: Path, tmp_path: Path, encoder: Encoder) -> None:
    report = crop(small_gallery, tmp_path / "out", encoder)
    assert len(report.crops) == report.picture_count == len(CLASSES) * PICTURES_A_CLASS
    assert contents(tmp_path / "out").keys() == contents(small_gallery).keys()
    for each in report.crops:
        left, top, right, bottom = each.box
        with Image.open(tmp_path / "out" / each.written) as image:
            assert image.size == (right - left, bottom - top) != each.size
            assert np.array_equal(np.asarray(image), np.asarray(read_image(each.source)[0].crop(each.box)))
        assert each.partner.parent == each.source.parent
        assert each.partner != each.source
        assert each.heatmap.max() == 1
        assert 0 < each.share < 1
    assert report.median_share == np.median([each.share for each in report.crops])


@pytest.mark.slow
def test_boxes_come_from_what_makes_the_pair_similar(small_gallery: Path, tmp_path: Path, encoder: Encoder) -> None:
    """The heatmap is that of `explain --method gradcam`, the paper's, but for its scale."""
    for each in crop(small_gallery, tmp_path / "out", encoder).crops[:3]:
        why = PairExplainer(encoder, encoder.bundle.head).explain(
            each.source, each.partner, ExplainOptions(MethodName.gradcam)
        )
        shown = why.query.factual if why.verdict == "similar" else why.query.counterfactual
        assert each.similarity == pytest.approx(why.similarity, abs=1e-6)
        assert np.allclose(shown / shown.max(), each.heatmap, atol=1e-3)


@pytest.mark.slow
def test_only_similar_pairs_are_cropped(small_gallery: Path, tmp_path: Path, encoder: Encoder) -> None:
    similarities = sorted(each.similarity for each in crop(small_gallery, tmp_path / "all", encoder).crops)
    limit = similarities[5]
    report = crop(small_gallery, tmp_path / "some", encoder, replace(ALL, similarity=limit))
    assert sorted(each.similarity for each in report.crops) == similarities[6:]
    assert report.uncropped == {why: 6 if why == UncroppedReason.below_similarity else 0 for why in UncroppedReason}
    cropped, before = contents(tmp_path / "some"), contents(small_gallery)
    written = {os.fspath(each.written) for each in report.crops}
    assert {name for name in before if cropped[name] != before[name]} == written


@pytest.mark.slow
def test_the_seed_decides_the_partners(small_gallery: Path, tmp_path: Path, encoder: Encoder) -> None:
    for name, seed in (("a", 0), ("b", 0), ("c", None), ("d", 1)):
        crop(small_gallery, tmp_path / name, encoder, replace(ALL, seed=seed))
    first, again, default, other = (contents(tmp_path / name) for name in "abcd")
    assert first == again == default
    assert first != other


def test_partners_are_others_of_the_class() -> None:
    codes = np.array([0, 1, 0, 2, 1, 0, 3, 1])
    drawn = np.stack([draw_partners(codes, seed) for seed in range(50)])
    assert np.all(drawn[:, [3, 6]] == -1)
    together = [0, 1, 2, 4, 5, 7]
    assert np.all(codes[drawn[:, together]] == codes[together])
    assert np.all(drawn[:, together] != together)
    assert set(drawn[:, 0]) == {2, 5}
    assert np.array_equal(draw_partners(codes, 7), draw_partners(codes, 7))


@pytest.mark.slow
def test_the_split_is_copied(trained: Bundle, small_gallery: Path, tmp_path: Path) -> None:
    Image.fromarray(blocks(999)).save(small_gallery / CLASSES[0] / "new.png")
    report = crop(small_gallery, tmp_path / "out", Encoder(trained, "cpu"))
    assert {each.source.stem for each in report.crops} == {"0", "1"}
    assert all(each.partner.stem in "01" for each in report.crops)
    held = 2 * len(CLASSES)
    assert (
        len(report.crops),
        report.uncropped[UncroppedReason.held_out],
        report.uncropped[UncroppedReason.unknown],
    ) == (held, held, 1)
    assert (report.has_split, report.rules.seed) == (True, 3)
    split = read_split(tmp_path / "out")
    assert split is not None
    assert (split.dataset, split.seed) == (str((tmp_path / "out").resolve()), 3)
    parts = {
        sample.path.stem: name
        for sample in find_samples(tmp_path / "out").samples
        for name in PART_NAMES
        if sample.hash in split.parts[name]
    }
    assert parts == {"0": "train", "1": "train", "2": "validation", "3": "test"}
    assert [len(split.parts[name]) for name in PART_NAMES] == [6 + 6, 3, 3]  # crops, and what they were cut from
    given = read_split(trained.folder)
    assert given is not None
    assert given.learnt < split.learnt
    before, after = contents(small_gallery), contents(tmp_path / "out")
    assert all(before[name] == after[name] for name in before if Path(name).stem in ("2", "3", "new"))


@pytest.mark.slow
def test_without_a_split_none_is_written(small_gallery: Path, tmp_path: Path, encoder: Encoder) -> None:
    assert not crop(small_gallery, tmp_path / "out", encoder).has_split
    assert not (tmp_path / "out" / "split.json").exists()


def test_another_data_set_than_the_model_s_is_refused(trained: Bundle, tmp_path: Path) -> None:
    (tmp_path / "other" / "a").mkdir(parents=True)
    Image.fromarray(blocks(5)).save(tmp_path / "other" / "a" / "a.png")
    with pytest.raises(RetrievalError, match=r"holds no picture that the model knows .* elsewhere"):
        crop(tmp_path / "other", tmp_path / "out", Encoder(trained, "cpu"))
    assert not (tmp_path / "out").exists()


def test_a_class_of_one_is_kept_whole(tmp_path: Path, encoder: Encoder) -> None:
    for label, count in (("many", 2), ("one", 1)):
        (tmp_path / "set" / label).mkdir(parents=True)
        for place in range(count):
            Image.fromarray(blocks(10 * count + place)).save(tmp_path / "set" / label / f"{place}.png")
    report = crop(tmp_path / "set", tmp_path / "out", encoder)
    assert (len(report.crops), report.uncropped[UncroppedReason.alone]) == (2, 1)
    assert (tmp_path / "out" / "one" / "0.png").read_bytes() == (tmp_path / "set" / "one" / "0.png").read_bytes()


def test_pictures_that_look_the_same_have_no_focus(tmp_path: Path, encoder: Encoder) -> None:
    (tmp_path / "set" / "a").mkdir(parents=True)
    for ending in ("png", "bmp"):
        Image.fromarray(blocks(1)).save(tmp_path / "set" / "a" / f"same.{ending}")
    report = crop(tmp_path / "set", tmp_path / "out", encoder)
    assert (report.crops, report.uncropped[UncroppedReason.no_focus], report.median_share) == ((), 2, None)
    assert contents(tmp_path / "out") == contents(tmp_path / "set")


@pytest.mark.slow
def test_a_focus_that_is_everything_leaves_the_file(small_gallery: Path, tmp_path: Path, encoder: Encoder) -> None:
    report = crop(small_gallery, tmp_path / "out", encoder, replace(ALL, margin=9))
    assert report.uncropped[UncroppedReason.no_focus] == report.picture_count
    assert contents(tmp_path / "out") == contents(small_gallery)


@pytest.mark.slow
def test_odd_files_keep_their_names_or_become_png(tmp_path: Path, encoder: Encoder) -> None:
    folder = tmp_path / "set"
    (folder / "class \udcff").mkdir(parents=True)
    for seed, (name, make) in enumerate(GOOD.items()):
        if b"/" not in name:
            (folder / "class \udcff" / os.fsdecode(name)).write_bytes(make(blocks(seed)))
    report = crop(folder, tmp_path / "out", encoder)
    written = {each.source.name: each.written.name for each in report.crops}
    assert len(written) > 25
    assert report.picture_count == len(list((tmp_path / "out" / "class \udcff").iterdir()))
    for before, after in written.items():
        if before.lower().endswith((".jpg", ".jpeg", ".png")):
            assert after == before
        else:
            assert after.startswith(Path(before).stem)
            assert after.endswith(".png")
    assert (written["16 bits.tiff"], written["new.avif"]) == ("16 bits-2.png", "new.png")
    for each in report.crops:
        file = tmp_path / "out" / each.written
        with Image.open(file) as image:
            assert image.mode == "RGB"
            assert image.format == ("PNG" if file.suffix == ".png" else "JPEG")
        assert read_image(file)[0].size == (each.box[2] - each.box[0], each.box[3] - each.box[1])


def test_a_rotated_picture_is_cropped_upright(tmp_path: Path, encoder: Encoder) -> None:
    (tmp_path / "set" / "a").mkdir(parents=True)
    exif = Image.Exif()
    exif[0x0112] = 6
    for place in range(2):
        picture = Image.fromarray(blocks(place, width=160, height=80))
        picture.save(tmp_path / "set" / "a" / f"{place}.jpg", exif=exif, quality=95)
    for each in crop(tmp_path / "set", tmp_path / "out", encoder).crops:
        assert each.size == (80, 160)
        expected = read_image(each.source)[0].crop(each.box)
        found = read_image(tmp_path / "out" / each.written)[0]
        assert found.size == expected.size
        assert np.abs(np.asarray(found, np.float32) - np.asarray(expected)).mean() < 4


@pytest.mark.slow
def test_a_png_never_takes_another_picture_s_name(tmp_path: Path, encoder: Encoder) -> None:
    names = ("x.bmp", "x.png", "X-2.png", "contact-sheet.bmp", "x.tif")
    (tmp_path / "set" / "a").mkdir(parents=True)
    for seed, name in enumerate(names):
        Image.fromarray(blocks(seed)).save(tmp_path / "set" / "a" / name)
    report = crop(tmp_path / "set", tmp_path / "out", encoder)
    written = {each.source.name: each.written.name for each in report.crops}
    expected = ("x-3.png", "x.png", "X-2.png", "contact-sheet-2.png", "x-4.png")
    assert written == dict(zip(names, expected, strict=True))
    assert len(find_samples(tmp_path / "out").samples) == len(names)


@pytest.mark.slow
def test_files_that_are_left_out_are_not_copied(small_gallery: Path, tmp_path: Path, encoder: Encoder) -> None:
    first = small_gallery / CLASSES[0]
    (first / "broken.jpg").write_bytes(truncated(blocks(0)))
    (first / "copy.png").write_bytes((first / "0.png").read_bytes())
    (small_gallery / "loose.jpg").write_bytes(JPEG(blocks(77)))
    report = crop(small_gallery, tmp_path / "out", encoder)
    assert {path.name for path, _ in report.left_out} == {"broken.jpg", "copy.png", "loose.jpg"}
    assert len(contents(tmp_path / "out")) == report.picture_count == len(CLASSES) * PICTURES_A_CLASS


@pytest.mark.slow
def test_only_a_new_or_empty_folder_is_taken(small_gallery: Path, tmp_path: Path, encoder: Encoder) -> None:
    (tmp_path / "out").mkdir()
    crop(small_gallery, tmp_path / "out", encoder)
    with pytest.raises(RetrievalError, match="out is there already: give a new or an empty folder"):
        crop(small_gallery, tmp_path / "out", encoder)
    (tmp_path / "file").touch()
    for taken in (tmp_path / "file", small_gallery.parent):
        with pytest.raises(RetrievalError, match="is there already"):
            check_new_folder(small_gallery, taken)
    for within in (small_gallery, small_gallery / "new"):
        with pytest.raises(RetrievalError, match="lies in"):
            check_new_folder(small_gallery, within)


@pytest.mark.slow
def test_an_interruption_leaves_nothing(small_gallery: Path, tmp_path: Path, encoder: Encoder) -> None:
    class Interrupting(Progress):
        def stage(self, title: str, total: Total = None, announce: bool = False) -> AbstractContextManager[WorkStage]:
            if title == "Writing":
                raise KeyboardInterrupt
            return super().stage(title, total)

    before = sorted(path.name for path in tmp_path.iterdir())
    with pytest.raises(KeyboardInterrupt):
        crop_dataset(find_samples(small_gallery), tmp_path / "out", encoder, ALL, Interrupting())
    assert sorted(path.name for path in tmp_path.iterdir()) == before


@pytest.mark.slow
def test_a_full_disk_is_one_sentence(
    small_gallery: Path, tmp_path: Path, encoder: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: Path, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(RetrievalError, match=r"out cannot be written \(No space left on device\)"):
        crop(small_gallery, tmp_path / "out", encoder)
    assert [path.name for path in tmp_path.iterdir()] == ["gallery"]


@pytest.mark.slow
def test_progress_is_reported(small_gallery: Path, tmp_path: Path, encoder: Encoder) -> None:
    progress = RecordedProgress()
    dataset: DataSet = find_samples(small_gallery)
    crop_dataset(dataset, tmp_path / "out", encoder, ALL, progress)
    assert progress.titles == ["Decoding", "Embedding", "Explaining", "Writing"]
    assert all(stage.done == stage.total for stage in progress.stages)


@pytest.mark.process
@pytest.mark.slow
def test_the_command(trained: Bundle, small_gallery: Path, tmp_path: Path) -> None:
    (small_gallery / "loose.png").write_bytes((small_gallery / CLASSES[0] / "0.png").read_bytes()[:-4] + b"oops")
    arguments = ("--model", trained.folder, "--similarity", "0", "--threshold", "0.6", "--margin", "0")
    done = retrieve_here("crop", small_gallery, tmp_path / "out", *arguments, "--html", tmp_path / "page.html")
    assert done.returncode == 0, done.stderr.decode()
    said = done.stdout.decode()
    assert "6 of 12 pictures cropped to a median of" in said
    assert "kept whole: 6 to validate and test on" in said
    assert "with its split" in said
    assert "loose.png lies in no class folder" in done.stderr.decode()
    assert "What the model looks at" in (tmp_path / "page.html").read_text("utf-8")
    values = answer("crop", small_gallery, tmp_path / "again", *arguments)
    assert (values["cropped"], values["held_out"], values["unknown"], values["seed"]) == (6, 6, 0, 3)
    assert values["split"] is True
    assert len(values["left_out"]) == 1
    assert {*values["crops"][0]} == {"source", "written", "partner", "similarity", "width", "height", "box"}
    written = json.loads((tmp_path / "again" / "split.json").read_text("utf-8"))
    assert written["parts"] == json.loads((tmp_path / "out" / "split.json").read_text("utf-8"))["parts"]
    refused = retrieve_here("crop", small_gallery, tmp_path / "out", *arguments)
    assert sentence(refused) == f"{tmp_path / 'out'} is there already: give a new or an empty folder"
