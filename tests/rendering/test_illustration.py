"""Results that draw, save and show themselves."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from retrieval.common.errors import PictureError
from retrieval.explain.illustrated import HEATMAP_KINDS
from retrieval.rendering.illustration import HitList, illustrate_pair
from retrieval.rendering.overlay import display_picture, overlay
from tests.support.hits import a_hit, beside, correspondence, explanation, same, verification, without_regions
from tests.support.html_checker import Checker


@pytest.fixture
def hits(picture: Path) -> HitList:
    """Return the picture itself, a hit with strong evidence, and one with a tenth of it."""
    found = [a_hit(1, picture, same()), a_hit(2, picture, explanation()), a_hit(3, picture, explanation(0.1))]
    return HitList(picture, found, 500, {"search": 0.1})


def test_an_overlay_is_drawn_on_the_scale_of_its_query(hits: HitList, picture: Path) -> None:
    why = explanation()
    grey = display_picture(picture)
    for hit, share in ((hits[1], 1.0), (hits[2], 0.1)):
        for result in (hit, hit.explanation):
            assert result is not None
            assert result.overlay("query") == overlay(grey, why.query.factual, "factual", share)
            expected = overlay(grey, why.hit.counterfactual, "counterfactual", share / 2)
            assert result.overlay("hit", "counterfactual") == expected
    empty = np.zeros((7, 7), np.float32)
    assert hits[0].overlay() == overlay(grey, empty, "factual")


def test_one_hit_is_saved_beside_another(hits: HitList, tmp_path: Path) -> None:
    kinds = [f"{side}-{kind}" for side in ("query", "hit") for kind in ("factual", "counterfactual")]
    for rank in (2, 3):
        assert hits[rank - 1].save(tmp_path / "out") == [tmp_path / "out" / f"hit-0{rank}-{kind}.jpg" for kind in kinds]
    assert len(list((tmp_path / "out").iterdir())) == 8
    assert hits[0].save(tmp_path / "none") == []  # identical pictures have no heatmaps
    written = hits.save(tmp_path / "out")
    assert written[0] == tmp_path / "out" / "contact-sheet.png"
    assert sorted(written) == sorted((tmp_path / "out").iterdir())


def test_a_pair_is_saved_with_its_matches(picture: Path, tmp_path: Path) -> None:
    why = illustrate_pair(picture, Image.open(picture), explanation())
    assert len(why.save(tmp_path)) == 4
    matched = illustrate_pair(picture, picture, replace(explanation(), correspondence=correspondence()))
    assert matched.save(tmp_path)[-1].name == "hit-01-correspondences.png"


def test_grad_cam_is_drawn_saved_and_shown_beside_another_method(picture: Path, tmp_path: Path) -> None:
    (strong, faint) = HitList(picture, [a_hit(1, picture, beside()), a_hit(2, picture, beside(0.1))], 1, {})
    pair = illustrate_pair(picture, picture, beside())
    grey, names = display_picture(picture), [f"{side}-{kind}" for side in ("query", "hit") for kind in HEATMAP_KINDS]
    for why, share in ((strong.explanation, 1.0), (faint.explanation, 0.1), (pair, 1.0)):
        assert why is not None
        assert why.gradcam is not None
        heatmaps = why.gradcam.hit
        assert why.gradcam.overlay("hit") == overlay(grey, heatmaps.factual, "factual", share / 2)
        assert (why.gradcam._repr_html_() or "").count("<img") == 6
        assert why.gradcam._repr_html_() != why._repr_html_()
    assert faint.explanation is not None
    assert faint.explanation.gradcam is not None
    written = [path.name for path in faint.save(tmp_path / "all")]
    assert written[:4] == [f"hit-02-{name}.jpg" for name in names]
    gradcam = faint.explanation.gradcam.save(tmp_path / "gradcam")
    assert written[4:] == [path.name for path in gradcam]
    assert written[4:] == [f"hit-02-{name.replace('-', '-gradcam-')}.jpg" for name in names]
    for path in gradcam:
        assert path.read_bytes() == (tmp_path / "all" / path.name).read_bytes()


def test_a_notebook_marks_what_a_check_found(picture: Path) -> None:
    checked = replace(explanation(), verification=verification(False, False))
    html = HitList(picture, [a_hit(1, picture, checked), a_hit(2, picture, without_regions())], 1, {})._repr_html_()
    words = Checker(html).text
    assert words.count("heatmaps not supported") == 1
    assert words.count("the pictures match as wholes") == 2


def test_a_notebook_shows_the_probability_of_the_same_kind(picture: Path) -> None:
    hit = replace(a_hit(1, picture, explanation()), probability=0.25, familiarity=0.05)
    hits = HitList(picture, [hit], 1, {})
    words = Checker(hits._repr_html_()).text
    assert "same kind 25.0 %" in words
    assert "None of the pictures searched looks like this one" in words
    assert (hits.doubt or "").startswith("None of the pictures searched looks like this one")


def test_results_are_shown_with_pictures_inline(hits: HitList, picture: Path) -> None:
    for result, pictures in ((hits, 1 + 1 + 5 + 5), (hits[2], 6), (illustrate_pair(picture, picture, same()), 2)):
        html = result._repr_html_()
        assert html is not None
        page = Checker(html)
        sources = [value for tag, name, value in page.attributes if (tag, name) == ("img", "src")]
        assert len(sources) == pictures
        assert all(source and source.startswith("data:image/jpeg;base64,") for source in sources)
        assert not {"style", "script", "link"} & set(page.tags)  # they would reach beyond the result
    assert re.search(r"3 grey\.png ?80\.0 %, similar", Checker(hits._repr_html_()).text)


def test_names_are_escaped(tmp_path: Path) -> None:
    odd = tmp_path / "<script>&.png"
    Image.new("RGB", (30, 20)).save(odd)
    html = HitList(odd, [a_hit(1, odd, explanation())], 1, {})._repr_html_()
    assert "<script>" not in html
    assert "&lt;script&gt;&amp;.png" in html


def test_a_picture_that_is_gone_is_no_reason_to_fail(hits: HitList, picture: Path) -> None:
    picture.unlink()
    assert "cannot be shown" in hits._repr_html_()
    with pytest.raises(PictureError, match=r"grey\.png does not exist"):
        hits[1].overlay()


def test_hits_without_explanations_are_shown_and_not_drawn(picture: Path) -> None:
    (hit,) = HitList(picture, [a_hit(1, picture, None)], 1, {})
    assert (hit._repr_html_() or "").count("<img") == 2
    with pytest.raises(ValueError, match="was not explained"):
        hit.overlay()


def test_a_result_without_pictures_says_so() -> None:
    assert explanation()._repr_html_() is None
    with pytest.raises(ValueError, match="know their pictures"):
        explanation().overlay()


def test_no_hits_are_an_answer(picture: Path) -> None:
    assert "No hits" in HitList(picture, [], 0, {})._repr_html_()


def test_a_result_is_one_short_line(hits: HitList, picture: Path) -> None:
    assert repr(hits[1]) == f"<Hit 2: '{picture}', 80.0 %, similar>"
    assert repr(hits[1].explanation) == "<Explanation: 80.0 %, similar, by occlusion, magnitudes 1 and 0.5>"
    assert repr(explanation().query) == "<Heatmaps 7 x 7, magnitude 1>"
