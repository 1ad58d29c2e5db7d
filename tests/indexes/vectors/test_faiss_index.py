"""FAISS keeps the contract of vector indexes: exact for small galleries, near enough for large ones."""

import numpy as np
import pytest

from indexes.arrays import Ids, Vectors, unit
from indexes.vectors.base import NO_ID
from indexes.vectors.faiss_index import EXACT, FaissIndex
from indexes.vectors.sizing import MOST_EXACT, list_count, sample_size, still_suits
from tests.support.index_contract import CHANNELS, IndexContract
from tests.support.vectors import clustered

COUNT = 4000


class TestFaissKeepsTheContract(IndexContract):
    def empty(self, channels: int) -> FaissIndex:
        return FaissIndex.empty(channels)


@pytest.fixture(scope="module")
def ids() -> Ids:
    return np.random.default_rng(1).permutation(10 * COUNT)[:COUNT].astype(np.int64)


@pytest.fixture
def approximate(ids: Ids) -> FaissIndex:
    vectors = clustered(COUNT)
    index = FaissIndex.train(vectors[: sample_size(COUNT)], COUNT)
    index.add(ids, vectors)
    return index


def recall(index: FaissIndex, ids: Ids, queries: Vectors, k: int) -> float:
    """Return the share of the true k nearest that are found."""
    true = ids[np.argsort(-unit(queries) @ unit(clustered(COUNT)).T, axis=1)[:, :k]]
    found = index.search(queries, k)[1]
    return float(np.mean([len(set(a) & set(b)) / k for a, b in zip(true.tolist(), found.tolist(), strict=True)]))


def test_kinds_are_faiss_factory_strings(approximate: FaissIndex) -> None:
    exact = FaissIndex.empty(CHANNELS)
    assert (exact.kind, exact.is_exact, exact.lists, exact.probes) == (EXACT, True, 0, 0)
    assert (approximate.kind, approximate.is_exact) == ("RR64,IVF126,RaBitQ4", False)
    assert (approximate.lists, approximate.probes, len(approximate)) == (126, 32, COUNT)


def test_list_counts_and_sample_sizes_equal_those_computed_by_hand() -> None:
    assert [list_count(count) for count in (1, 10_000, 1_000_000)] == [2, 200, 2000]
    assert [sample_size(count) for count in (100, 1_000_000)] == [100, 80_000]


def test_most_of_the_nearest_are_found(approximate: FaissIndex, ids: Ids) -> None:
    queries = clustered(50, seed=5)
    approximate.probes = approximate.lists
    assert recall(approximate, ids, queries, 10) >= 0.85  # of 4 bits a channel, without any rescoring
    true = ids[np.argsort(-unit(queries) @ unit(clustered(COUNT)).T, axis=1)[:, :10]]
    pools = approximate.search(queries, 100)[1]
    assert all(set(nearest) <= set(pool) for nearest, pool in zip(true.tolist(), pools.tolist(), strict=True))


def test_more_probes_never_find_fewer(approximate: FaissIndex, ids: Ids) -> None:
    queries, recalls = clustered(50, seed=5), []
    for probes in (1, 8, 126):
        approximate.probes = probes
        recalls.append(recall(approximate, ids, queries, 10))
    assert recalls == sorted(recalls)
    assert recalls[0] < recalls[-1]


def test_distances_are_close_to_the_true_ones(approximate: FaissIndex, ids: Ids) -> None:
    queries = clustered(20, seed=5)
    distances, found = approximate.search(queries, 10)
    places = {int(id_): place for place, id_ in enumerate(ids)}
    units = unit(clustered(COUNT))
    for query, row, near in zip(unit(queries), found, distances, strict=True):
        true = [1 - float(query @ units[places[int(id_)]]) for id_ in row]
        np.testing.assert_allclose(near, true, atol=0.05)
        assert near.tolist() == sorted(near.tolist())


def test_removed_ids_are_not_found_and_can_be_added_again(approximate: FaissIndex, ids: Ids) -> None:
    vectors = clustered(COUNT)
    gone = ids[:50]
    assert approximate.search(vectors[:1], 1)[1].tolist() == [[gone[0]]]
    approximate.remove(np.append(gone, 999_999))
    assert len(approximate) == COUNT - 50
    assert not set(approximate.search(vectors[:50], 100)[1].ravel().tolist()) & set(gone.tolist())
    approximate.add(gone[:1], vectors[:1])
    assert approximate.search(vectors[:1], 1)[1].tolist() == [[gone[0]]]


def test_among_searches_every_list(approximate: FaissIndex, ids: Ids) -> None:
    approximate.probes = 1
    among = ids[::400]
    found = approximate.search(clustered(5, seed=6), 100, among)[1]
    assert found.shape == (5, len(among))
    assert all(set(row) == set(among.tolist()) for row in found.tolist())
    assert approximate.search(clustered(5, seed=6), 3, np.array([999_999], np.int64))[1].shape == (5, 0)


def test_short_rows_are_filled_up_with_no_id(approximate: FaissIndex) -> None:
    approximate.probes = 1
    distances, found = approximate.search(clustered(30, seed=7), COUNT)
    counts = (found != NO_ID).sum(axis=1)
    assert counts.min() < counts.max() == found.shape[1] < COUNT
    for row, near, count in zip(found, distances, counts, strict=True):
        assert (row[:count] != NO_ID).all()
        assert (row[count:] == NO_ID).all()
        assert (near[count:] == 2).all()


def test_an_index_suits_the_counts_that_it_was_built_for(approximate: FaissIndex) -> None:
    exact = FaissIndex.empty(CHANNELS)
    assert [still_suits(count, exact.lists) for count in (0, MOST_EXACT, MOST_EXACT + 1)] == [True, True, False]
    large = FaissIndex.train(clustered(2000), 100_000)
    counts = (MOST_EXACT // 2, 20_000, 399_000, 410_000)
    assert [still_suits(count, large.lists) for count in counts] == [False, True, True, False]


def test_probes_stay_within_the_lists(approximate: FaissIndex) -> None:
    for requested, actual in ((0, 1), (7, 7), (100_000, 126)):
        approximate.probes = requested
        assert approximate.probes == actual


def test_unit_vectors_equal_those_computed_by_hand() -> None:
    vectors = np.array([[3, 4], [0, 0], [0, -1e-3]], np.float32)
    expected = np.array([[0.6, 0.8], [0, 0], [0, -1]], np.float32)
    np.testing.assert_allclose(unit(vectors), expected, rtol=1e-6)
    assert unit(vectors).dtype == np.float32
