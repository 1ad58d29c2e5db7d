"""What every vector index must do, held against brute force in NumPy. An engine's tests inherit it."""

from abc import ABC, abstractmethod

import numpy as np
import pytest

from indexes.arrays import Ids, Vectors
from indexes.vectors.base import VectorIndex

CHANNELS = 24
TOLERANCE = 1e-5


def made(count: int, seed: int = 0, channels: int = CHANNELS) -> Vectors:
    """Seeded vectors (count, channels) of very different lengths."""
    random = np.random.default_rng(seed)
    lengths = 10 ** random.uniform(-2, 2, (count, 1))
    return (random.normal(size=(count, channels)) * lengths).astype(np.float32)


def brute_force(queries: Vectors, ids: Ids, vectors: Vectors) -> dict[tuple[int, int], float]:
    """1 - cos of every query (by its place) and id, in float64; a zero vector is as far as a perpendicular one."""
    distances = {}
    for place, query in enumerate(queries.astype(np.float64)):
        for id_, vector in zip(ids, vectors.astype(np.float64), strict=True):
            lengths = float(np.linalg.norm(query) * np.linalg.norm(vector))
            distances[place, int(id_)] = 1 - float(query @ vector) / lengths if lengths else 1.0
    return distances


class IndexContract(ABC):
    """Inherit it as `class TestMine(IndexContract)` and say how an empty index is made."""

    @abstractmethod
    def empty(self, channels: int) -> VectorIndex:
        """Return an index of descriptors with this many channels."""

    def filled(self, ids: Ids, vectors: Vectors) -> VectorIndex:
        index = self.empty(vectors.shape[1])
        index.add(ids, vectors)
        return index

    def check(self, queries: Vectors, ids: Ids, vectors: Vectors, k: int, among: Ids | None = None) -> None:
        """Check the k nearest: each distance belongs to its id, they are in order, and no nearer one is missing."""
        found, found_ids = self.filled(ids, vectors).search(queries, k, among)
        allowed = set(ids.tolist()) if among is None else set(among.tolist()) & set(ids.tolist())
        expected = brute_force(queries, ids, vectors)
        assert found.shape == found_ids.shape == (len(queries), min(k, len(allowed)))
        assert (str(found.dtype), str(found_ids.dtype)) == ("float32", "int64")
        for place in range(len(queries)):
            here = found_ids[place].tolist()
            assert len(set(here)) == len(here)
            assert set(here) <= allowed
            assert found[place].tolist() == sorted(found[place].tolist())
            true = [expected[place, id_] for id_ in here]
            nearest = sorted(expected[place, id_] for id_ in allowed)[:k]
            np.testing.assert_allclose(found[place], true, atol=TOLERANCE)
            np.testing.assert_allclose(true, nearest, atol=TOLERANCE)

    @pytest.mark.parametrize("k", [1, 7, 50])
    def test_the_nearest_are_those_of_brute_force(self, k: int) -> None:
        ids = np.random.default_rng(9).permutation(1000)[:50].astype(np.int64)
        self.check(made(5, seed=1), ids, made(50), k)

    def test_distances_by_hand(self) -> None:
        ids = np.array([10, 20, 30], np.int64)
        vectors = np.array([[0, 5], [3, 4], [-2, 0]], np.float32)
        distances, found = self.filled(ids, vectors).search(np.array([[7, 0]], np.float32), 3)
        assert found.tolist() == [[20, 10, 30]]
        np.testing.assert_allclose(distances, [[0.4, 1.0, 2.0]], atol=1e-6)

    def test_the_length_of_vectors_does_not_matter(self) -> None:
        ids, vectors, queries = np.arange(20, dtype=np.int64), made(20), made(2, seed=1)
        plain = self.filled(ids, vectors).search(queries, 20)
        scaled = self.filled(ids, 1000 * vectors).search(0.001 * queries, 20)
        assert plain[1].tolist() == scaled[1].tolist()
        np.testing.assert_allclose(plain[0], scaled[0], atol=TOLERANCE)

    def test_k_beyond_size_gives_all(self) -> None:
        self.check(made(3, seed=1), np.arange(4, dtype=np.int64), made(4), k=500)

    def test_the_first_of_more_are_the_same(self) -> None:
        index = self.filled(np.arange(40, dtype=np.int64), made(40))
        query = made(1, seed=1)
        assert index.search(query, 5)[1].tolist()[0] == index.search(query, 15)[1].tolist()[0][:5]

    @pytest.mark.parametrize("k", [1, 3, 500])
    def test_among_restricts_to_these(self, k: int) -> None:
        ids = np.arange(100, 150, dtype=np.int64)
        among = np.array([149, 101, 120, 121, 122], np.int64)
        self.check(made(4, seed=1), ids, made(50), k, among)

    def test_among_ids_that_are_not_there(self) -> None:
        ids = np.arange(10, dtype=np.int64)
        self.check(made(2, seed=1), ids, made(10), 5, np.array([3, 777, 888, 999], np.int64))
        self.check(made(2, seed=1), ids, made(10), 5, np.array([777], np.int64))

    def test_among_none_finds_none(self) -> None:
        self.check(made(2, seed=1), np.arange(10, dtype=np.int64), made(10), 5, np.array([], np.int64))

    def test_an_empty_index_finds_nothing(self) -> None:
        index = self.empty(CHANNELS)
        distances, ids = index.search(made(3), 5)
        assert (len(index), distances.shape, ids.shape) == (0, (3, 0), (3, 0))

    def test_an_empty_index_takes_queries_of_any_channels(self) -> None:
        assert self.empty(1).search(made(1), 5)[1].shape == (1, 0)

    def test_what_is_added_later_is_found(self) -> None:
        vectors = made(30)
        index = self.empty(CHANNELS)
        for start in (0, 10, 20):
            index.add(np.arange(start, start + 10, dtype=np.int64), vectors[start : start + 10])
            assert len(index) == start + 10
        assert index.search(vectors, 1)[1].ravel().tolist() == list(range(30))

    def test_what_is_removed_is_not_found(self) -> None:
        ids, vectors = np.arange(30, dtype=np.int64), made(30)
        index = self.filled(ids, vectors)
        index.remove(np.array([0, 7, 29, 777], np.int64))
        index.remove(np.array([], np.int64))
        assert len(index) == 27
        assert set(index.search(vectors, 30)[1].ravel().tolist()) == set(range(30)) - {0, 7, 29}
        index.add(np.array([7], np.int64), vectors[7:8])
        assert index.search(vectors[7:8], 1)[1].tolist() == [[7]]

    def test_a_vector_finds_itself_at_distance_zero(self) -> None:
        vectors = made(30)
        distances, ids = self.filled(np.arange(30, dtype=np.int64), vectors).search(vectors, 1)
        assert ids.ravel().tolist() == list(range(30))
        np.testing.assert_allclose(distances, 0, atol=1e-6)

    def test_duplicates_are_all_found(self) -> None:
        vectors = np.repeat(made(3), 4, axis=0)
        ids = np.arange(12, dtype=np.int64)
        self.check(vectors[:1], ids, vectors, k=12)
        _, found = self.filled(ids, vectors).search(vectors[:1], 4)
        assert sorted(found[0].tolist()) == [0, 1, 2, 3]

    def test_a_zero_vector_is_as_far_as_a_perpendicular_one(self) -> None:
        vectors = np.array([[0, 0], [1, 0], [0, 1], [-1, 0]], np.float32)
        ids = np.arange(4, dtype=np.int64)
        self.check(np.array([[1, 0]], np.float32), ids, vectors, k=4)
        distances, _ = self.filled(ids, vectors).search(np.zeros((1, 2), np.float32), 4)
        assert distances.tolist() == [[1.0, 1.0, 1.0, 1.0]]

    def test_what_was_given_is_not_changed(self) -> None:
        vectors, queries = made(5), made(2, seed=1)
        before = vectors.copy(), queries.copy()
        self.filled(np.arange(5, dtype=np.int64), vectors).search(queries, 2)
        np.testing.assert_array_equal(vectors, before[0])
        np.testing.assert_array_equal(queries, before[1])
