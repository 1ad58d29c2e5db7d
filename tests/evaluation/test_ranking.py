"""Figures of a head on a few descriptors, all computed by hand; the pairs that are drawn."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from retrieval.common.errors import GalleryError
from retrieval.datasets.pair_sampling import random_pairs
from retrieval.evaluation.ranking import evaluate_head, nearest
from retrieval.model.head import Head

ONE = Head(np.array([[1, 0]], np.float32), np.zeros(1, np.float32), slope=1.0, intercept=-1.5, normalize=False)
"""e is the first channel, so D = |x1 - x2|, and similar is below 1.5."""

# Cosine sees the angles 0, 84, 87 and 29 degrees; the head sees x = 10, 1, 0.5 and 9.
DESCRIPTORS = np.array([[10, 0], [1, 9], [0.5, 9], [9, 5]], np.float32)
LABELS = ["far", "near", "near", "far"]


def test_index_and_rescored_orders_by_hand() -> None:
    # Both orders put a's d first (29 degrees, 1), b's c first (3 degrees, 0.5), c's b, d's a: all right.
    result = evaluate_head(ONE, DESCRIPTORS, LABELS)
    assert (result.pictures, result.classes, result.queries) == (4, 2, 4)
    for ranking in (result.index, result.rescored):
        assert (ranking.p_at_1, ranking.p_at_5, ranking.p_at_10, ranking.map_at_100) == (1.0, 0.2, 0.1, 1.0)


def test_rescoring_changes_the_order_by_hand() -> None:
    # Labels by height, which only the cosine of these descriptors follows:
    #         x    y   angle  label
    descriptors = np.array([[1.0, 10], [5, 50], [4.5, 1], [1.5, 0.3]], np.float32)  # angles 84.3, 84.3, 12.5, 11.3
    labels = ["steep", "steep", "flat", "flat"]
    result = evaluate_head(ONE, descriptors, labels)
    # By cosine each query's nearest is the other of its class.
    assert (result.index.p_at_1, result.index.map_at_100) == (1.0, 1.0)
    # By |x1 - x2|: a (1.0): d .5, c 3.5, b 4 -> third; b (5): c .5, d 3.5, a 4 -> third;
    #               c (4.5): b .5, d 3, a 3.5 -> second; d (1.5): a .5, c 3, b 3.5 -> second.
    assert result.rescored.p_at_1 == 0.0
    assert result.rescored.p_at_5 == pytest.approx(1 / 5)
    assert result.rescored.map_at_100 == pytest.approx((1 / 3 + 1 / 3 + 1 / 2 + 1 / 2) / 4)


def test_only_the_pool_is_rescored() -> None:
    descriptors = np.array([[1.0, 10], [5, 50], [4.5, 1], [1.5, 0.3]], np.float32)
    result = evaluate_head(ONE, descriptors, ["steep", "steep", "flat", "flat"], pool=1)
    assert result.rescored == result.index
    assert result.index.p_at_1 == 1.0


def test_pictures_alone_in_their_class_ask_nothing() -> None:
    descriptors = np.array([[1, 0], [1, 0.1], [0, 1]], np.float32)
    result = evaluate_head(ONE, descriptors, ["a", "a", "alone"])
    assert (result.pictures, result.classes, result.queries) == (3, 2, 2)
    assert (result.pairs.similar, result.pairs.different) == (2, 2)
    assert result.index.p_at_1 == 1.0


def test_random_pairs_are_one_of_each_kind_a_picture() -> None:
    codes = np.array([0, 0, 0, 1, 1, 2, 1])
    first, second, similar = random_pairs(codes, seed=5)
    with_company = [0, 1, 2, 3, 4, 6]  # picture 5 is alone in its class
    assert sorted(first[similar]) == with_company
    assert sorted(first[~similar]) == with_company
    assert np.all(first != second)
    np.testing.assert_array_equal(codes[first] == codes[second], similar)


def test_random_pairs_are_decided_by_their_seed() -> None:
    codes = np.repeat(np.arange(4), 10)
    for one, same, other in zip(random_pairs(codes, 3), random_pairs(codes, 3), random_pairs(codes, 4), strict=True):
        np.testing.assert_array_equal(one, same)
        assert one.shape == other.shape
    assert not np.array_equal(random_pairs(codes, 3)[1], random_pairs(codes, 4)[1])


def test_so_many_pairs_are_drawn_of_those_that_there_are() -> None:
    codes = np.repeat(np.arange(4), 10)
    drawn = set(zip(*(values.tolist() for values in random_pairs(codes, 3)), strict=True))
    first, second, similar = random_pairs(codes, 3, 7)
    assert similar.tolist() == [True] * 7 + [False] * 7
    chosen = set(zip(first.tolist(), second.tolist(), similar.tolist(), strict=True))
    assert len(chosen) == 14
    assert chosen <= drawn
    assert set(first[similar]) != set(first[~similar])
    np.testing.assert_array_equal(random_pairs(codes, 3, 7)[0], first)
    assert not np.array_equal(random_pairs(codes, 4, 7)[0], first)


def test_as_many_pairs_as_there_are_are_all_of_them() -> None:
    codes = np.array([0, 0, 1, 1, 2])
    every, chosen = random_pairs(codes, 1), random_pairs(codes, 1, 4)
    assert sorted(zip(*every, strict=True)) == sorted(zip(*chosen, strict=True))


def test_more_pairs_than_there_are_is_refused() -> None:
    with pytest.raises(GalleryError, match=r"5 similar and 5 different .* only 4 pictures .*: ask for at most 4"):
        random_pairs(np.array([0, 0, 1, 1, 2]), 0, 5)


def test_figures_are_of_the_requested_pairs() -> None:
    pairs = evaluate_head(ONE, DESCRIPTORS, LABELS, pairs=2).pairs
    assert (pairs.similar, pairs.different) == (2, 2)


@pytest.mark.parametrize("labels", [["a", "a", "a"], ["a", "b", "c"], []])
def test_nothing_to_compare_is_refused(labels: list[str]) -> None:
    descriptors = np.ones((len(labels), 2), np.float32)
    with pytest.raises(GalleryError, match="give at least two classes, one of them with two pictures"):
        evaluate_head(ONE, descriptors, labels)


def test_random_pairs_are_those_of_looking_at_every_picture() -> None:
    codes = np.random.default_rng(1).integers(0, 7, 200)
    random = np.random.default_rng(2)
    expected = []
    for place, code in enumerate(codes):
        same = np.flatnonzero((codes == code) & (np.arange(200) != place))
        expected += [random.choice(same), random.choice(np.flatnonzero(codes != code))]
    assert random_pairs(codes, 2)[1].tolist() == expected


@pytest.mark.parametrize("values", [2, 10, 10**9])
@pytest.mark.parametrize("count", [1, 7, 49, 50])
def test_the_nearest_are_those_of_sorting_everything(values: int, count: int) -> None:
    distances = np.random.default_rng(3).integers(0, values, (20, 50)).astype(np.float32)
    distances[:, 5] = np.inf
    expected = np.argsort(distances, axis=1, kind="stable")[:, :count]
    np.testing.assert_array_equal(nearest(distances, count), expected)


def test_the_nearest_are_found_without_sorting_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    sorted_at_once: list[int] = []
    argsort = np.argsort

    def noted(values: NDArray[Any], **options: Any) -> NDArray[np.int64]:
        sorted_at_once.append(values.shape[1])
        return argsort(values, **options)

    monkeypatch.setattr(np, "argsort", noted)
    nearest(np.random.default_rng(4).random((3, 1000), np.float32), 10)
    assert sorted_at_once == [10]
