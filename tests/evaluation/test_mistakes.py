"""Mistakes ready to show: explained, on one scale, with a note if a picture is gone."""

from pathlib import Path

import numpy as np
import pytest

from retrieval.datasets.class_folders import find_samples
from retrieval.evaluation.mistakes import explain_mistakes
from retrieval.evaluation.verdicts import Mistake
from retrieval.explain.illustrated import HEATMAP_KINDS
from retrieval.explain.pair_explainer import PairExplainer
from retrieval.model.bundle import Bundle
from retrieval.model.encoder import Encoder
from retrieval.rendering.presentation import side_views


def test_mistakes_are_explained_on_one_scale(tiny_bundle: Bundle, small_gallery: Path) -> None:
    samples = find_samples(small_gallery).samples
    one, two = explain_mistakes(Encoder(tiny_bundle), samples, [Mistake(0, 5, 0.1, False), Mistake(1, 2, 0.75, True)])
    assert one.labels == ("apples", "boats")
    assert two.labels == ("apples", "apples")
    assert [each.hit.rank for each in (one, two)] == [1, 2]
    assert (one.view.name, one.hit.name, one.hit.similarity, one.hit.verdict) == ("0.png", "1.png", 0.9, "similar")
    assert (two.hit.similarity, two.hit.verdict) == (0.25, "different")
    assert one.view.scale == two.view.scale
    drawn = [side for each in (one, two) for side in side_views(each.view, each.hit)]
    assert max(side.strength for side in drawn) == pytest.approx(1)
    assert any(side.draw_overlay(kind) is not None for side in drawn for kind in HEATMAP_KINDS)


def test_explanations_are_those_of_the_pair(tiny_bundle: Bundle, small_gallery: Path) -> None:
    samples, comparer = find_samples(small_gallery).samples, Encoder(tiny_bundle)
    expected = PairExplainer(comparer, comparer.bundle.head).explain(samples[0].path, samples[5].path)
    (found,) = explain_mistakes(comparer, samples, [Mistake(0, 5, expected.distance, False)])
    assert found.hit.explanation is not None
    np.testing.assert_array_equal(found.hit.explanation.query.factual, expected.query.factual)
    np.testing.assert_array_equal(found.hit.explanation.hit.counterfactual, expected.hit.counterfactual)


def test_a_picture_that_is_gone_leaves_a_note(tiny_bundle: Bundle, small_gallery: Path) -> None:
    (small_gallery / "cats" / "0.png").rename(small_gallery / "cats" / "0\n.png")
    samples = find_samples(small_gallery).samples
    place = next(place for place, sample in enumerate(samples) if "\n" in sample.path.name)
    samples[place].path.unlink()
    (found,) = explain_mistakes(Encoder(tiny_bundle), samples, [Mistake(0, place, 0.1, False)])
    assert (found.view.picture is None, found.hit.picture is None) == (False, True)
    assert found.hit.note == "cannot be explained: 0\\x0a.png does not exist"
    assert found.hit.explanation is None
    assert found.view.scale == 0.0


def test_no_mistakes_are_none(tiny_bundle: Bundle) -> None:
    assert explain_mistakes(Encoder(tiny_bundle), [], []) == []
