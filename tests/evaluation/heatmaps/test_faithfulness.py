"""Faithfulness over a data set: figures by hand, and methods distinguished from baselines."""

import json
from pathlib import Path

import numpy as np
import pytest

from retrieval.commands.output.faithfulness import faithfulness_json, format_interval
from retrieval.common.errors import GalleryError
from retrieval.common.jsonable import to_json
from retrieval.common.metrics import Interval, bootstrap
from retrieval.common.settings import MethodName
from retrieval.datasets.class_folders import find_samples
from retrieval.evaluation.heatmaps.curves import faithfulness_curves
from retrieval.evaluation.heatmaps.faithfulness import (
    STEPS,
    Faithfulness,
    HeatmapTrace,
    _heatmap_metrics,
    measure_faithfulness,
)
from retrieval.explain.hiding import HIDINGS
from retrieval.model.bundle import Bundle
from retrieval.model.encoder import Encoder
from tests.support.command import answer, retrieve_here, sentence
from tests.support.trained import trained_copy


def traced(
    deletion: list[float], insertion: list[float], shown_alone: float, fifth: float, random: float
) -> HeatmapTrace:
    return HeatmapTrace(np.array(deletion), np.array(insertion), shown_alone, fifth, np.full(8, random))


def test_figures_by_hand() -> None:
    falling = [1 - step / STEPS for step in range(STEPS + 1)]
    found = _heatmap_metrics(
        [traced(falling, falling[::-1], 0.75, 0.2, -0.1), traced([1.0] * 11, [0.0] * 10 + [1.0], 1.25, -0.3, 0.1)],
        seed=0,
    )
    assert found.deletion.mean == pytest.approx((0.5 + 1) / 2)
    assert found.insertion.mean == pytest.approx((0.5 + 0.05) / 2)
    assert found.drop.mean == pytest.approx((0.25 + 0) / 2)
    assert found.increase.mean == 0.5
    assert found.raised.mean == 0.5
    assert found.raised_by_random.mean == 0.5
    assert found.deletion_curve[5] == pytest.approx(0.75)


def test_an_interval_holds_the_mean_and_narrows_with_more_values() -> None:
    values = np.random.default_rng(0).normal(3, 1, 400)
    few, many = bootstrap(values[:25]), bootstrap(values)
    assert few.low < few.mean < few.high
    assert many.high - many.low < (few.high - few.low) / 2
    assert many.high - many.low == pytest.approx(2 * 1.96 * values.std() / 20, rel=0.1)
    assert bootstrap(np.empty(0)) == Interval(0.0, 0.0, 0.0)
    assert format_interval(Interval(0.5, 0.4, 0.6)) == "0.500 ±0.100"


@pytest.fixture(scope="module")
def found(tiny_bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Faithfulness:
    gallery = make_gallery(tmp_path_factory.mktemp("faithful"))
    methods = [MethodName.gradcam, MethodName.sbsm]
    return measure_faithfulness(find_samples(gallery), Encoder(tiny_bundle, "cpu"), methods, 2)


def make_gallery(folder: Path, classes: int = 3, pictures: int = 4) -> Path:
    """Make pictures with one detailed part that shows their class, on a plain background."""
    from PIL import Image

    from tests.support.generated import blocks

    for number in range(classes):
        (folder / str(number)).mkdir()
        for place in range(pictures):
            pixels = np.full((224, 224, 3), 120, np.uint8)
            left = 16 * place
            pixels[20:116, left : left + 96] = blocks(number, 96, 96, cells=8)
            Image.fromarray(pixels).save(folder / str(number) / f"{place}.png")
    return folder


@pytest.mark.slow
def test_every_method_and_baseline_has_figures_of_every_group(found: Faithfulness) -> None:
    assert list(found.methods) == ["Grad-CAM", "SBSM", "Random", "Centre", "Edges"]
    assert found.pairs["all"] == 2
    assert sum(count for group, count in found.pairs.items() if group != "all") == 2
    for groups in found.methods.values():
        assert groups.keys() == found.pairs.keys()
        assert groups["all"].hidings.keys() == HIDINGS.keys()


@pytest.mark.parametrize("way", HIDINGS)
def test_hiding_what_matters_costs_more_than_hiding_at_random(found: Faithfulness, way: str) -> None:
    sliding, random = (found.methods[name]["all"].hidings[way] for name in ("SBSM", "Random"))
    assert sliding.deletion.mean < random.deletion.mean
    assert sliding.insertion.mean > random.insertion.mean


def test_what_was_found_by_hiding_foretells_more_than_chance(found: Faithfulness) -> None:
    assert found.methods["SBSM"]["all"].fidelity.mean > 0.2 > found.methods["Random"]["all"].fidelity.mean


def test_json(found: Faithfulness) -> None:
    grids = {"Grad-CAM": Interval(0.7, 0.6, 0.8)}
    values = json.loads(to_json(faithfulness_json(found, grids, None, {"seed": 0})))
    figures = values["methods"]["SBSM"]["all"]
    assert figures["hidings"]["filled"]["deletion"].keys() == figures["fidelity"].keys() == {"mean", "low", "high"}
    assert values["grid_pointing_game"]["Grad-CAM"]["mean"] == 0.7
    assert values["hits"] is None


def test_curves_are_a_picture(found: Faithfulness) -> None:
    pytest.importorskip("matplotlib")
    assert faithfulness_curves(found).startswith(b"\x89PNG")


def test_more_pairs_than_pictures_are_refused(tiny_bundle: Bundle, tmp_path: Path) -> None:
    with pytest.raises(GalleryError, match="ask for at most 12"):
        measure_faithfulness(find_samples(make_gallery(tmp_path)), Encoder(tiny_bundle, "cpu"), [], 1000)


@pytest.mark.slow
def test_the_command(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    gallery, curves = make_gallery(tmp_path, 2, 2), tmp_path / "curves.png"
    arguments: list[str | Path] = ["faithfulness", gallery, "--pairs", "2", "--method", "gradcam", "--curves", curves]
    values = answer(*arguments, "--hits", "1")
    assert list(values["methods"]) == ["Grad-CAM", "Random", "Centre", "Edges"]
    assert values["grid_pointing_game"] == {}
    assert (values["hits"]["queries"], values["hits"]["hits"]) == (1, 3)
    assert list(values["hits"]["methods"]) == ["Grad-CAM", "Random"]
    assert curves.read_bytes().startswith(b"\x89PNG")
    done = retrieve_here(*arguments)
    assert done.returncode == 0
    assert "Grad-CAM" in done.stdout.decode()
    assert "too few classes" in sentence(retrieve_here(*arguments, "--grids", "2"))
    assert retrieve_here("faithfulness", gallery, "--curves", "curves.jpg").returncode == 2


def test_what_a_model_learnt_from_is_left_out(tiny_bundle: Bundle, tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    gallery = make_gallery(tmp_path / "set")
    learnt = trained_copy(tiny_bundle, tmp_path / "trained", gallery, sorted(gallery.glob("*/0.png")))
    arguments: list[str | Path] = ["faithfulness", gallery, "--method", "gradcam", "--model", learnt, "--pairs"]
    done = retrieve_here(*arguments, "20")
    assert done.returncode == 1
    assert "only 9 pictures have another" in done.stderr.decode()
