"""The page of an evaluation: whole in itself, with all figures, and safe from any name."""

import re
from dataclasses import replace
from pathlib import Path

import pytest

from retrieval.datasets.class_folders import DataSet
from retrieval.evaluation.measure import DatasetEvaluation, EvaluationOptions
from retrieval.evaluation.mistakes import MistakeView
from retrieval.evaluation.page import DatasetSection, evaluation_page
from retrieval.rendering.presentation import ResultView
from tests.support.evaluations import EVIL, figures
from tests.support.html_checker import Checker


def a_section(
    labels: list[str], models: tuple[str, ...], mistakes: list[MistakeView], name: str = "set"
) -> DatasetSection:
    result = figures(labels)
    dataset = DataSet(Path("set"), (), ((Path("x"), "is empty"),))
    learnt = dict.fromkeys(models, 1234)
    return DatasetSection(
        name,
        DatasetEvaluation(dataset, EvaluationOptions(seed=7), 1234, learnt, {}, dict.fromkeys(models, result)),
        mistakes,
    )


@pytest.fixture
def mistakes(shown: ResultView) -> list[MistakeView]:
    """Return two pairs whose heatmaps are drawn."""
    found = [MistakeView(replace(shown, hits=(hit,)), ("owls", "cats")) for hit in shown.hits[1:]]
    different = replace(found[1].hit, verdict="different", similarity=0.2)
    return [found[0], replace(found[1], view=replace(shown, hits=(different,)), labels=("owls", "owls"))]


def test_the_page_is_whole_in_itself(mistakes: list[MistakeView]) -> None:
    text = evaluation_page([a_section(list("aabbcc"), ("m",), mistakes)])
    checked = Checker(text)
    assert not re.search(r"https?:|//[a-z]|url\(", re.sub(r"data:image/\w+;base64,[\w+/=]+", "", text))
    assert "script" not in checked.tags
    assert checked.tags.count("svg") == 1
    sources = [value for _, name, value in checked.attributes if name == "src"]
    assert len(sources) == 2 + 2 * 6  # the legend, and both pictures of each mistake three times
    assert all(value and value.startswith("data:image/") for value in sources)
    assert sum(tag == "img" for tag in checked.tags) == sum(name == "alt" for _, name, _ in checked.attributes)
    assert "default-src 'none'" in text
    assert ("svg", "aria-label", "Reliability diagram") in checked.attributes


def test_the_page_has_the_figures(mistakes: list[MistakeView]) -> None:
    result = figures(list("aabbcc"))
    words = Checker(evaluation_page([a_section(list("aabbcc"), ("m",), mistakes)])).text
    assert "6 pictures in 3 classes, 6 queries" in words
    assert "Of what m learnt from, 1,234 pictures are left out. Files that repeat others or cannot be used: 1." in words
    values = (
        result.rescored.map_at_100,
        result.pairs.accuracy,
        result.pairs.macro_recall,
        result.pairs.calibration_error,
    )
    assert all(f"{value:.4f}" in words for value in values)
    for phrase in ("P@10", "One class", "Two classes", "pairs drawn with the seed 7", "a and b", "of one class"):
        assert phrase in words


def test_the_diagram_has_a_dot_and_a_bar_for_each_bin() -> None:
    section = a_section(list("aabbcc"), ("m",), [])
    bins = len(next(iter(section.evaluation.results.values())).pairs.reliability)
    checked = Checker(evaluation_page([section]))
    assert checked.tags.count("circle") == checked.tags.count("rect") == bins > 1
    line = re.search(
        r'class="ideal" x1="([\d.]+)" y1="([\d.]+)" x2="([\d.]+)" y2="([\d.]+)"', evaluation_page([section])
    )
    assert line is not None
    assert [float(value) for value in line.groups()] == [52, 312, 452, 12]


def test_mistakes_name_the_true_classes(mistakes: list[MistakeView]) -> None:
    words = Checker(evaluation_page([a_section(list("aabbcc"), ("m",), mistakes)])).text
    for phrase in (
        "similar wrong: owls and cats",
        "different wrong: both are owls",
        "first picture, as it is",
        "80.0 %",
    ):
        assert phrase in words
    assert "None." in Checker(evaluation_page([a_section(list("aabbcc"), ("m",), [])])).text


def test_a_picture_that_is_gone_has_a_note(mistakes: list[MistakeView]) -> None:
    hit = replace(mistakes[0].hit, picture=None, explanation=None, note="cannot be explained: x.png does not exist")
    gone = replace(mistakes[0], view=replace(mistakes[0].view, hits=(hit,)))
    words = Checker(evaluation_page([a_section(list("aabbcc"), ("m",), [gone])])).text
    assert "cannot be explained: x.png does not exist" in words
    assert "cannot be shown" in words


def test_a_second_model_s_figures_stand_beside() -> None:
    one, two = (evaluation_page([a_section(list("aabbcc"), models, [])]) for models in (("m",), ("m", "other")))
    accuracy = f"{figures(list('aabbcc')).pairs.accuracy:.4f}"
    assert f"Accuracy</th><td>{accuracy}</td></tr>" in one
    assert f"Accuracy</th><td>{accuracy}</td><td>{accuracy}</td></tr>" in two
    assert "How well m tells pictures apart" in Checker(two).text
    assert two.count("circle") == one.count("circle")


def test_names_cannot_harm_the_page(shown: ResultView) -> None:
    other = f"other {EVIL}".replace("\udcff", "")
    safe = EVIL.replace("\udcff", "\\xff")
    mistake = MistakeView(replace(shown, name=safe, hits=(replace(shown.hits[1], name=safe),)), (safe, safe))
    labels = [EVIL.replace("\udcff", ""), "a", "a", other, other, "b"]
    text = evaluation_page([a_section(labels, (EVIL, "m"), [mistake], EVIL)])
    checked = Checker(text)
    assert not any(name == "onerror" for _, name, _ in checked.attributes)
    assert "<img onerror=alert(1)>\\xff" in checked.text
    text.encode("utf-8")
