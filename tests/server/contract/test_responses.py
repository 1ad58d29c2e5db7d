"""What the API says of an explanation."""

import numpy as np
import pytest

from retrieval.common.settings import MethodName
from retrieval.explain.explanation import Explanation, Heatmaps, Verdict
from retrieval.server.contract.responses import ExplanationOut, explanation_out

EMPTY = Heatmaps(np.zeros((2, 2), np.float32), np.zeros((2, 2), np.float32), 0.0)
STRONG = Heatmaps(np.eye(2, dtype=np.float32), np.zeros((2, 2), np.float32), 0.5)


def explained(query: Heatmaps, hit: Heatmaps, verdict: Verdict = "similar", identical: bool = False) -> ExplanationOut:
    distance = 0.1 if verdict == "similar" else 0.9
    out = explanation_out(1, Explanation(query, hit, distance, verdict, identical, MethodName.occlusion))
    assert isinstance(out, ExplanationOut)
    return out


@pytest.mark.parametrize(("verdict", "word"), [("similar", "match"), ("different", "differ")])
def test_a_pair_without_any_region_that_matters_is_explained_as_wholes(verdict: Verdict, word: str) -> None:
    sentence = f"The pictures {word} as wholes: no region of either matters by itself."
    assert explained(EMPTY, EMPTY, verdict).wholes == sentence


def test_one_picture_without_any_region_that_matters_says_so_by_itself() -> None:
    out = explained(EMPTY, STRONG)
    assert (out.wholes, out.hit.missing) == (None, None)
    assert out.query.missing == "no region of this picture matters by itself"
    assert out.hit.factual == [[1, 0], [0, 1]]


def test_identical_pictures_are_not_explained_as_wholes() -> None:
    out = explained(EMPTY, EMPTY, identical=True)
    assert (out.wholes, out.query.missing) == (None, "identical: nothing to explain")
