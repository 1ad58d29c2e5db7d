"""Contact sheets: aligned rows, heat where the heatmap has it, and any name and shape."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from retrieval.rendering.contact_sheet import _Sheet, draw_contact_sheet, draw_pair_sheet
from retrieval.rendering.presentation import ResultView, build_pair_view, build_result_view
from retrieval.rendering.verification_text import describe_support
from tests.support.hits import a_hit, explanation, verification, without_regions


def test_the_contact_sheet_has_a_row_a_hit(shown: ResultView) -> None:
    one, two, three = (draw_contact_sheet(replace(shown, hits=shown.hits[:count])) for count in (1, 2, 3))
    assert one.width == two.width == three.width
    assert three.height - two.height == two.height - one.height > 149  # the pictures' height in cells of 224
    assert three.mode == "RGB"


def test_the_sheet_s_heat_is_where_the_heatmap_has_it(picture: Path) -> None:
    sheet = draw_contact_sheet(build_result_view(picture, "q", [a_hit(1, picture, explanation())]))
    colour = np.asarray(sheet.convert("HSV"))[220:, :, 1].astype(int)  # below legend and captions
    warm_cell = colour[:, 276:500]  # the second column: the query's factual overlay
    row, column = np.unravel_index(int(warm_cell.argmax()), warm_cell.shape)
    assert 224 / 7 <= column < 2 * 224 / 7
    assert row < warm_cell.shape[0] / 2


def test_a_sheet_of_odd_names_and_shapes_can_be_drawn(tmp_path: Path) -> None:
    strip = tmp_path / "strip.png"
    Image.new("RGB", (9000, 2), "red").save(strip)
    gone = tmp_path / ("\udcff\x1b Ü漢字 " + 60 * "long ")
    hits = [
        a_hit(1, strip, explanation(verdict="different")),
        a_hit(2, gone, None, "cannot be explained: it does not exist " + 40 * "and so on "),
        a_hit(3, gone, explanation()),
        a_hit(4, strip, None),
    ]
    sheet = draw_contact_sheet(build_result_view(strip, str(gone), hits))
    assert sheet.width == draw_contact_sheet(build_result_view(strip, "q", [])).width


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return what is written on sheets from now on, placeholders too."""
    written: list[str] = []
    text, placeholder = _Sheet.text, _Sheet.placeholder

    def record_text(sheet: _Sheet, at: tuple[int, int], words: str, *arguments: Any, **options: Any) -> int:
        written.append(words)
        return text(sheet, at, words, *arguments, **options)

    def record_placeholder(sheet: _Sheet, box: tuple[int, int, int, int], words: str) -> None:
        written.append(words)
        placeholder(sheet, box, words)

    monkeypatch.setattr(_Sheet, "text", record_text)
    monkeypatch.setattr(_Sheet, "placeholder", record_placeholder)
    return written


def test_a_sheet_has_at_most_twenty_hits_and_counts_the_rest(shown: ResultView, written: list[str]) -> None:
    hits = tuple(replace(shown.hits[0], rank=rank) for rank in range(1, 31))
    twenty = draw_contact_sheet(replace(shown, hits=hits[:20]))
    assert not any("more" in words for words in written)
    assert draw_contact_sheet(replace(shown, hits=hits)).size == twenty.size
    assert any("20 hits, most similar first, and 10 more" in words for words in written)


def test_a_sheet_names_doubt_and_missing_evidence(picture: Path, written: list[str]) -> None:
    hits = [a_hit(1, picture, without_regions())]
    sure, unsure = (draw_contact_sheet(build_result_view(picture, "q", hits, confidence)) for confidence in (0.8, 0.9))
    assert sum("confidently similar" in words for words in written) == 1
    assert unsure.height > sure.height
    assert sum("the pictures match as wholes" in words for words in written) == 4


def test_a_sheet_has_the_probability_of_the_same_kind(picture: Path, written: list[str]) -> None:
    hit = a_hit(1, picture, explanation())
    draw_contact_sheet(build_result_view(picture, "q", [hit]))
    assert not any("same kind" in words for words in written)
    draw_contact_sheet(build_result_view(picture, "q", [replace(hit, probability=0.25, familiarity=0.5)]))
    assert "same kind 25.0 %" in written


def test_a_sheet_says_what_a_check_found(picture: Path, written: list[str]) -> None:
    checks = [verification(holds, holds) for holds in (True, False)]
    whys = [explanation(), *(replace(explanation(), verification=check) for check in checks)]
    sheets = [draw_contact_sheet(build_result_view(picture, "q", [a_hit(1, picture, why)])) for why in whys]
    assert [words for words in written if words.startswith("Heatmaps ")] == list(map(describe_support, checks))
    assert sheets[0].height < sheets[1].height == sheets[2].height
    band = sheets[2].crop((0, 190, sheets[2].width, 240))  # between the hit's name and its pictures
    assert (179, 38, 30) in {colour for _, colour in band.getcolors(10**6) or []}
    written.clear()
    pairs = [draw_pair_sheet(build_pair_view(picture, "a", picture, "b", why)) for why in whys]
    assert describe_support(checks[1]) in written
    assert pairs[0].height < pairs[2].height


def test_a_long_text_is_cut_in_its_middle_with_few_measures(monkeypatch: pytest.MonkeyPatch) -> None:
    sheet, measured = _Sheet(100, 100), 0
    measure = sheet.measure

    def count_measures(text: str, size: int) -> int:
        nonlocal measured
        measured += 1
        return measure(text, size)

    monkeypatch.setattr(sheet, "measure", count_measures)
    text = "".join(chr(65 + place % 26) for place in range(4000))
    cut = sheet._truncate(text, 15, 300)
    assert measured < 20
    head, tail = cut.split("…")
    assert text.startswith(head)
    assert text.endswith(tail)
    assert len(head) - len(tail) in (0, 1)
    longer = f"{head}{text[len(head)]}…{tail}" if len(head) == len(tail) else f"{head}…{text[-len(tail) - 1]}{tail}"
    assert measure(cut, 15) <= 300 < measure(longer, 15)
    assert sheet._truncate("short", 15, 300) == "short"
    assert sheet._truncate("short", 15, 1) == "…"
