"""Whether hits answer a query: foreign questions, probabilities below the one set, and stores without statistics."""

from dataclasses import replace
from pathlib import Path

import pytest

from retrieval.explain.confidence import Confidence, judge_hits
from retrieval.explain.hit import Hit
from tests.support.hits import a_hit, explanation


def judged(*values: tuple[float, float]) -> list[Hit]:
    """Return hits with these probabilities and familiarities."""
    return [
        replace(a_hit(rank, Path("x"), explanation()), probability=probability, familiarity=familiarity)
        for rank, (probability, familiarity) in enumerate(values, 1)
    ]


def test_a_query_is_foreign_if_its_nearest_is_farther_than_those_of_seven_in_eight() -> None:
    doubt = "None of the pictures searched looks like this one: the nearest is farther away than that of 91 % of the"
    found = judge_hits(judged((0.9, 0.05), (0.8, 0.09)), 0.0)
    assert replace(found, doubt=None) == Confidence(0.0, False, 0.09, True, None)
    assert found.doubt == f"{doubt} gallery's own pictures."
    assert judge_hits(judged((0.1, 0.05), (0.01, 0.12))) == Confidence(None, True, 0.12, False, None)


def test_one_hit_must_reach_the_probability_that_was_set() -> None:
    hits = judged((0.6, 0.5), (0.7, 0.4))
    assert judge_hits(hits, 0.7) == Confidence(0.7, True, 0.5, False, None)
    found = judge_hits(hits, 0.75)
    assert (found.confident, found.foreign) == (False, False)
    assert found.doubt == (
        "Nothing in this gallery is confidently of the same kind: the best hit has 70.0 %, less than 75.0 %."
    )


@pytest.mark.parametrize(("confidence", "confident"), [(None, True), (0.8, True), (0.81, False)])
def test_without_statistics_similarity_counts(confidence: float | None, confident: bool) -> None:
    found = judge_hits([a_hit(1, Path("x"), explanation())], confidence)  # 80 % similar
    assert (found.confident, found.familiarity, found.foreign) == (confident, None, None)
    assert (found.doubt is None) is confident
    assert not judge_hits([a_hit(1, Path("x"), explanation(verdict="different"))]).confident


def test_no_hits_are_not_confident_and_need_no_doubt() -> None:
    assert judge_hits([], 0.0) == Confidence(0.0, False, None, None, None)
