"""The page of queries: whole in itself, with the same words as the contact sheet, and safe from any name."""

import re
from dataclasses import replace
from pathlib import Path

from retrieval.rendering.contact_sheet import draw_contact_sheet
from retrieval.rendering.html import render_hits_page
from retrieval.rendering.presentation import IDENTICAL, NO_HITS, NO_REGION, ResultView, build_result_view
from tests.support.hits import a_hit, explanation, without_regions
from tests.support.html_checker import Checker


def test_the_page_is_whole_in_itself(shown: ResultView) -> None:
    text = render_hits_page([shown, shown])
    checked = Checker(text)
    assert not re.search(r"https?:|//[a-z]", re.sub(r"data:image/\w+;base64,[\w+/=]+", "", text))
    assert "script" not in checked.tags
    sources = [value for tag, name, value in checked.attributes if name == "src"]
    assert len(sources) == 2 + 2 * (2 + 6 + 6)  # the legend, and as many for each of two queries
    assert all(value and value.startswith("data:image/") for value in sources)
    assert sum(tag == "img" for tag in checked.tags) == sum(name == "alt" for _, name, _ in checked.attributes)
    assert "default-src 'none'" in text


def test_the_page_says_what_the_sheet_says(shown: ResultView) -> None:
    words = Checker(render_hits_page([shown])).text
    for phrase in (
        IDENTICAL,
        "80.0 %",
        "similar",
        "for “similar”: strong",
        "for “similar”: faint",
        "rank 5 in the index",
    ):
        assert phrase in words
    assert "7 × 7 places" in words


def test_the_captions_follow_the_verdict(picture: Path) -> None:
    words = Checker(
        render_hits_page([build_result_view(picture, "q", [a_hit(1, picture, explanation(verdict="different"))])])
    ).text
    assert "for “different”" in words
    assert "against “different”" in words


def test_names_cannot_harm_the_page(picture: Path) -> None:
    evil = '"><img onerror=alert(1)>\udcff'
    hit = replace(a_hit(1, Path(f"/x/{evil}/{evil}"), None, f"note {evil}"), label=evil)
    text = render_hits_page([build_result_view(picture, evil, [hit])])
    checked = Checker(text)
    assert not any(name == "onerror" for _, name, _ in checked.attributes)
    assert "<img onerror=alert(1)>\\xff" in checked.text
    text.encode("utf-8")


def test_hits_without_an_explanation_are_listed(picture: Path, tmp_path: Path) -> None:
    hits = [
        a_hit(1, picture, None),
        a_hit(2, tmp_path / "gone.jpg", None, "cannot be explained: it does not exist"),
        a_hit(3, tmp_path / "gone.jpg", explanation()),
    ]
    shown = build_result_view(picture, "q", hits)
    words = Checker(render_hits_page([shown])).text
    assert "no explanation" in words
    assert "cannot be explained: it does not exist" in words
    assert "cannot be shown: it does not exist" in words


def test_pictures_without_regions_that_matter_are_described_in_words(picture: Path) -> None:
    whys = [without_regions(verdict="different"), without_regions(hit=False)]
    shown = build_result_view(picture, "q", [a_hit(rank, picture, why) for rank, why in enumerate(whys, 1)])
    words = Checker(render_hits_page([shown])).text
    assert words.count("the pictures differ as wholes") == 2
    assert words.count(NO_REGION) == 1


def test_doubt_is_a_sentence(picture: Path) -> None:
    unsure = build_result_view(picture, "q", [a_hit(1, picture, explanation(0.001))], 0.9)
    words = Checker(render_hits_page([unsure])).text
    assert "Nothing in this gallery is confidently similar: the best hit has 80.0 %" in words
    assert words.count("the pictures match as wholes") == 2
    assert "for “similar”" not in words
    assert (
        "confidently"
        not in Checker(render_hits_page([build_result_view(picture, "q", [a_hit(1, picture, explanation())])])).text
    )


def test_a_hit_has_the_probability_of_its_kind_and_the_models_own_number(picture: Path) -> None:
    hit = replace(a_hit(1, picture, explanation()), probability=0.25, familiarity=0.5, plain_similarity=0.7)
    words = Checker(render_hits_page([build_result_view(picture, "q", [hit])])).text
    assert "same kind 25.0 %" in words
    assert "70.0 % by the model alone" in words
    assert "the probability that this hit shows the same kind" in words
    without = Checker(render_hits_page([build_result_view(picture, "q", [a_hit(1, picture, explanation())])])).text
    assert "same kind" not in without
    assert "by the model alone" not in without


def test_a_query_without_hits_says_so(picture: Path) -> None:
    shown = build_result_view(picture, "q", [])
    assert NO_HITS in Checker(render_hits_page([shown])).text


def test_a_query_that_cannot_be_read_again_still_has_its_page(picture: Path, tmp_path: Path) -> None:
    shown = build_result_view(tmp_path / "gone.jpg", "gone.jpg", [a_hit(1, picture, explanation())])
    Checker(render_hits_page([shown]))
    assert draw_contact_sheet(shown).height > 200
