"""Tests of reproductions: trainings, reuse, measurements, the chosen pairs; means and changes by hand."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from retrieval.common.errors import GalleryError, SettingError
from retrieval.common.jsonable import to_json
from retrieval.datasets.class_folders import find_samples
from retrieval.datasets.crop_files import Crop
from retrieval.datasets.split import read_split
from retrieval.training.paper.case import PaperCase
from retrieval.training.paper.page import write_results
from retrieval.training.paper.reproduce import reproduce_case
from retrieval.training.paper.results import (
    SCORE_NAMES,
    PairKind,
    Plan,
    Scores,
    SeedStats,
    StudyResult,
    TableResult,
    compare_scores,
    compute_stats,
)
from retrieval.training.paper.results_json import results_json
from retrieval.training.paper.shown_pairs import draw_crop_pairs, pick_pairs
from retrieval.training.presets import FAST, Preset
from retrieval.training.train_bundle import train_bundle
from tests.support.command import retrieve_here, sentence
from tests.support.generated import make_set
from tests.support.html_checker import Checker
from tests.support.progress import RecordedProgress

HEAD_ONLY = replace(FAST, input_size=128, epochs=1, warm_up=3, frozen=1.0, augment=False, average=0.0, batch=20)
COMMON_KEYS = {"case", "command", "dataset", "preset", "weights", "seeds", "pairs_wanted", "device", "versions"}
PAIR_KEYS = {"kind", "paper", "first", "second", "distance", "similarity", "verdict"}
SCORE_KEYS = {
    *("accuracy", "thresholded_auc", "macro_precision", "macro_recall", "roc_auc", "precision", "recall"),
    *("best_epoch", "epochs"),
}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    make_set(folder / "flowers", classes=3)
    return folder


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Share one folder among this module's tests, so that later ones reuse finished steps."""
    return tmp_path_factory.mktemp("out") / "reproduced"


@pytest.fixture(scope="module")
def flowers(data: Path, out: Path) -> StudyResult:
    result = reproduce_case(
        Plan(PaperCase.flowers, data, out, HEAD_ONLY, seed=1, pairs=5, command="retrieve reproduce flowers")
    )
    assert isinstance(result, StudyResult)
    return result


@pytest.fixture(scope="module")
def table(data: Path, out: Path, flowers: StudyResult) -> TableResult:
    """Reproduce Table 1 with two seeds, the first of which is the flowers'."""
    result = reproduce_case(Plan(PaperCase.table1, data, out, HEAD_ONLY, seed=1, seeds=2))
    assert isinstance(result, TableResult)
    return result


@pytest.fixture
def trainings(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Record the folders of the trainings that really start."""
    started: list[str] = []

    def counted(recipe: Any, folder: Path, **rest: Any) -> Any:
        if not (folder / "model.json").exists():
            started.append(folder.name)
        return train_bundle(recipe, folder, **rest)

    monkeypatch.setattr("retrieval.training.paper.reproduce.train_bundle", counted)
    return started


@pytest.mark.slow
def test_a_data_set_s_json_is_complete(flowers: StudyResult, out: Path) -> None:
    values = json.loads(to_json(results_json(flowers)))
    assert values.keys() == COMMON_KEYS | {"paper", "model", "unseen", "figures", "pairs"}
    assert (values["case"], values["command"], values["seeds"]) == ("flowers", "retrieve reproduce flowers", [1])
    assert values["preset"]["input_size"] == 128
    assert values["versions"].keys() == {"retrieve-explain", "torch"}
    assert (values["paper"]["figure"], values["paper"]["distance"]) == (2, 0.24)
    assert values["paper"]["figures"]["accuracy"] == 0.8715
    assert values["model"]["folder"] == "models/flowers-1"
    assert values["unseen"] == {"pictures": 6, "classes": 3, "pairs": 5}
    assert list(values["figures"]) == ["flowers-1", "default"]
    assert all(each["pairs"]["similar"] == 5 for each in values["figures"].values())
    assert all(pair.keys() == PAIR_KEYS for pair in values["pairs"])
    assert all((out / values["pairs"][0][side]["path"]).is_file() for side in ("first", "second"))


def test_pairs_are_of_unseen_pictures_and_of_their_kinds(flowers: StudyResult, out: Path) -> None:
    split = read_split(out / "models" / "flowers-1")
    assert split is not None
    assert flowers.pairs
    for pair in flowers.pairs:
        first, second = pair.samples
        assert {first.hash, second.hash} <= set(split.parts["test"])
        assert (first.label == second.label) is (pair.kind is PairKind.similar)
        assert pair.hit.verdict == ("similar" if pair.distance < 0.5 else "different")
        assert pair.kind is PairKind.borderline or pair.kind == pair.hit.verdict
        explanation = pair.hit.explanation
        assert explanation is not None
        assert explanation.distance == pair.distance
    assert len({pair.view.scale for pair in flowers.pairs}) == 1
    order = [pair.kind for pair in flowers.pairs]
    assert order == [kind for kind in PairKind if kind in order]


def test_the_first_that_fits_is_picked_and_the_nearest_to_the_threshold() -> None:
    distances = np.array([0.1, 0.2, 0.9, 0.7, 0.45, 0.52])
    similar = np.array([True, True, False, False, False, True])
    found = [pick_pairs(distances, similar, seed) for seed in range(40)]
    assert {each[PairKind.similar] for each in found} == {0, 1}
    assert {each[PairKind.different] for each in found} == {2, 3}
    assert {each[PairKind.borderline] for each in found} == {4}
    assert pick_pairs(distances, similar, 3) == pick_pairs(distances, similar, 3)
    order = np.random.default_rng(5).permutation(6).tolist()
    assert found[5][PairKind.similar] == min((0, 1), key=order.index)


def test_a_kind_without_pairs_is_left_out() -> None:
    assert pick_pairs(np.array([0.7, 0.8]), np.array([True, True]), 0) == {}


@pytest.mark.slow
def test_table_1_measures_both_on_the_same_unseen_pictures(table: TableResult, out: Path) -> None:
    values = json.loads(to_json(results_json(table)))
    assert values.keys() == COMMON_KEYS | {"paper", "figures", "runs", "figure_5", "figure_6"}
    assert values["figures"].keys() == SCORE_KEYS
    assert values["figures"]["accuracy"].keys() == {"original", "cropped", "change"}
    assert [run["seed"] for run in values["runs"]] == values["seeds"] == [1, 2]
    for run, each in zip(values["runs"], table.runs, strict=True):
        seed = each.seed
        assert run["original"]["model"]["folder"] == f"models/flowers-{seed}"
        assert run["cropped"]["model"]["folder"] == f"models/flowers-cropped-{seed}"
        assert run["crops"]["folder"] == f"sets/flowers-cropped-{seed}"
        assert run["cropped"]["model"]["parts"] == run["original"]["model"]["parts"]
        assert run["crops"]["share_of_training"] == run["crops"]["cropped"] / run["original"]["model"]["parts"]["train"]
        splits = [read_split(out / "models" / f"{name}-{seed}") for name in ("flowers", "flowers-cropped")]
        first, second = [split for split in splits if split]
        assert set(first.parts["test"]) == set(second.parts["test"])
        assert set(first.parts["validation"]) == set(second.parts["validation"])
        assert each.evaluations[0].pictures == len(first.parts["test"])
        cropped = read_split(out / "sets" / f"flowers-cropped-{seed}")
        assert cropped is not None
        assert cropped.dataset == str((out / "sets" / f"flowers-cropped-{seed}").resolve())


def test_crops_and_their_pairs_are_of_the_first_seed(table: TableResult) -> None:
    assert table.runs[0].crops.crops, "the tests need crops"
    known = {crop.source for crop in table.runs[0].crops.crops}
    assert {crop.source for crop in table.crops} <= known
    assert len({pair.label for pair in table.crop_pairs}) == len(table.crop_pairs) > 0
    for pair in table.crop_pairs:
        one, other = pair.crops
        assert one.source != other.source
        assert one.source.parent == other.source.parent
        assert {one.source, other.source} <= known
        assert 0 < pair.original < 1
        assert 0 < pair.cropped < 1


def test_the_pages_are_written(flowers: StudyResult, table: TableResult, out: Path) -> None:
    for result in (flowers, table):
        page, values = write_results(result)
        assert (page, values) == (out / f"{result.plan.case}.html", out / f"{result.plan.case}.json")
        assert json.loads(values.read_text("utf-8")) == json.loads(to_json(results_json(result)))
        assert "of the paper again" in Checker(page.read_text("utf-8")).text


@pytest.mark.slow
def test_finished_steps_are_reused(table: TableResult, data: Path, out: Path, trainings: list[str]) -> None:
    progress = RecordedProgress()
    plan = replace(table.plan, seeds=2)
    again = reproduce_case(plan, progress)
    assert isinstance(again, TableResult)
    assert trainings == []
    assert set(progress.titles) == {"Reading flowers", "Embedding flowers"}
    assert [sentence for sentence in progress.messages if sentence.endswith("used again")] == [
        f"{out / folder / name} is {done} already, and used again"
        for seed in (1, 2)
        for folder, name, done in (
            ("models", f"flowers-{seed}", "trained"),
            ("sets", f"flowers-cropped-{seed}", "cropped"),
            ("models", f"flowers-cropped-{seed}", "trained"),
        )
    ]
    assert again.comparisons == table.comparisons
    one, other = (result.runs[0].crops for result in (table, again))
    assert replace(one, crops=(), dataset=data) == replace(other, crops=(), dataset=data)
    for before, after in zip(one.crops, other.crops, strict=True):
        assert before.values() == after.values()
        np.testing.assert_allclose(before.heatmap, after.heatmap, atol=1e-4)


@pytest.mark.slow
def test_table_1_trains_only_missing_models(
    flowers: StudyResult, data: Path, tmp_path: Path, trainings: list[str]
) -> None:
    out = tmp_path / "out"
    shutil.copytree(flowers.plan.out / "models" / "flowers-1", out / "models" / "flowers-1")
    left_over = out / "sets" / "flowers-cropped-1.part"
    left_over.mkdir(parents=True)
    (left_over / "half.png").write_bytes(b"x")
    reproduce_case(Plan(PaperCase.table1, data, out, HEAD_ONLY, seed=1, seeds=1))
    assert trainings == ["flowers-cropped-1"]
    assert not left_over.exists()


def test_a_model_of_another_preset_is_refused(flowers: StudyResult) -> None:
    with pytest.raises(SettingError, match=r"flowers-1 was trained with another epochs: give that, or another folder"):
        reproduce_case(replace(flowers.plan, preset=replace(HEAD_ONLY, epochs=2)))


def test_crops_of_another_model_are_refused(table: TableResult) -> None:
    record = table.runs[0].crops.out.with_suffix(".json")
    kept = record.read_text("utf-8")
    record.write_text(json.dumps(json.loads(kept) | {"model": "other"}), "utf-8")
    with pytest.raises(SettingError, match="flowers-cropped-1 was cropped by another model"):
        reproduce_case(replace(table.plan, seeds=1))
    record.write_text(kept, "utf-8")


@pytest.mark.slow
def test_a_data_set_without_unseen_pairs_is_refused(flowers: StudyResult, data: Path, tmp_path: Path) -> None:
    make_set(tmp_path / "flowers", classes=3, each=2)
    with pytest.raises(GalleryError, match="leaves 0 pictures unseen"):
        reproduce_case(replace(flowers.plan, data=tmp_path, out=tmp_path / "out"))
    assert len(find_samples(data / "flowers").samples) == 36


def some_scores(accuracy: float, best_epoch: int) -> Scores:
    return dict.fromkeys(SCORE_NAMES, 0.5) | {"accuracy": accuracy, "best_epoch": best_epoch, "epochs": 10}


def means(found: SeedStats) -> list[float | None]:
    return [found.mean, found.sd]


def test_means_deviations_and_changes_by_hand() -> None:
    runs = [
        (some_scores(0.8, 4), some_scores(0.9, 3)),
        (some_scores(0.7, 6), some_scores(0.7, 8)),
        (some_scores(0.6, 5), some_scores(0.8, 4)),
    ]
    found = compare_scores(runs)
    accuracy, epoch = found["accuracy"], found["best_epoch"]
    assert means(accuracy.original) == pytest.approx([0.7, 0.1])
    assert means(accuracy.cropped) == pytest.approx([0.8, 0.1])
    assert accuracy.change.values == pytest.approx((0.1, 0.0, 0.2))
    assert means(accuracy.change) == pytest.approx([0.1, 0.1])
    assert epoch.change.values == (-1, 2, -1)
    assert means(epoch.change) == pytest.approx([0, 3**0.5])
    assert found["roc_auc"].change.sd == 0


def test_a_single_seed_has_no_deviation() -> None:
    assert (compute_stats([0.5]).mean, compute_stats([0.5]).sd) == (0.5, None)


def test_crop_pairs_are_of_one_class_each_and_drawn_by_the_seed() -> None:
    crops: list[Crop] = [
        SimpleNamespace(source=Path(f"set/{label}/{number}.png"))  # type: ignore[misc]
        for label, count in (("a", 4), ("b", 1), ("c", 2), ("d", 3), ("e", 2))
        for number in range(count)
    ]
    drawn = [draw_crop_pairs(crops, seed) for seed in range(20)]
    for pairs in drawn:
        labels = [one.source.parent.name for one, _ in pairs]
        assert len(labels) == len(set(labels)) == 3
        assert "b" not in labels
        assert all(one.source.parent == other.source.parent and one is not other for one, other in pairs)
    assert draw_crop_pairs(crops, 4) == drawn[4]
    assert any(pairs != drawn[0] for pairs in drawn)


@pytest.mark.slow
def test_a_missing_data_set_is_named(data: Path, tmp_path: Path) -> None:
    done = retrieve_here("reproduce", "skin", "--data", data, cwd=tmp_path)
    assert sentence(done) == f"{data / 'skin_cancer'} is not a folder: give --data the folder that holds skin_cancer"
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_the_command_writes_and_reports_page_and_json(flowers: StudyResult, tmp_path: Path) -> None:
    make_set(tmp_path / "airbnb", classes=2, each=8)
    done = retrieve_here("reproduce", "airbnb", "--data", ".", "--epochs", "1", "--out", "r", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr.decode()
    values = json.loads(done.stdout)
    assert values["command"] == "retrieve reproduce airbnb --data . --epochs 1 --out r --json"
    assert values["paper"]["labels"] == ["bedroom", "living-room"]
    assert values["dataset"] == "../airbnb"
    assert values == json.loads((tmp_path / "r" / "airbnb.json").read_text("utf-8"))
    assert "the unseen part makes only" in done.stderr.decode()
    done = retrieve_here("reproduce", "airbnb", "--data", ".", "--epochs", "1", "--out", "r", cwd=tmp_path)
    assert done.returncode == 0, done.stderr.decode()
    assert "models/airbnb-0 is trained already, and used again" in done.stderr.decode()
    shown = done.stdout.decode()
    assert all(words in shown for words in ("Accuracy", "default", "page: r/airbnb.html", "JSON: r/airbnb.json"))


@pytest.mark.slow
def test_wrong_usage_ends_with_2(tmp_path: Path) -> None:
    for arguments in (["roses", "--data", "."], ["flowers"], ["table1", "--data", ".", "--seeds", "0"]):
        done = retrieve_here("reproduce", *arguments, cwd=tmp_path)
        assert done.returncode == 2
        assert b"Usage: " in done.stderr


def test_the_preset_is_used(flowers: StudyResult) -> None:
    preset: Preset = flowers.plan.preset
    assert flowers.model.epochs == preset.epochs == 1
