"""Pairs of pictures: batches of whole classes, section 4's random pairs, and all pairs of a batch."""

from collections import Counter

import numpy as np
import pytest

from retrieval.common.errors import GalleryError
from retrieval.datasets.pair_sampling import (
    Codes,
    all_pairs,
    balanced_pairs,
    can_make_pairs,
    class_batches,
    random_batches,
    random_pairs,
)

CODES = np.array([0] * 7 + [1] * 4 + [2] * 9 + [3])


def batches(seed: int, pictures: int = 3, size: int = 9, codes: Codes = CODES) -> list[Codes]:
    return list(class_batches(codes, pictures, size, np.random.default_rng(seed)))


def test_all_pairs_by_hand() -> None:
    first, second = all_pairs(4)
    assert list(zip(first.tolist(), second.tolist(), strict=True)) == [(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)]
    assert [len(each) for each in all_pairs(1)] == [0, 0]


def test_class_batches_hold_every_row_once_except_for_what_fills_a_chunk() -> None:
    counts = Counter(np.concatenate(batches(0)).tolist())
    assert set(counts) == set(range(len(CODES)))
    # Chunks of 3: class 0 has 7 and gets 2 more, class 1 has 4 and gets 2, class 2 has 9, class 3 has 1 and gets 2.
    extra = [sum(counts[place] - 1 for place in np.flatnonzero(code == CODES)) for code in range(4)]
    assert extra == [2, 2, 0, 2]


def test_a_class_batch_is_made_of_chunks_of_one_class() -> None:
    drawn = batches(1)
    # 3 + 2 + 3 + 1 chunks, three to a batch of 9
    assert [len(each) for each in drawn] == [9, 9, 9]
    chunks = np.concatenate(drawn).reshape(-1, 3)
    assert all(len(set(CODES[chunk])) == 1 for chunk in chunks)
    assert all(len(set(chunk)) == 3 for chunk in chunks if CODES[chunk[0]] != 3)


def test_a_class_batch_has_two_chunks_at_least() -> None:
    assert [len(each) for each in batches(0, pictures=3, size=2)] == [6, 6, 6, 6, 3]


def test_classes_are_spread_over_the_epoch() -> None:
    codes = np.repeat([0, 1], 40)
    for batch in batches(3, pictures=4, size=16, codes=codes):
        # 10 chunks of each class, evenly: four chunks in a row are never of one class
        assert set(codes[batch]) == {0, 1}


def test_the_seed_decides_class_batches() -> None:
    one, same, other = (np.concatenate(batches(seed)).tolist() for seed in (5, 5, 6))
    assert one == same
    assert one != other
    assert list(class_batches(np.array([], np.int64), 3, 9, np.random.default_rng(0))) == []


def test_random_batches_pair_each_picture_as_the_paper_does() -> None:
    partners: dict[int, list[int]] = {}
    for places, first, second in random_batches(CODES, 9, np.random.default_rng(2)):
        assert len(set(places.tolist())) == len(places) <= 9
        assert len(first) == len(second) <= 6  # 9 // 3 anchors
        assert set(first.tolist()) | set(second.tolist()) == set(range(len(places)))
        for anchor, other in zip(places[first].tolist(), places[second].tolist(), strict=True):
            partners.setdefault(anchor, []).append(other)
    assert set(partners) == set(range(20))  # row 20 is alone in its class
    for anchor, (same, different) in partners.items():
        assert same != anchor
        assert CODES[same] == CODES[anchor]
        assert CODES[different] != CODES[anchor]


def test_random_batches_come_in_another_order_and_with_others_each_time() -> None:
    def epoch(seed: int) -> list[list[int]]:
        return [places.tolist() for places, _, _ in random_batches(CODES, 12, np.random.default_rng(seed))]

    assert epoch(1) == epoch(1)
    assert epoch(1) != epoch(2)


def test_random_pairs_with_a_count() -> None:
    first, second, similar = random_pairs(CODES, 4, 5)
    assert similar.tolist() == [True] * 5 + [False] * 5
    np.testing.assert_array_equal(CODES[first] == CODES[second], similar)
    assert len(set(first[:5])) == len(set(first[5:])) == 5
    with pytest.raises(GalleryError, match="21 similar and 21 different pairs are not possible, as only 20 pictures"):
        random_pairs(CODES, 4, 21)


def test_random_pairs_of_one_class_or_of_single_pictures_are_none() -> None:
    for codes in ([], [0, 0, 0], [0, 1, 2]):
        assert [len(each) for each in random_pairs(np.array(codes, np.int64), 0)] == [0, 0, 0]


def test_balanced_pairs_draw_classes_evenly() -> None:
    codes = np.array([0] * 90 + [1] * 10 + [2])
    first, second, different = balanced_pairs(codes, 400, np.random.default_rng(0))
    np.testing.assert_array_equal(codes[first] != codes[second], different)
    assert different.sum() == 400
    assert (first != second).all()
    of_small = np.mean(codes[first[~different]] == 1)
    assert 0.4 < of_small < 0.6  # half, though it has a tenth of the pictures


@pytest.mark.parametrize("codes", [[], [0], [0, 1], [0, 0], [0, 0, 1], [2, 2, 5], [1, 3, 4]])
def test_pairs_of_both_kinds_can_be_made_where_they_are_drawn(codes: list[int]) -> None:
    both = np.array(codes, np.int64)
    assert can_make_pairs(both) == (len(random_pairs(both, 0)[0]) > 0)
