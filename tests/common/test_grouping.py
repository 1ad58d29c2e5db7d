"""Star clustering of pairs, and hits collapsed under the first one that they equal."""

import numpy as np
import pytest
from numpy.typing import NDArray

from retrieval.common.grouping import Indices, collapse_groups, connected_components, star_clusters

LINE = np.array([0.0, 0.05, 0.10, 0.15, 0.20, 1.0, 1.01])  # each near its neighbour, the ends apart


def on_the_line(firsts: Indices, others: Indices) -> NDArray[np.float32]:
    return np.asarray(1 - np.abs(LINE[firsts] - LINE[others]), np.float32)


CHAIN = np.array([[0, 1], [1, 2], [2, 3], [3, 4], [5, 6]])


def test_components_are_what_is_joined() -> None:
    joined = sorted(sorted(each) for each in connected_components(CHAIN))
    assert joined == [[0, 1, 2, 3, 4], [5, 6]]
    assert connected_components(np.empty((0, 2), np.int64)) == []


def test_a_chain_does_not_join_its_ends() -> None:
    groups = star_clusters(CHAIN, np.arange(7), 0.89, on_the_line)
    assert [list(group) for group in groups] == [[0, 1, 2], [3, 4], [5, 6]]
    assert groups[0] == pytest.approx({0: 1.0, 1: 0.95, 2: 0.9}, abs=1e-6)


def test_the_order_says_who_is_first() -> None:
    order = np.array([4, 3, 0, 1, 2, 6, 5])
    groups = star_clusters(CHAIN, order, 0.89, on_the_line)
    assert [list(group) for group in groups] == [[2, 3, 4, 1, 0], [6, 5]]


def test_what_is_left_of_a_chain_alone_is_in_no_group() -> None:
    groups = star_clusters(np.array([[0, 1], [1, 2]]), np.array([0, 2, 1]), 0.94, on_the_line)
    assert [list(group) for group in groups] == [[0, 1]]


def test_hits_of_one_content_or_direction_are_one() -> None:
    vectors = np.array([[1, 0], [0, 1], [1, 0.01], [5, 0], [0.7, 0.7], [0, 2]], np.float32)
    hashes = [b"a", b"b", b"c", b"d", b"b", b"e"]
    assert collapse_groups(hashes, vectors) == [0, 1, 0, 0, 1, 1]


def test_hits_do_not_collapse_by_a_chain() -> None:
    angles = np.radians([0, 10, 20, 30])
    vectors = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    hashes = [b"a", b"b", b"c", b"d"]
    assert collapse_groups(hashes, vectors, threshold=0.98) == [0, 0, 1, 1]
    assert collapse_groups(hashes, vectors, threshold=1.0) == [0, 1, 2, 3]


def test_no_hits_and_zero_vectors_are_no_trouble() -> None:
    assert collapse_groups([], np.empty((0, 4), np.float32)) == []
    assert collapse_groups([b"a", b"b"], np.zeros((2, 4), np.float32)) == [0, 1]
