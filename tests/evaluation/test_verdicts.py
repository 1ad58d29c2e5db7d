"""Verdicts: every figure computed by hand, the classes that are confused, the worst mistakes."""

import numpy as np
import pytest

from retrieval.common.metrics import sigmoid
from retrieval.evaluation.verdicts import Confusion, Mistake, find_confusions, pair_metrics, worst_mistakes
from retrieval.model.head import Head

ONE = Head(np.array([[1, 0]], np.float32), np.zeros(1, np.float32), slope=1.0, intercept=-1.5, normalize=False)
"""e is the first channel, so D = |x1 - x2|, and similar is below 1.5."""

LINE = np.array([[0, 0], [1, 0], [2, 0], [4, 0]], np.float32)


def test_pair_figures_by_hand() -> None:
    descriptors = np.array([[0, 0], [1, 0], [2, 0], [4, 0]], np.float32)
    first, second = np.array([0, 0, 1, 0]), np.array([1, 2, 2, 3])  # D = 1, 2, 1, 4
    similar = np.array([True, True, False, False])
    figures = pair_metrics(ONE, descriptors, first, second, similar)
    assert (figures.similar, figures.different) == (2, 2)
    assert figures.accuracy == 0.5  # said: similar, different, similar, different
    assert figures.precision == 0.5
    assert figures.recall == 0.5
    assert figures.thresholded_auc == (1 + 0.5 + 0.5 + 0) / 4  # 1 against 1 and 0; 0 against 1 and 0
    assert figures.roc_auc == (0.5 + 1 + 0 + 1) / 4  # 1 against 1 and 4; 2 against 1 and 4
    # Similarities sigmoid(1.5 - D) in fifteenths: .622 twice (bin 9, one is similar), .378 (5), .076 (1).
    s = sigmoid(1.5 - np.array([1.0, 2.0, 4.0]))
    expected = (2 * abs(s[0] - 1 / 2) + abs(s[1] - 1) + abs(s[2] - 0)) / 4
    assert figures.calibration_error == pytest.approx(expected, abs=1e-9)


def test_no_pair_said_similar_divides_nothing_by_zero() -> None:
    descriptors = np.array([[0, 0], [9, 0], [18, 0]], np.float32)
    figures = pair_metrics(ONE, descriptors, np.array([0, 0]), np.array([1, 2]), np.array([True, False]))
    assert (figures.precision, figures.recall) == (0.0, 0.0)


def test_figures_of_both_verdicts_by_hand() -> None:
    # D = 1, 2, 1, 1, 4; said: similar, different, similar, similar, different.
    first, second = np.array([0, 0, 1, 0, 0]), np.array([1, 2, 2, 1, 3])
    figures = pair_metrics(ONE, LINE, first, second, np.array([True, True, True, False, False]))
    counts = figures.true_similar, figures.false_similar, figures.true_different, figures.false_different
    assert counts == (2, 1, 1, 1)
    assert figures.accuracy == 3 / 5
    assert (figures.precision, figures.recall) == (2 / 3, 2 / 3)
    assert figures.macro_precision == pytest.approx((2 / 3 + 1 / 2) / 2)
    assert figures.macro_recall == pytest.approx((2 / 3 + 1 / 2) / 2)
    # Verdicts 1, 0, 1 against 1 and 0: a tie and a win, a loss and a tie, a tie and a win.
    assert figures.thresholded_auc == pytest.approx((0.5 + 1 + 0 + 0.5 + 0.5 + 1) / 6)
    # The similarities: .076 (bin 1), .378 (bin 5), and .622 three times (bin 9), of which two are of one class.
    s = sigmoid(1.5 - np.array([4.0, 2.0, 1.0]))
    assert [(each.low, each.high, each.count) for each in figures.reliability] == [
        (1 / 15, 2 / 15, 1),
        (5 / 15, 6 / 15, 1),
        (9 / 15, 10 / 15, 3),
    ]
    assert [each.mean for each in figures.reliability] == pytest.approx(s.tolist())
    assert [each.share for each in figures.reliability] == pytest.approx([0, 1, 2 / 3])


def test_confusions_of_classes_by_hand() -> None:
    # a: 0 and 1; b: 2 and 9; c: 1.2; d: 100 and 101. Similar where less than 1.5 apart.
    x = [0, 2, 1, 1.2, 9, 100, 101]
    descriptors = np.array([[value, 0] for value in x], np.float32)
    found = find_confusions(ONE, descriptors, ["a", "b", "a", "c", "b", "d", "d"])
    # a-c: 1.2, 0.2: both similar; b-c: 0.8 and 7.8; a-b: 2, 9, 1, 8.
    assert found.across == (Confusion("a", "c", 2, 1.0), Confusion("b", "c", 2, 0.5), Confusion("a", "b", 4, 0.25))
    assert found.within == (Confusion("b", "b", 1, 1.0),)  # 7 apart; those of a and d are 1 apart


def test_the_five_most_confused_classes_are_reported() -> None:
    descriptors = np.zeros((8, 2), np.float32)
    assert [each.wrong for each in find_confusions(ONE, descriptors, list("aabbccdd")).across] == [1.0] * 5
    assert find_confusions(ONE, descriptors, list("aabbccdd")).within == ()


def test_confusions_are_those_of_looking_at_every_pair() -> None:
    random = np.random.default_rng(5)
    descriptors = random.normal(0, 1.5, (600, 2)).astype(np.float32)  # more than one block
    labels = [str(code) for code in random.integers(0, 3, 600)]
    near = np.abs(np.maximum(descriptors[:, 0], 0)[:, None] - np.maximum(descriptors[:, 0], 0)) < 1.5
    found = find_confusions(ONE, descriptors, labels)
    places = {label: np.array([each == label for each in labels]) for label in "012"}
    assert len(found.across) == 3
    for each in found.across:
        said = near[np.ix_(places[each.first], places[each.second])]
        assert each.pairs == said.size
        assert each.wrong == pytest.approx(float(said.mean()), abs=1e-4)
    for each in found.within:
        own = near[np.ix_(places[each.first], places[each.first])]
        apart = ~own[np.triu_indices(len(own), 1)]
        assert each.pairs == apart.size
        assert each.wrong == pytest.approx(float(apart.mean()), abs=1e-4)


# D of the pairs of LINE: 0-1 1, 0-2 2, 0-3 4, 1-2 1, 1-3 3, 2-3 2.
WRONG = (
    np.array([0, 1, 0, 1, 2, 2, 0]),
    np.array([1, 2, 2, 3, 3, 1, 3]),
    np.array([False, False, True, True, True, False, False]),
)


def test_the_worst_mistakes_are_half_of_each_kind() -> None:
    # Said similar and wrong: 0-1, 1-2 and, the same, 2-1. Said different and wrong: 1-3 (D 3), 0-2 and 2-3 (D 2).
    near, three, two = (float(ONE.distance(np.array(value))) for value in (1.0, 3.0, 2.0))
    similar = [Mistake(0, 1, near, False), Mistake(1, 2, near, False)]
    different = [Mistake(1, 3, three, True), Mistake(0, 2, two, True), Mistake(2, 3, two, True)]
    for count, expected in {
        0: (),
        1: (*similar[:1],),
        2: (similar[0], different[0]),
        3: (*similar, different[0]),
        4: (*similar, *different[:2]),
        5: (*similar, *different),  # there are no more of the first kind
        99: (*similar, *different),
    }.items():
        assert worst_mistakes(ONE, LINE, WRONG, count) == expected


def test_where_one_kind_of_mistake_is_missing_there_are_more_of_the_other() -> None:
    said_similar = (np.array([0, 1]), np.array([1, 2]), np.zeros(2, np.bool_))
    assert len(worst_mistakes(ONE, LINE, said_similar, 2)) == 2
    assert worst_mistakes(ONE, LINE, (WRONG[0][:1], WRONG[1][:1], np.ones(1, np.bool_)), 2) == ()
