"""Any number of descriptors, with the statistics of real ones.

A made descriptor lies between two real neighbours, and is moved by what two other neighbours differ in:

    x = a + t (b - a) + s (c - d),  t uniform in (0, 1), s = 0.7

a and c are real descriptors of length 1 drawn by chance, b and d each one of the ten nearest to them; what falls below
0, where no average of activations lies, is set to 0. With s = 0.7 as many made descriptors as there are real ones have
about the same distances to their 1st, 10th and 100th neighbours, the same share of variance in the first principal
components, and a somewhat higher intrinsic dimension, which is harder; `statistics` measures it and each run tells it.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import faiss
import numpy as np
from numpy.typing import NDArray

from indexes.arrays import Ids, Vectors, unit
from retrieval.engine import Engine

CHUNK = 50_000
_NEIGHBOURS = 10
_MOVED = 0.7  # s
_QUERIES = 300  # descriptors that statistics rest on


def real_descriptors(folders: list[Path]) -> Vectors:
    """Unit-length descriptors (N, C) of all pictures of these folders, by the default model."""
    with tempfile.TemporaryDirectory() as store:
        engine = Engine.create(store, device="cpu")
        engine.index(*folders)
        parts = [vectors for _, vectors in engine.catalogue.descriptors.all(engine.bundle.fingerprint)]
        engine.close()
    return unit(np.concatenate(parts))


@dataclass(frozen=True)
class Maker:
    """Makes descriptors from real ones (N, C) of unit length and the places of their nearest (N, 10)."""

    real: Vectors
    nearest: Ids

    @classmethod
    def of(cls, real: Vectors) -> Maker:
        """With the real ones' neighbours found by exact search."""
        nearest = faiss.knn(real, real, _NEIGHBOURS + 1, metric=faiss.METRIC_INNER_PRODUCT)[1]
        return cls(real, nearest[:, 1:])

    def made(self, count: int, seed: int) -> Vectors:
        """So many (count, C) of unit length; the seed decides them all."""
        random = np.random.default_rng(seed)
        a, b = self._neighbours(random, count)
        x = a + random.random((count, 1), np.float32) * (b - a)
        c, d = self._neighbours(random, count)
        x += np.float32(_MOVED) * (c - d)
        return unit(np.maximum(x, 0, out=x))

    def chunks(self, count: int) -> Iterator[tuple[Ids, Vectors]]:
        """Ids from 1 on and descriptors, 50,000 at once; the same each time."""
        for start in range(0, count, CHUNK):
            ids = np.arange(start, min(start + CHUNK, count), dtype=np.int64) + 1
            yield ids, self.made(len(ids), 1 + start // CHUNK)

    def _neighbours(self, random: np.random.Generator, count: int) -> tuple[Vectors, Vectors]:
        first = random.integers(0, len(self.real), count)
        return self.real[first], self.real[self.nearest[first, random.integers(0, _NEIGHBOURS, count)]]


def statistics(vectors: Vectors) -> dict[str, float]:
    """Of unit-length vectors: medians of distances (1 - cos) to neighbours, variance in components, dimension.

    The dimension is the maximum likelihood estimate of Levina and Bickel (2004) from 100 neighbours.
    """
    order = np.random.default_rng(0).permutation(len(vectors))
    queries, others = vectors[order[:_QUERIES]], vectors[order[_QUERIES:]]
    near = np.sort(1 - queries @ others.T, axis=1)[:, : min(100, len(others))]
    lengths = np.sqrt(2 * np.maximum(near, 1e-9))
    variance = np.linalg.eigvalsh(np.cov(vectors.T))[::-1]
    shares = np.cumsum(variance) / variance.sum()
    places = {f"{place}": float(np.median(near[:, min(place, near.shape[1]) - 1])) for place in (1, 10, 100)}
    return {
        **{f"distance to neighbour {place}": value for place, value in places.items()},
        **{f"variance in {count} components": float(shares[count - 1]) for count in (128, 256, 512)},
        "intrinsic dimension": float(np.median(1 / np.mean(np.log(lengths[:, -1:] / lengths[:, :-1]), axis=1))),
    }


def exact_pools(maker: Maker, count: int, queries: Vectors, k: int) -> Ids:
    """Return the true k nearest (Q, k) of all generated descriptors, nearest first, by brute force."""
    nearest: NDArray[np.float32] = np.empty((len(queries), 0), np.float32)
    pools = np.empty((len(queries), 0), np.int64)
    for ids, vectors in maker.chunks(count):
        nearest = np.concatenate([nearest, queries @ vectors.T], axis=1)
        pools = np.concatenate([pools, np.broadcast_to(ids, (len(queries), len(ids)))], axis=1)
        kept = np.argpartition(-nearest, k - 1, axis=1)[:, :k]
        nearest, pools = np.take_along_axis(nearest, kept, 1), np.take_along_axis(pools, kept, 1)
    return np.take_along_axis(pools, np.argsort(-nearest, axis=1, kind="stable"), 1)
