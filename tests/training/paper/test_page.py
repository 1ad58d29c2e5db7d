"""Tests of reproductions' pages: self-contained, with figures beside the paper's, and safe from any name."""

import io
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from retrieval.commands.output.paper import results_lines
from retrieval.datasets.class_folders import Sample
from retrieval.datasets.crop import CropReport
from retrieval.datasets.crop_files import Crop, CropRules, UncroppedReason
from retrieval.evaluation.verdicts import PairMetrics
from retrieval.explain.explanation import verdict_of
from retrieval.rendering.presentation import ResultView
from retrieval.training.paper.case import PaperCase
from retrieval.training.paper.page import results_page
from retrieval.training.paper.results import (
    SCORE_NAMES,
    CropPair,
    ModelSummary,
    PairKind,
    PairView,
    Plan,
    SeedRun,
    StudyResult,
    TableResult,
)
from retrieval.training.presets import FAST, PAPER
from tests.support.evaluations import EVIL, figures
from tests.support.html_checker import Checker

OUT = Path("out")
PLAN = Plan(PaperCase.flowers, Path("sets"), OUT, FAST, seed=3, command="retrieve reproduce flowers --data sets")
MODEL = ModelSummary(OUT / "models" / "flowers-3", {"train": 3000, "validation": 300, "test": 800}, 7, 10)
EVALUATION = figures(list("aabbcc"))
UNSEEN = replace(EVALUATION, pictures=800, classes=5, pairs=replace(EVALUATION.pairs, similar=432))


def a_pair(kind: PairKind, shown: ResultView, distance: float, labels: tuple[str, str]) -> PairView:
    hit = replace(shown.hits[1], similarity=1 - distance, verdict=verdict_of(distance))
    first, second = (Sample(Path(f"{label}.jpg"), label, "0") for label in labels)
    return PairView(kind, (first, second), distance, replace(shown, hits=(hit,)))


def a_study(shown: ResultView, case: PaperCase = PaperCase.flowers) -> StudyResult:
    pairs = (
        a_pair(PairKind.similar, shown, 0.2345, ("Rose", "Rose")),
        a_pair(PairKind.different, shown, 0.8765, ("Rose", "Tulip")),
        a_pair(PairKind.borderline, shown, 0.5012, ("Daisy", "Tulip")),
    )
    return StudyResult(replace(PLAN, case=case), MODEL, {"flowers-3": UNSEEN, "default": UNSEEN}, pairs)


def a_crop(source: Path, written: str) -> Crop:
    heatmap = np.array([[0, 1], [0, 0.5]], np.float32)
    return Crop(source, Path(written), source, 0.9, (300, 200), (100, 0, 300, 200), heatmap)


def a_table(picture: Path, label: str = "Daisy") -> TableResult:
    crops = (a_crop(picture, "grey.png"), a_crop(picture, "grey-2.png"))
    whole = dict.fromkeys(UncroppedReason, 0) | {UncroppedReason.below_similarity: 2998}
    report = CropReport(picture.parent, picture.parent, CropRules(seed=3), crops, whole, (), True, 1.0)
    before, after, worse = (
        replace(UNSEEN, pairs=PairMetrics(**vars(UNSEEN.pairs) | dict(zip(SCORE_NAMES, values, strict=False))))
        for values in (
            (0.8, 0.8, 0.81, 0.8, 0.9, 0.82, 0.83),
            (0.85, 0.85, 0.86, 0.85, 0.95, 0.87, 0.88),
            (0.76, 0.76, 0.77, 0.76, 0.86, 0.78, 0.79),
        )
    )
    runs = tuple(
        SeedRun(seed, MODEL, replace(MODEL, best_epoch=best), report, (before, cropped))
        for seed, best, cropped in ((3, 5, after), (4, 9, worse))
    )
    return TableResult(
        replace(PLAN, case=PaperCase.table1, seeds=2), runs, crops, (CropPair(label, crops, 0.1234, 0.0987),)
    )


@pytest.mark.parametrize("case", ["study", "table"])
def test_the_pages_are_self_contained(case: str, shown: ResultView, picture: Path) -> None:
    text = results_page(a_study(shown) if case == "study" else a_table(picture))
    checked = Checker(text)
    assert not re.search(r"https?:|//[a-z]|url\(", re.sub(r"data:image/\w+;base64,[\w+/=]+", "", text))
    assert "script" not in checked.tags
    assert "default-src 'none'" in text
    sources = [value for _, name, value in checked.attributes if name == "src"]
    assert len(sources) == (2 + 3 * 6 if case == "study" else 2 * 3 + 2 + 1)  # one of the pair's crops is missing
    assert all(value and value.startswith("data:image/") for value in sources)
    assert sum(tag == "img" for tag in checked.tags) == sum(name == "alt" for _, name, _ in checked.attributes)


def test_a_data_set_s_page_has_its_figures(shown: ResultView) -> None:
    text = results_page(a_study(shown))
    accuracy = f"{EVALUATION.pairs.accuracy:.4f}"
    assert f"Accuracy</th><td>{accuracy}</td><td>{accuracy}</td><td>0.8715</td></tr>" in text
    assert re.search(r"Precision, mean of both verdicts</th><td>[\d.]+</td><td>[\d.]+</td><td>0.8900</td></tr>", text)
    assert re.search(r"Precision of “similar”</th><td>[\d.]+</td><td>[\d.]+</td><td>–</td></tr>", text)
    words = Checker(text).text
    for phrase in (
        "Flowers: section 4.1 of the paper again",
        "learnt from 3,000 pictures and chose by 300 the epoch 7 of 10",
        "800 pictures in 5 classes that it has not seen: on 432 pairs",
        "d = 0.2345 both are Rose",
        "d = 0.5012 Daisy and Tulip",
        "Corresponds to Figure 2 of the paper: there two of “rose”, with a distance of 0.24.",
        "The kind of Figure 3, which the paper shows for Skin cancer only: there “Benign” and “Malignant”, with a"
        " distance of 0.781.",
        "retrieve reproduce flowers --data sets",
        "preset: backbone",
        "drawn by the seed 3",
    ):
        assert phrase in words


def test_a_data_set_without_figures_in_the_paper_has_no_column_for_it(shown: ResultView) -> None:
    text = results_page(a_study(shown, PaperCase.airbnb))
    accuracy = f"{EVALUATION.pairs.accuracy:.4f}"
    assert f"Accuracy</th><td>{accuracy}</td><td>{accuracy}</td></tr>" in text
    words = Checker(text).text
    assert "The paper gives no figures for this data set." in words
    assert "Corresponds to Figure 4 of the paper: there “bedroom” and “living-room”, with a distance of 0.516." in words


def test_a_kind_without_pairs_has_a_note(shown: ResultView) -> None:
    study = a_study(shown)
    words = Checker(results_page(replace(study, pairs=study.pairs[:2]))).text
    assert "Two classes, nearest to a distance of 0.5: none of the pairs measured." in words


def test_table_1_s_page_has_both_rows_and_the_paired_change(picture: Path) -> None:
    text = results_page(a_table(picture))
    assert "The paper: original</th><td>0.8715</td><td>0.8720</td><td>0.8900</td><td>0.8720</td><td>–</td>" in text
    assert "The paper: change</th><td>+0.0116</td>" in text
    assert "Here: original</th><td>0.8000 ± 0.0000</td>" in text
    assert "Here: “cropped”</th><td>0.8050 ± 0.0636</td>" in text
    assert "Here: change</th><td>+0.0050 ± 0.0636</td>" in text
    assert "Seed 3: change</th><td>+0.0500</td>" in text
    assert "Seed 4: change</th><td>-0.0400</td>" in text
    assert "<td>0.0 ± 2.8</td>" not in text
    assert "<td>+0.0 ± 2.8</td>" in text  # the best epoch: 5 and 9 against 7
    words = Checker(text).text
    for phrase in (
        "2 of 3,000 training pictures (0.1 %) were cropped, to a median of 66.7 % of their area",
        "whole: d = 0.1234",
        "cropped: d = 0.0987",
        "had 0.18 and 0.11",
        "falls over 8 epochs",
        "± is the sample standard deviation over the seeds.",
        "cannot be shown",  # a crop that is gone
    ):
        assert phrase in words


def test_one_seed_has_no_deviation_and_each_schedule_its_own_description(picture: Path) -> None:
    table = a_table(picture)
    words = Checker(results_page(replace(table, plan=replace(table.plan, preset=PAPER), runs=table.runs[:1]))).text
    assert "±" not in words
    assert "There is one seed only." in words
    assert "at most 50 epochs, and ends where validation gets no better" in words


def test_without_crops_the_page_says_so(picture: Path) -> None:
    words = Checker(results_page(replace(a_table(picture), crops=(), crop_pairs=()))).text
    assert "No picture was cropped." in words
    assert "No class has two cropped pictures." in words


def test_names_cannot_harm_the_pages(shown: ResultView, picture: Path) -> None:
    study = a_study(shown)
    evil = a_pair(PairKind.similar, shown, 0.2, (EVIL, EVIL))
    plan = replace(PLAN, command=f"retrieve {EVIL}", weights=Path(EVIL))
    model = replace(MODEL, folder=OUT / EVIL)
    results = {EVIL: study.results["default"]}
    for text in (
        results_page(StudyResult(plan, model, results, (evil,))),
        results_page(replace(a_table(picture, EVIL), plan=plan)),
    ):
        checked = Checker(text)
        assert not any(name == "onerror" for _, name, _ in checked.attributes)
        assert "<img onerror=alert(1)>\\xff" in checked.text
        text.encode("utf-8")


def test_the_terminal_shows_the_main_figures_and_the_files(shown: ResultView, picture: Path) -> None:
    console = Console(width=200, file=io.StringIO())
    for result in (a_study(shown), a_table(picture)):
        console.print(results_lines(result, (Path("a.html"), Path("a.json"))))
    assert isinstance(console.file, io.StringIO)
    printed = console.file.getvalue()
    for words in ("Flowers: best epoch 7 of 10", "0.8715", "+0.0050 ± 0.0636", "page: a.html", "JSON: a.json", "0.1 %"):
        assert words in printed
