"""The storage of indexes in collections of a Milvus, which touches no collections of others."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

from indexes.arrays import Vectors
from indexes.errors import StoreError
from indexes.vectors import sizing
from indexes.vectors.milvus_connection import LONG_TIMEOUT, NOT_FOUND, MilvusConnection, error_code
from indexes.vectors.milvus_index import LabelLookup, MilvusCollection, MilvusIndex

_STORE, _LISTS, _GENERATION, _TARGET, _MARKER = (
    f"retrieve.{name}" for name in ("store", "lists", "generation", "until", "sign")
)
_FIELDS = {"id", "vector", "label"}
_LONGEST_LABEL = 4096  # bytes: a folder's name has 255, of which each may have become a character of three


@dataclass(frozen=True)
class _StoredCollection:
    """A collection of the store, with its properties."""

    collection: MilvusCollection
    generation: str  # empty until the index was saved
    target: str  # the generation that an interrupted update may have reached in part
    marker: str


class MilvusStorage:
    """A storage of one index in one of two collections; it is rebuilt in the other, then the first is dropped.

    Their names consist of the address's name and the model's fingerprint, and their properties name the store, so that
    no collection is written or dropped that the store did not make.
    """

    updates_in_place = True

    def __init__(
        self,
        server: MilvusConnection,
        index_lock: Callable[[bool], AbstractContextManager[bool]],
        store: str,
        fingerprint: str,
        labels: LabelLookup,
    ) -> None:
        self._server = server
        self._index_lock = index_lock
        self._store = store
        self._labels = labels
        begin = f"{server.address.name}_{fingerprint[:16]}"
        self._names = (f"{begin}_a", f"{begin}_b")

    def load(self, generation: str) -> MilvusIndex | None:
        for stored in self._list_collections():
            if generation and (stored.generation, stored.target) == (generation, ""):
                return self._open_index(stored.collection)
        return None

    def load_any(self) -> MilvusIndex | None:
        collection = self._find_complete()
        return None if collection is None else self._open_index(collection)

    def list_generations(self) -> list[tuple[str, str]]:
        collections = [stored for stored in self._list_collections() if stored.generation]
        return [(stored.generation, stored.target or stored.generation) for stored in collections]

    def open_for_update(self, generation: str, target: str) -> MilvusIndex | None:
        """Open the index, which is marked before its first change: if that is interrupted, it is of no generation."""
        stored = next((stored for stored in self._list_collections() if stored.generation == generation), None)
        if stored is None:
            return None
        name = stored.collection.name
        return self._open_index(stored.collection, lambda: self._set_properties(name, {_TARGET: target}))

    def create(self, channels: int, count: int, sample: Callable[[int], Vectors]) -> MilvusIndex:
        """Create an empty index; the server learns its lists from a sample of its own."""
        complete = self._find_complete()
        free = next(name for name in self._names if complete is None or name != complete.name)
        lists = sizing.list_count(count) if count > sizing.MOST_EXACT else 0
        collection = MilvusCollection(free, channels, lists)

        def make(client: Any, again: bool) -> None:
            if self._describe(client, free) is not None:  # never saved, or of an earlier attempt
                client.drop_collection(free)
            self._create(client, collection)

        self._server.run(make)
        return self._open_index(collection)

    def save(self, index: MilvusIndex, generation: str) -> None:
        """Store the index; its generation is written last, so that a crash before leaves the earlier one."""
        stored = self._run(lambda client: self._describe(client, index.collection.name))
        if stored is None or not stored.generation:
            self._run(lambda client: client.flush(index.collection.name, timeout=LONG_TIMEOUT))
        self._set_properties(index.collection.name, {_GENERATION: generation, _TARGET: ""})
        self._drop(set(self._names) - {index.collection.name})

    def clear(self) -> None:
        self._drop(self._names)

    @contextmanager
    def index_lock(self, blocking: bool) -> Iterator[bool]:
        """Use the catalogue's lock, which all machines share."""
        with ExitStack() as stack:
            try:
                granted = stack.enter_context(self._index_lock(False))
            except StoreError:
                if blocking or self._find_complete() is None:
                    raise
                granted = False
            if not granted and (blocking or self._find_complete() is None):
                granted = stack.enter_context(self._index_lock(True))
            yield granted

    def is_same_place(self, other: MilvusStorage) -> bool:
        """Return whether both have the same collections, as a server may have several names; a marker shows it."""
        names = [stored.collection.name for stored in self._list_collections()]
        marker = secrets.token_hex(8)
        for name in names:
            self._set_properties(name, {_MARKER: marker})
        try:
            return any(stored.marker == marker for stored in other._list_collections())
        finally:
            for name in names:
                self._set_properties(name, {_MARKER: ""})

    def close(self) -> None:
        self._server.release()

    def _open_index(
        self, collection: MilvusCollection, before_change: Callable[[], None] = lambda: None
    ) -> MilvusIndex:
        self._run(lambda client: client.load_collection(collection.name, timeout=LONG_TIMEOUT))
        return MilvusIndex(self._server, collection, self._labels, self._find_complete, before_change)

    def _find_complete(self) -> MilvusCollection | None:
        """Return a collection that was saved, perhaps at an earlier generation."""
        return next((stored.collection for stored in self._list_collections() if stored.generation), None)

    def _list_collections(self) -> list[_StoredCollection]:
        collections = self._run(lambda client: [self._describe(client, name) for name in self._names])
        return [stored for stored in collections if stored is not None]

    def _run(self, work: Callable[[Any], Any]) -> Any:
        return self._server.run(lambda client, again: work(client))

    def _set_properties(self, name: str, properties: dict[str, str]) -> None:
        self._run(lambda client: self._describe(client, name))  # which checks whose it is
        self._run(lambda client: client.alter_collection_properties(name, properties))

    def _drop(self, names: Iterable[str]) -> None:
        def drop(client: Any) -> None:
            for name in names:
                if self._describe(client, name) is not None:
                    client.drop_collection(name)

        self._run(drop)

    def _describe(self, client: Any, name: str) -> _StoredCollection | None:
        """Return a collection; None if there is none. Raises StoreError if the store did not make it."""
        try:
            description = client.describe_collection(name)
        except Exception as error:
            if error_code(error) == NOT_FOUND:
                return None
            raise
        where, properties = self._server.address.text, dict(description.get("properties") or {})
        fields = {field["name"]: field for field in description["fields"]}
        if properties.get(_STORE) != self._store:
            whose = "of another store" if _STORE in properties else "that `retrieve` did not make"
            raise StoreError(
                f"{where} has a collection {name} {whose}, which stays as it is: give --index another name"
            )
        if fields.keys() != _FIELDS:
            raise StoreError(
                f"{where} has a collection {name} with other fields than it was made with: drop it by hand"
            )
        channels = int(fields["vector"]["params"]["dim"])
        collection = MilvusCollection(name, channels, int(properties.get(_LISTS, 0)))
        return _StoredCollection(collection, *(properties.get(name, "") for name in (_GENERATION, _TARGET, _MARKER)))

    def _create(self, client: Any, collection: MilvusCollection) -> None:
        from pymilvus import DataType, MilvusClient

        schema = MilvusClient.create_schema(auto_id=False, enable_dynamic_field=False)
        schema.add_field("id", DataType.INT64, is_primary=True)
        schema.add_field("vector", DataType.FLOAT_VECTOR, dim=collection.channels)
        schema.add_field("label", DataType.VARCHAR, max_length=_LONGEST_LABEL)
        marks = {_STORE: self._store, _LISTS: str(collection.lists)}
        client.create_collection(collection.name, schema=schema, consistency_level="Bounded", properties=marks)
        index = MilvusClient.prepare_index_params()
        kind, params = ("IVF_FLAT", {"nlist": collection.lists}) if collection.lists else ("FLAT", {})
        # nested as milvus-lite needs them; a server reads them there too
        index.add_index("vector", index_type=kind, metric_type="COSINE", params={"params": params})
        index.add_index("label", index_type="INVERTED")
        client.create_index(collection.name, index, sync=False)  # it is empty yet: there is nothing to wait for
