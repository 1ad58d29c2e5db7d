"""The tables in a terminal: no name in them is broken, and no text from elsewhere is a control sequence."""

import io
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console, Group, RenderableType
from rich.text import Text

from retrieval.commands.output.audit import advice_lines
from retrieval.commands.output.evaluation import evaluation_table
from retrieval.commands.output.formats import failures_lines, simple_table
from retrieval.commands.output.query import pair_lines
from retrieval.commands.output.store import calibration_lines
from retrieval.commands.output.tables import NamedReason, WholeWords
from retrieval.commands.output.training import left_out_lines, models_lines
from retrieval.commands.shared.console import stdout
from retrieval.evaluation.audit.findings import Advice, AdviceKind, Example, Severity
from retrieval.evaluation.ranking import evaluate_head
from retrieval.model.bundle import Bundle
from retrieval.model.head import Head
from tests.support.calibrations import a_calibration
from tests.support.hits import explanation, same, without_regions

EVIL = "\x1b]0;evil\x07"


def printed(renderable: RenderableType) -> str:
    console = Console(width=300, force_terminal=True, color_system=None)
    with console.capture() as capture:
        console.print(renderable)
    return capture.get()


@pytest.mark.slow
def test_a_bundle_s_words_are_safe(tiny_bundle: Bundle) -> None:
    card = replace(
        tiny_bundle.card,
        name=EVIL,
        backbone=EVIL,
        provenance={"trained_on": EVIL},
        metrics={EVIL: {"p_at_1": 0.5}},
    )
    for metrics in (card.metrics, {}):
        shown = printed(models_lines([Bundle(Path("x"), replace(card, metrics=metrics))]))
        assert "\x1b" not in shown
        assert "\x07" not in shown
        assert shown.count("\\x1b]0;evil\\x07") == 3 + len(metrics)


def test_reasons_of_failures_are_safe() -> None:
    assert printed(Group(*failures_lines([(Path("name"), f"is {EVIL}")]))) == "  name is \\x1b]0;evil\\x07\n"


def test_a_pair_without_regions_that_matter_says_so() -> None:
    lines = printed(pair_lines(without_regions(), Path("x"))).splitlines()
    assert lines[1:2] == ["the pictures match as wholes: no region matters by itself"]
    lines = printed(pair_lines(without_regions(query=False), Path("x"))).splitlines()
    assert lines[1:2] == ["B: no region of this picture matters by itself"]
    for why in (explanation(), same()):
        assert "region" not in printed(pair_lines(why, Path("x")))


def test_a_calibration_says_what_it_gained_for_hits() -> None:
    text = printed(calibration_lines(a_calibration()))
    assert "first five hits" in text
    assert "0.0625" in text
    assert "`retrieve query --coverage 0.9` shows 1.4 hits on average" in text
    assert "the labels do not tell" in printed(calibration_lines(replace(a_calibration(), hits=None)))


def test_a_calibration_that_gained_nothing_says_so() -> None:
    assert "the order of hits stays" in printed(calibration_lines(a_calibration()))
    assert "it gained nothing" in printed(calibration_lines(a_calibration(after=0.3)))


def test_two_models_are_shown_side_by_side() -> None:
    one = Head(np.array([[1, 0]], np.float32), np.zeros(1, np.float32), slope=1.0, intercept=-1.5, normalize=False)
    descriptors = np.array([[10, 0], [1, 9], [0.5, 9], [9.5, 5]], np.float32)
    result = evaluate_head(one, descriptors, ["a", EVIL, EVIL, "b"], pairs=1)
    alone, both = (
        printed(evaluation_table("set", {"m": result})),
        printed(evaluation_table("set", {"m": result, EVIL: result})),
    )
    assert alone.startswith("set: 4 pictures, 3 classes, 2 queries leaving one out")
    assert [len(line.split()) - 1 for shown in (alone, both) for line in shown.splitlines() if "P@1 " in line] == [3, 6]
    assert " macro precision " in both
    assert re.search(r"a and b +1 +100.0 %", both)
    assert "of one class" not in both  # none of them was said different
    assert "\\x1b]0;evil\\x07" in both
    assert "\x1b" not in both


WORDS = st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]), min_size=1, max_size=60)


@settings(max_examples=60, deadline=None)
@given(rows=st.lists(st.tuples(WORDS, WORDS, WORDS), min_size=1, max_size=4), width=st.integers(20, 130))
def test_no_cell_of_a_table_is_broken_at_any_width(rows: list[tuple[str, str, str]], width: int) -> None:
    table = simple_table("#", "picture", "label", name="picture", rows=(map(Text, row) for row in rows))
    console = Console(width=width, record=True, file=io.StringIO())
    console.print(table, crop=False)
    lines = console.export_text().split("\n")
    assert [[any(cell in line for line in lines) for cell in row] for row in rows] == [[True] * 3] * len(rows)
    assert not [line for line in lines if cell_len(line.rstrip()) > width and " · " in line]


@settings(max_examples=60, deadline=None)
@given(words=st.lists(WORDS, min_size=1, max_size=9), width=st.integers(1, 80))
def test_no_word_of_a_sentence_is_broken_at_any_width(words: list[str], width: int) -> None:
    console = Console(width=width, record=True, file=io.StringIO())
    console.print(WholeWords(Text(" ".join(words))), crop=False)
    lines = console.export_text().rstrip("\n").split("\n")
    assert " ".join(lines).split(" ") == words
    assert all(cell_len(line) <= width or " " not in line for line in lines)


def test_paths_in_what_is_left_out_and_in_advice_are_whole() -> None:
    path = Path("/data", "a-long-folder-name-" * 4, "a picture.jpg")
    advice = Advice(
        AdviceKind.leak, Severity.serious, f"{path} is there twice", "delete one", examples=(Example(path, "a", "x"),)
    )
    for lines, count in ((left_out_lines(((path, "is empty"),)), 1), (advice_lines(1, advice), 2)):
        console = Console(width=40, record=True, file=io.StringIO())
        console.print(lines, crop=False)
        shown = console.export_text()
        assert shown.count(f"/{'a-long-folder-name-' * 4}/a") == count
    assert "\n   delete one\n" in shown


@pytest.mark.parametrize(("width", "expected"), [(80, 1), (20, 2), (10, 2)])
def test_a_reason_has_a_line_of_its_own_only_if_there_is_no_room(width: int, expected: int) -> None:
    console = Console(width=width, record=True, file=io.StringIO())
    console.print(NamedReason("a/long/path.jpg", "is empty"), crop=False)
    lines = console.export_text().rstrip("\n").split("\n")
    assert (len(lines), "a/long/path.jpg" in lines[0], lines[-1].endswith("is empty")) == (expected, True, True)


def test_a_pipe_gets_each_line_whole(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("COLUMNS", raising=False)
        patch.setattr(stdout, "_width", None)
        stdout.print("word " * 300)
        stdout.print(simple_table("picture", rows=[[Text("x" * 700)]]))
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["word"] * 300
    assert "x" * 700 in lines[-2]
