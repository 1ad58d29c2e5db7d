"""Views of a query: one scale for all hits, safe names, a note if a picture cannot be read."""

from dataclasses import replace
from pathlib import Path

import pytest

from retrieval.explain.explanation import Explanation
from retrieval.explain.illustrated import HEATMAP_KINDS
from retrieval.rendering.presentation import (
    IDENTICAL,
    NO_REGION,
    ResultView,
    build_pair_view,
    build_result_view,
    side_views,
)
from tests.support.hits import a_hit, explanation, same, without_regions


def test_the_scale_is_the_largest_magnitude_of_all_hits(shown: ResultView) -> None:
    assert shown.scale == 1.0
    assert [hit.rank for hit in shown.hits] == [1, 2, 3]


def test_strength_is_a_share_of_the_scale(shown: ResultView) -> None:
    strengths = [[side.strength for side in side_views(shown, hit)] for hit in shown.hits]
    assert strengths[1] == [1.0, 0.5]
    assert strengths[2] == pytest.approx([0.1, 0.05])


def test_the_strength_of_evidence_is_a_word(shown: ResultView) -> None:
    query, hit = side_views(shown, shown.hits[1])
    assert [query.strength_word(kind) for kind in HEATMAP_KINDS] == ["strong", "moderate"]
    assert [hit.strength_word(kind) for kind in HEATMAP_KINDS] == ["moderate", "moderate"]
    faint, fainter = side_views(shown, shown.hits[2])
    assert [faint.strength_word("factual"), fainter.strength_word("counterfactual")] == ["faint", "faint"]
    assert side_views(shown, shown.hits[0])[0].strength_word("factual") == "none"


def test_identical_pictures_have_no_overlays(shown: ResultView) -> None:
    for side in side_views(shown, shown.hits[0]):
        assert side.placeholder == IDENTICAL
        assert [side.draw_overlay(kind) for kind in HEATMAP_KINDS] == [None, None]


def test_no_evidence_at_all_has_no_strength(picture: Path) -> None:
    shown = build_result_view(picture, "q", [a_hit(1, picture, explanation(0.0))])
    assert [side.strength for side in side_views(shown, shown.hits[0])] == [0.0, 0.0]
    assert build_result_view(picture, "q", []).scale == 0.0


@pytest.mark.parametrize(
    ("why", "words"),
    [
        (explanation(0.013), "the pictures match as wholes: no region matters by itself"),  # almost no evidence
        (without_regions(), "the pictures match as wholes: no region matters by itself"),
        (without_regions(verdict="different"), "the pictures differ as wholes: no region matters by itself"),
    ],
)
def test_pictures_without_regions_that_matter_have_words_and_no_overlay(
    why: Explanation, words: str, picture: Path
) -> None:
    shown = build_result_view(picture, "q", [a_hit(1, picture, why), a_hit(2, picture, explanation())])
    for side in side_views(shown, shown.hits[0]):
        assert (side.placeholder, side.heatmaps) == (words, None)
        assert [side.draw_overlay(kind) for kind in HEATMAP_KINDS] == [None, None]


@pytest.mark.parametrize("why", [explanation(0.02), without_regions(query=False)])  # 0.03 in all, and half of that
def test_one_picture_may_have_no_region_that_matters(why: Explanation, picture: Path) -> None:
    shown = build_result_view(picture, "q", [a_hit(1, picture, why)])
    query, hit = side_views(shown, shown.hits[0])
    assert query.draw_overlay("factual") is not None
    assert (hit.placeholder, hit.heatmaps) == (NO_REGION, None)


def test_a_view_without_a_confidently_similar_hit_says_so(picture: Path) -> None:
    hits = [a_hit(1, picture, explanation())]  # 80 % similar
    assert build_result_view(picture, "q", hits).doubt is None
    assert build_result_view(picture, "q", hits, 0.8).doubt is None
    assert build_result_view(picture, "q", hits, 0.95).doubt == (
        "Nothing in this gallery is confidently similar: the best hit has 80.0 %, less than 95.0 %."
    )
    different = [a_hit(1, picture, explanation(verdict="different"))]
    assert "the best hit has 20.0 %, less than 50.0 %" in (build_result_view(picture, "q", different).doubt or "")
    assert build_result_view(picture, "q", [], 0.95).doubt is None


def test_a_hit_that_cannot_be_read_has_a_note(picture: Path, tmp_path: Path) -> None:
    gone = tmp_path / "gone\n.jpg"
    shown = build_result_view(
        picture, "a\nb", [replace(a_hit(1, gone, None), label="l\n"), a_hit(2, gone, None, "a\nnote")]
    )
    assert shown.name == "a\\x0ab"
    assert (shown.hits[0].name, shown.hits[0].label) == ("gone\\x0a.jpg", "l\\x0a")
    assert [hit.note for hit in shown.hits] == ["cannot be shown: it does not exist", "a\\x0anote"]
    assert [hit.picture for hit in shown.hits] == [None, None]


def test_a_pair_is_a_query_and_its_only_hit(picture: Path, tmp_path: Path) -> None:
    pair = build_pair_view(picture, "a", tmp_path / "gone.jpg", "b", same())
    assert (pair.name, pair.hits[0].name, pair.hits[0].index_rank) == ("a", "b", None)
    assert pair.picture is not None
    assert pair.hits[0].note == "cannot be shown: it does not exist"
