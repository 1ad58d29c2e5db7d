"""The sanity check: rank correlations by hand, models that pass, an edge map that fails, and the report."""

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")
import torch
from PIL import Image
from rich.console import Console
from torch import nn

from retrieval.commands.output.sanity import sanity_json, sanity_lines
from retrieval.common.errors import GalleryError
from retrieval.common.settings import MethodName
from retrieval.evaluation.heatmaps.randomised_model import RandomisedModel, named_parts
from retrieval.evaluation.heatmaps.sanity_check import (
    Agreement,
    Dependence,
    MapComparison,
    SanityOptions,
    SanityReport,
    brighten,
    check_sanity,
    compare_maps,
    signed_heatmaps,
    spearman,
)
from retrieval.evaluation.heatmaps.sanity_pairs import read_random_pairs
from retrieval.explain.methods.gradcam import PairInputs
from retrieval.explain.methods.registry import METHODS, MethodInfo
from retrieval.model.backbones import build_backbone
from retrieval.model.bundle import Bundle, find_bundle, write_card
from retrieval.model.bundle_export import save_bundle
from retrieval.model.head import Array, Head
from retrieval.model.preprocessing import Pixels
from tests.support.command import answer, retrieve_here, sentence
from tests.support.generated import CLASSES, blocks

PARTS = ("head", "conv_head", *(f"blocks.{place}" for place in range(6, -1, -1)), "conv_stem")


def array(*values: float) -> Array:
    return np.array(values, np.float32)


# Rank correlations


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        ((1, 2, 3), (10, 20, 1000), 1.0),
        ((1, 2, 3), (3, 2, -1), -1.0),
        # 1 - 6 (0 + 1 + 1 + 0 + 0) / (5 (25 - 1))
        ((1, 2, 3, 4, 5), (1, 3, 2, 4, 5), 0.9),
        # ranks less their mean: (-1.5, 0, 0, 1.5) and (-1.5, -0.5, 0.5, 1.5): 4.5 / sqrt(4.5 * 5)
        ((1, 2, 2, 3), (1, 2, 3, 4), 4.5 / 22.5**0.5),
        ((1, 1, 1), (1, 2, 3), 0.0),
        ((float("nan"), 1, 2), (1, 2, 3), 0.0),
        ((float("inf"), 1, 2), (1, 2, 3), 0.0),
    ],
)
def test_spearman_by_hand(a: tuple[float, ...], b: tuple[float, ...], expected: float) -> None:
    assert spearman(array(*a), array(*b)) == pytest.approx(expected)


def test_maps_are_compared_signed_and_by_their_absolute_values() -> None:
    maps = np.array([[[1, -2, 3]], [[1, -2, 3]], [[0, 0, 0]], [[1, -2, 3]]], np.float32)
    others = np.array([[[1, -2, 3]], [[-1, 2, -3]], [[1, -2, 3]], [[5, 5, 5]]], np.float32)
    assert compare_maps("x", maps, others) == MapComparison("x", Agreement(0.0, 0.5**0.5), Agreement(0.5, 0.5), empty=2)


# Verdicts


def a_step(name: str, signed: float, absolute: float = 0.0, empty: int = 0) -> MapComparison:
    return MapComparison(name, Agreement(signed, 0.1), Agreement(absolute, 0.1), empty)


def a_report(last: MapComparison, control: float = 0.98) -> SanityReport:
    steps = (a_step("head", 0.9), a_step("conv", 0.9), last)
    return SanityReport(
        Path("set"), SanityOptions(), 10, 5, a_step("control", control), a_step("others", 0.1), steps, (), 1.0
    )


@pytest.mark.parametrize(
    ("last", "control", "expected"),
    [
        (a_step("stem", 0.1, 0.49), 0.98, Dependence.learnt),
        (a_step("stem", -0.9, 0.5), 0.98, Dependence.partly),
        (a_step("stem", 0.79), 0.98, Dependence.partly),
        (a_step("stem", 0.8), 0.98, Dependence.none),
        (a_step("stem", -1.0, 1.0), 0.98, Dependence.none),
        (a_step("stem", 0.1), 0.79, Dependence.unclear),
        (a_step("stem", 0.1, empty=4), 0.98, Dependence.learnt),
        (a_step("stem", 0.1, empty=5), 0.98, Dependence.unclear),
    ],
)
def test_verdicts(last: MapComparison, control: float, expected: Dependence) -> None:
    assert a_report(last, control).verdict is expected


def test_the_table_says_what_was_found() -> None:
    console = Console(width=150, no_color=True)
    with console.capture() as capture:
        console.print(sanity_lines("mine", a_report(a_step("stem", 0.12, 0.2, empty=3))))
    lines = [line.strip() for line in capture.get().splitlines() if line.strip()]
    assert lines[0] == "Ensemble of mine: 10 pairs, 5 of one class"
    assert [line.split("  ")[0] for line in lines[3:]][:5] == [
        "the same pictures, 3 % brighter",
        "its heatmaps of other pictures",
        "randomised: the head",
        "and conv",
        "and stem",
    ]
    assert lines[7].split()[-6:] == ["+0.12", "±", "0.10", "+0.20", "±", "0.10"]
    assert lines[8:] == [
        "of 20 heatmaps these are empty, and count as 0: stem 3",
        "the heatmaps depend on what the model has learnt (+0.20 is left with everything randomised)",
    ]


# Randomised models


def test_parts_are_randomised_one_after_the_other(tiny_bundle: Bundle) -> None:
    model = RandomisedModel(tiny_bundle)
    pictures = [blocks(seed, 224, 224) for seed in range(3)]
    assert model.parts == PARTS
    before = model.activate(pictures)
    model.randomise("head", pictures)
    weight = tiny_bundle.head.weight
    assert not np.array_equal(model.head.weight, weight)
    np.testing.assert_array_equal(np.sort(model.head.weight.ravel()), np.sort(weight.ravel()))
    np.testing.assert_array_equal(model.activate(pictures).activations, before.activations)
    with pytest.raises(ValueError, match=r"it is the turn of conv_head, not of blocks.6"):
        RandomisedModel(tiny_bundle).randomise("blocks.6", pictures)
    model.randomise("conv_head", pictures)
    after = model.activate(pictures)
    assert spearman(after.activations, before.activations) < 0.3
    assert 0.3 < after.activations.mean() / before.activations.mean() < 10  # neither dead nor exploding
    np.testing.assert_allclose(model.describe([each.astype(np.float32) for each in pictures]), after.descriptors)


def test_a_norm_goes_with_the_layer_before_it() -> None:
    trunk = nn.Sequential(nn.Conv2d(3, 2, 3), nn.BatchNorm2d(2), nn.ReLU(), nn.Sequential(nn.Conv2d(2, 2, 3)))
    assert [(name, len(modules)) for name, modules in named_parts(trunk)] == [("0", 2), ("3.0", 1)]


# Whole checks


@pytest.fixture(autouse=True)
def _one_thread(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Use one thread: small batches gain nothing from more, which wait for each other on a busy machine."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def gallery(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make class folders of generated pictures."""
    folder = tmp_path_factory.mktemp("sanity")
    for number, name in enumerate(CLASSES):
        (folder / name).mkdir()
        for place in range(4):
            Image.fromarray(blocks(100 * number + place, cells=6)).save(folder / name / f"{place}.png")
    return folder


@pytest.fixture(scope="module")
def small(tiny_bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """Return the tiny bundle with pictures of 96 x 96, which is faster: maps of 3 x 3."""
    folder = tmp_path_factory.mktemp("bundle") / "small"
    shutil.copytree(tiny_bundle.folder, folder)
    preprocessing = replace(tiny_bundle.card.preprocessing, size=96)
    write_card(replace(tiny_bundle.card, preprocessing=preprocessing), folder)
    return find_bundle(str(folder))


def an_untrained(backbone: str, size: int, folder: Path) -> Bundle:
    """Make a bundle with seeded random weights for pictures of this size."""
    torch.manual_seed(0)
    trunk = build_backbone(backbone, pretrained=False)
    trunk = replace(trunk, preprocessing=replace(trunk.preprocessing, size=size))
    weight = np.random.default_rng(0).normal(0, 0.05, (64, trunk.channels)).astype(np.float32)
    head = Head(weight, np.zeros(64, np.float32), slope=5.0, intercept=-2.0, normalize=False)
    return save_bundle(trunk, head, folder, backbone, {}, {})


@pytest.mark.slow
def test_the_default_model_passes(gallery: Path) -> None:
    report = check_sanity(gallery, find_bundle("default"), SanityOptions(pairs=2))
    assert report.verdict is Dependence.learnt
    assert tuple(step.name for step in report.steps) == PARTS
    assert (report.pairs, report.similar) == (2, 1)
    assert report.control.signed.mean > 0.9
    assert report.steps[-1].remaining < 0.4


@pytest.mark.slow
def test_a_resnet50_changes_its_maps_when_it_is_randomised_anew(gallery: Path, tmp_path: Path) -> None:
    """As far as its last stage: with more of it randomised, two untrained networks agree again."""
    untrained = an_untrained("resnet50", 128, tmp_path / "untrained")
    pictures = read_random_pairs(gallery, untrained.card.preprocessing.size, 3, seed=1)
    model, seen = RandomisedModel(untrained, seed=5), [*pictures.first, *pictures.second]

    def maps(pixels: list[Pixels]) -> Array:
        return signed_heatmaps(model, pixels, model.activate(pixels), MethodName.gradcam)

    before = maps(seen)
    control = compare_maps("control", before, maps([brighten(each) for each in seen]))
    assert model.parts[:4] == ("head", "layer4.2", "layer4.1", "layer4.0")
    for part in model.parts[:4]:
        model.randomise(part, seen)
    after = compare_maps("layer4.0", before, maps(seen))
    assert control.signed.mean > 0.9
    assert after.remaining < 0.7
    assert after.empty == 0


def test_a_network_without_batch_normalisation_neither_dies_nor_explodes(gallery: Path, tmp_path: Path) -> None:
    untrained = an_untrained("convnext_atto", 96, tmp_path / "untrained")
    report = check_sanity(gallery, untrained, SanityOptions(pairs=4, method=MethodName.gradcam))
    assert report.control.signed.mean > 0.9
    assert not any(step.empty for step in (report.control, *report.steps))


def edges(pairs: PairInputs) -> Array:
    """Return how much neighbouring pixels differ in 8 x 8 parts of each picture, independent of any model."""
    assert pairs.pixel_access is not None
    grey = np.stack(pairs.pixel_access.pixels).mean(3)  # (N, size, size)
    rows = np.abs(np.diff(grey, axis=1, append=grey[:, -1:]))
    count, size, _ = grey.shape
    maps = rows.reshape(count, 8, size // 8, 8, size // 8).mean((2, 4)).astype(np.float32)
    return np.stack([np.zeros_like(maps), maps])


def test_an_edge_map_fails(small: Bundle, gallery: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(METHODS, MethodName.gradcam, MethodInfo("Edges", edges))
    report = check_sanity(gallery, small, SanityOptions(pairs=2, method=MethodName.gradcam))
    assert report.verdict is Dependence.none
    assert {step.signed.mean for step in report.steps} == {1.0}
    assert sanity_json("small", report)["words"].startswith("the heatmaps do not depend on what the model has learnt")


def test_black_and_equal_pictures_give_figures(small: Bundle, tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        Image.new("RGB", (40, 40)).save(tmp_path / f"{name}.png")
    with np.errstate(all="raise"):
        report = check_sanity(tmp_path, small, SanityOptions(pairs=1))
    assert (report.similar, report.verdict) == (None, Dependence.unclear)
    for step in (report.control, *report.steps):
        assert (step.signed, step.absolute, step.empty) == (Agreement(0.0, 0.0), Agreement(0.0, 0.0), 2)


def test_a_map_that_says_the_same_both_ways_is_taken_as_it_is(small: Bundle) -> None:
    model, pictures = RandomisedModel(small), [blocks(seed, 96, 96) for seed in range(2)]
    features = model.activate(pictures)
    assert (signed_heatmaps(model, pictures, features, MethodName.eigencam) >= 0).all()
    signed = signed_heatmaps(model, pictures, features, MethodName.gradcam)
    assert signed.shape == (2, 3, 3)
    assert (signed < 0).any()


def test_a_brighter_picture_stays_within_what_a_pixel_holds() -> None:
    assert brighten(np.array([0, 100, 250, 255], np.uint8)).tolist() == [0, 103, 255, 255]


# Pictures


def test_pairs_are_drawn_by_a_seed_half_of_one_class(gallery: Path) -> None:
    drawn, again = (read_random_pairs(gallery, 32, 5, seed=1) for _ in range(2))
    assert (len(drawn.first), len(drawn.second), drawn.similar) == (5, 5, 3)
    np.testing.assert_array_equal(drawn.first, again.first)
    assert not np.array_equal(drawn.first, read_random_pairs(gallery, 32, 5, seed=2).first)


def test_what_cannot_be_read_is_left_out_with_its_pairs(gallery: Path, tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        Image.fromarray(blocks(ord(name))).save(tmp_path / f"{name}.png")
    (tmp_path / "broken.png").write_text("no picture")
    drawn = read_random_pairs(tmp_path, 32, 12)
    assert 0 < len(drawn.first) < 12
    assert drawn.similar is None
    assert drawn.left_out == ((tmp_path / "broken.png", "is not a picture in a known format"),)


def test_a_folder_without_two_pictures_is_refused(tmp_path: Path) -> None:
    with pytest.raises(GalleryError, match=r"holds no two pictures that can be compared: give a folder of pictures"):
        read_random_pairs(tmp_path, 32, 2)
    for name in ("a", "b"):
        (tmp_path / f"{name}.png").write_text("no picture")
    with pytest.raises(GalleryError, match=r"\(a.png is not a picture in a known format\)"):
        read_random_pairs(tmp_path, 32, 2)


# The command


@pytest.mark.slow
def test_the_command_prints_a_table(small: Bundle, gallery: Path) -> None:
    done = retrieve_here("sanity", gallery, "--model", small.folder, "--pairs", "1", "--method", "gradcam")
    said = done.stdout.decode()
    assert (done.returncode, done.stderr) == (0, b"")
    assert said.startswith(f"Grad-CAM of {small.folder}: 1 pair, 1 of one class")
    assert all(part in said for part in ("3 % brighter", "randomised: the head", "and blocks.3", "everything"))


@pytest.mark.slow
def test_the_command_answers_machines_with_stable_keys(small: Bundle, gallery: Path) -> None:
    found = answer("sanity", gallery, "--model", small.folder, "--pairs", "1", "--seed", "7")
    assert found.keys() == {
        *("model", "dataset", "method", "seed", "pairs", "similar", "maps", "control", "others", "steps"),
        *("verdict", "words", "left_out", "seconds"),
    }
    assert (found["pairs"], found["maps"], found["seed"], found["method"]) == (1, 2, 7, "ensemble")
    assert [step["name"] for step in found["steps"]] == list(PARTS)
    assert found["control"].keys() == {"name", "signed", "absolute", "empty"}
    assert found["control"]["signed"].keys() == {"mean", "spread"}


@pytest.mark.slow
def test_what_cannot_be_checked_is_one_sentence(tmp_path: Path) -> None:
    assert "gone is not a folder" in sentence(retrieve_here("sanity", "gone", cwd=tmp_path))
    done = retrieve_here("sanity", cwd=tmp_path)
    assert done.returncode == 2
    assert b"DATASET: give a folder of pictures, as default keeps none of its own" in done.stderr
