"""The vector index of FAISS: exact for small galleries, inverted lists of short codes for large ones."""

from typing import Any, Self

import faiss
import numpy as np

from indexes.arrays import Ids, Vectors, unit
from indexes.vectors.base import NO_ID, Neighbours, no_neighbours
from indexes.vectors.sizing import FIRST_PROBES, list_count

EXACT = "IDMap,Flat"
_ROUNDS = 8  # of k-means; more do not raise the recall
_FLAT_LISTS = 4000  # of more lists, the nearest are found by a graph of their centroids, not one by one


class FaissIndex:
    """An index by the cosine of unit-length descriptors.

    It is exact (`EXACT`) or, above `MOST_EXACT` pictures, approximate: each channel of the randomly rotated descriptor
    in 4 bits, in inverted lists, of which a search looks into `probes`. The codes are those of Gao et al., "Practical
    and Asymptotically Optimal Quantization of High-Dimensional Vectors" (2024): more accurate than evenly spaced
    steps, and the first bit of each rules out most pictures. For unit vectors the squared L2 distance is 2 (1 - cos).
    """

    def __init__(self, index: faiss.Index) -> None:
        self.faiss = index
        ivf = faiss.try_extract_index_ivf(index)
        self._ivf: Any = None if ivf is None else faiss.downcast_index(ivf)

    @classmethod
    def empty(cls, dimension: int, count: int = 0) -> Self:
        """Return an empty exact index of descriptors with so many channels, with room for `count`."""
        index: Any = faiss.index_factory(dimension, EXACT, faiss.METRIC_INNER_PRODUCT)
        flat: Any = faiss.downcast_index(index.index)
        flat.codes.resize(count * flat.code_size)  # else it grows by doubling, with a copy beside it each time
        flat.codes.resize(0)
        return cls(index)

    @classmethod
    def train(cls, sample: Vectors, count: int) -> Self:
        """Return an empty approximate index for `count` descriptors, with lists learnt from a sample (N, C)."""
        channels = sample.shape[1]
        index = cls(faiss.index_factory(channels, _factory_string(channels, list_count(count)), faiss.METRIC_L2))
        index._ivf.cp.niter = _ROUNDS
        index.faiss.train(unit(sample))
        index.probes = FIRST_PROBES
        return index

    @property
    def is_exact(self) -> bool:
        return self._ivf is None

    @property
    def is_supported(self) -> bool:
        """Whether the index is of a present kind; a file of an earlier version may not be."""
        return self._ivf is None or isinstance(self._ivf, faiss.IndexIVFRaBitQ)

    @property
    def kind(self) -> str:
        """The string of FAISS's index factory for it."""
        return EXACT if self._ivf is None else _factory_string(self.faiss.d, self.lists)

    @property
    def lists(self) -> int:
        return 0 if self._ivf is None else int(self._ivf.nlist)

    @property
    def probes(self) -> int:
        return 0 if self._ivf is None else int(self._ivf.nprobe)

    @probes.setter
    def probes(self, lists: int) -> None:
        if self._ivf is not None:
            self._ivf.nprobe = min(max(lists, 1), self.lists)

    def close(self) -> None:
        """Do nothing: the memory is freed with the object."""

    def __len__(self) -> int:
        return int(self.faiss.ntotal)

    def add(self, ids: Ids, vectors: Vectors) -> None:
        self.faiss.add_with_ids(unit(vectors), ids)

    def remove(self, ids: Ids) -> None:
        if len(ids):
            self.faiss.remove_ids(faiss.IDSelectorBatch(ids))

    def search(self, queries: Vectors, k: int, among: Ids | None = None) -> Neighbours:
        found = min(k, len(self) if among is None else len(among))
        if found == 0:
            return no_neighbours(len(queries))
        values, ids = self.faiss.search(unit(queries), found, params=self._search_params(among))
        is_filled = (ids != NO_ID).any(axis=0)  # fewer than k: `among` has unknown ids, or the lists have no more
        distances = 1 - values if self.is_exact else values / 2
        return np.where(ids == NO_ID, np.float32(2), distances)[:, is_filled], ids[:, is_filled]

    def _search_params(self, among: Ids | None) -> Any:
        """Search every list if `among` is given, as its ids may be in any."""
        if among is None:
            return None
        selected = faiss.IDSelectorBatch(among)
        if self.is_exact:
            return faiss.SearchParameters(sel=selected)  # type: ignore[call-arg]
        inner = faiss.SearchParametersIVF(sel=selected, nprobe=self.lists)  # type: ignore[call-arg]
        return faiss.SearchParametersPreTransform(index_params=inner)  # type: ignore[call-arg]


def _factory_string(channels: int, lists: int) -> str:
    graph = "_HNSW32" if lists > _FLAT_LISTS else ""
    return f"RR{channels},IVF{lists}{graph},RaBitQ4"
