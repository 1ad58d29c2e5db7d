"""The vector index in a collection of Milvus: ids, unit vectors, and the pictures' labels."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from indexes.arrays import Ids, Vectors, unit
from indexes.errors import StoreError
from indexes.vectors.base import NO_ID, Neighbours, no_neighbours
from indexes.vectors.milvus_connection import LONG_TIMEOUT, NOT_FOUND, NOT_LOADED, MilvusConnection, error_code
from indexes.vectors.sizing import FIRST_PROBES

LabelLookup = Callable[[Ids], dict[int, str]]
"""Returns the labels of pictures by their ids, without pictures that have none."""

_MAX_BATCH_BYTES = 8 << 20  # bytes of vectors in a message; Milvus accepts 64 MB
_IDS = 10_000  # in an expression
_ANSWERS = 200_000  # hits for all queries of a message
_MOST_HITS = 16_384  # that Milvus returns for a query


@dataclass(frozen=True)
class MilvusCollection:
    """A collection: its name, the channels of its vectors, and the number of its lists; 0 if it is exact."""

    name: str
    channels: int
    lists: int


class MilvusIndex:
    """An index by the cosine of unit vectors in one collection.

    It is exact (FLAT) or, for as many pictures as FAISS uses codes for, has inverted lists of whole vectors (IVF_FLAT)
    in each of the server's segments. Reads are bounded (they may miss what another process wrote in the last seconds)
    until this index has written: from then on they are strong, so that it finds what it has added itself.

    `find_collection` finds the collection that another process has rebuilt; `before_change` is called before the first
    change.
    """

    def __init__(
        self,
        server: MilvusConnection,
        collection: MilvusCollection,
        labels: LabelLookup,
        find_collection: Callable[[], MilvusCollection | None],
        before_change: Callable[[], None] = lambda: None,
    ) -> None:
        server.acquire()
        self._server = server
        self._labels = labels
        self._find_collection = find_collection
        self._before_change: Callable[[], None] | None = before_change
        self._probes = min(FIRST_PROBES, collection.lists)
        self.collection = collection

    @property
    def is_exact(self) -> bool:
        return self.collection.lists == 0

    @property
    def kind(self) -> str:
        return f"Milvus IVF_FLAT {self.lists}" if self.lists else "Milvus FLAT"

    @property
    def lists(self) -> int:
        return self.collection.lists

    @property
    def probes(self) -> int:
        return self._probes

    @probes.setter
    def probes(self, lists: int) -> None:
        self._probes = min(max(lists, 1), self.lists)

    def close(self) -> None:
        self._server.release()

    def __len__(self) -> int:
        rows = self._run(
            lambda client, again: client.query(
                self.collection.name, output_fields=["count(*)"], consistency_level="Strong"
            )
        )
        return int(rows[0]["count(*)"])

    def add(self, ids: Ids, vectors: Vectors) -> None:
        """Add descriptors, in messages that Milvus accepts; one that may have arrived is repeated as an upsert."""
        self._start_change()
        labels = self._labels(ids)
        units = unit(vectors)
        for part in _slices(len(ids), max(1, _MAX_BATCH_BYTES // (4 * max(1, units.shape[1])))):
            rows = [
                {"id": id_, "vector": vector, "label": labels.get(id_, "")}
                for id_, vector in zip(ids[part].tolist(), units[part], strict=True)
            ]
            self._run(partial(self._insert, rows=rows))

    def remove(self, ids: Ids) -> None:
        if not len(ids):
            return
        self._start_change()
        for part in _slices(len(ids), _IDS):
            self._run(partial(self._delete, condition=_id_filter(ids[part])))

    def search(self, queries: Vectors, k: int, among: Ids | None = None) -> Neighbours:
        """Search; with `among`, in every list, as its ids may be in any, and for a part of them at a time."""
        if among is None:
            return self._search_where(queries, k, "", self._probes)
        conditions = (_id_filter(among[part]) for part in _slices(len(among), _IDS))
        parts = [self._search_where(queries, k, condition, self.lists) for condition in conditions]
        return _merge_nearest(parts, k) if parts else no_neighbours(len(queries))

    def search_label(self, queries: Vectors, k: int, label: str) -> Neighbours:
        if not label:  # which is stored for pictures without one
            return no_neighbours(len(queries))
        return self._search_where(queries, k, f"label == {quote(label)}", self.lists)

    def _search_where(self, queries: Vectors, k: int, condition: str, probes: int) -> Neighbours:
        if queries.shape[1] != self.collection.channels:
            if len(self):
                raise StoreError(
                    f"{self._server.address.text} holds descriptors of {self.collection.channels} channels, not of"
                    f" {queries.shape[1]}: run `retrieve index`"
                )
            return no_neighbours(len(queries))
        k = min(k, _MOST_HITS)
        units = unit(queries)
        most = max(1, min(_ANSWERS // max(1, k), _MAX_BATCH_BYTES // (4 * units.shape[1])))
        parts = [self._search_batch(units[part], k, condition, probes) for part in _slices(len(units), most)]
        return _to_arrays([row for part in parts for row in part])

    def _search_batch(self, units: Vectors, k: int, condition: str, probes: int) -> list[list[tuple[float, int]]]:
        answer = self._run(
            lambda client, again: client.search(
                self.collection.name,
                data=list(units),
                anns_field="vector",
                limit=k,
                filter=condition,
                output_fields=["id"],
                search_params={"metric_type": "COSINE", "params": {"nprobe": probes} if probes else {}},
                consistency_level="Bounded" if self._before_change else "Strong",
            )
        )
        return [[(hit["distance"], hit["id"]) for hit in hits] for hits in answer]

    def _insert(self, client: Any, again: bool, rows: list[dict[str, Any]]) -> None:
        (client.upsert if again else client.insert)(self.collection.name, rows)

    def _delete(self, client: Any, again: bool, condition: str) -> None:
        client.delete(self.collection.name, filter=condition)

    def _start_change(self) -> None:
        if self._before_change is not None:
            self._before_change()
            self._before_change = None

    def _run(self, work: Callable[[Any, bool], Any]) -> Any:
        """Run as the connection does, also after the server restarted or another process rebuilt the index."""

        def prepared(client: Any, again: bool) -> Any:
            try:
                return work(client, again)
            except Exception as error:
                if error_code(error) == NOT_LOADED:
                    client.load_collection(self.collection.name, timeout=LONG_TIMEOUT)
                elif error_code(error) != NOT_FOUND or not self._relocate():
                    raise
            return work(client, True)

        return self._server.run(prepared)

    def _relocate(self) -> bool:
        """Switch to the collection that another process has rebuilt; return whether there is one."""
        if self._before_change is None:  # a change that began in one collection does not continue in another
            return False
        collection = self._find_collection()
        if collection is None or collection == self.collection:
            return False
        self.collection = collection
        self._probes = min(max(self._probes, 1), collection.lists)
        return True


def quote(text: str) -> str:
    """Return a text as a literal of Milvus's expressions."""
    for plain, escaped in (("\\", "\\\\"), ('"', '\\"'), ("\n", "\\n"), ("\r", "\\r")):
        text = text.replace(plain, escaped)
    return f'"{text}"'


def _id_filter(ids: Ids) -> str:
    return f"id in [{','.join(map(str, ids.tolist()))}]"


def _slices(count: int, size: int) -> Iterator[slice]:
    return (slice(start, start + size) for start in range(0, count, size))


def _to_arrays(hits: Sequence[Sequence[tuple[float, int]]]) -> Neighbours:
    """Return hits of different numbers as filled-up rows, and Milvus's cosines as distances, 1 - cos."""
    longest = max(map(len, hits), default=0)
    distances = np.full((len(hits), longest), 2, np.float32)
    ids = np.full((len(hits), longest), NO_ID, np.int64)
    for row, hits_of_query in enumerate(hits):
        if hits_of_query:
            cosines, near = zip(*hits_of_query, strict=True)
            distances[row, : len(near)] = 1 - np.array(cosines, np.float32)
            ids[row, : len(near)] = near
    return distances, ids


def _merge_nearest(parts: Sequence[Neighbours], k: int) -> Neighbours:
    """Return the k nearest of several searches' hits."""
    distances, ids = (np.concatenate(each, axis=1) for each in zip(*parts, strict=True))
    order = np.argsort(distances, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(distances, order, axis=1), np.take_along_axis(ids, order, axis=1)
