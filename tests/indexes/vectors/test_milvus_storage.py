"""An index on Milvus follows the catalogue, outlives crashes on either side, and touches nothing of others."""

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from indexes.arrays import Ids, Vectors
from indexes.catalogue.catalogue import Catalogue
from indexes.catalogue.records import NewPicture
from indexes.errors import StoreError
from indexes.vectors import milvus_connection, sizing
from indexes.vectors.base import TunedIndex
from indexes.vectors.milvus_index import MilvusIndex
from indexes.vectors.milvus_storage import MilvusStorage
from indexes.vectors.storage import clear_old_storages, index_address, open_storage, set_storage
from retrieval.common.progress import Progress, Total, WorkStage
from retrieval.model.head import Head
from retrieval.store.maintenance import index_sync
from retrieval.store.maintenance.index_sync import open_index, open_index_state
from retrieval.store.maintenance.tuning import tune
from tests.support.milvus import Process, need_milvus, serving
from tests.support.progress import RecordedProgress
from tests.support.vectors import clustered

need_milvus()
from milvus_lite.db import MilvusLite  # noqa: E402
from pymilvus import DataType, MilvusClient  # noqa: E402

MODEL = "0123456789abcdef"
CHANNELS = 64
COUNT = 600
LABELS = (b"boats", b"cats", b"dogs")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    with serving(tmp_path_factory.mktemp("server")) as process:
        yield process


@pytest.fixture
def client(server: Process) -> Iterator[MilvusClient]:
    client = MilvusClient(f"http://127.0.0.1:{server.port}", dedicated=True)
    for name in client.list_collections():
        client.drop_collection(name)
    yield client
    client.close()


@pytest.fixture
def catalogue(tmp_path: Path, server: Process, client: MilvusClient) -> Iterator[Catalogue]:
    """Make a store with 600 pictures of three labels; its index, on the server, is not built yet."""
    catalogue = Catalogue(tmp_path / "store", create=True)
    record(catalogue, 0, clustered(COUNT))
    set_storage(catalogue, MODEL, server.address)
    yield catalogue
    catalogue.close()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(milvus_connection, "_PATIENCE", 0.5)


def record(catalogue: Catalogue, start: int, vectors: Vectors, root: bytes = b"/g") -> None:
    pictures = [
        NewPicture(b"%s/%s/%05d" % (root, LABELS[number % 3], number), 1, 2, b"%d" % number, vector, 3, 4)
        for number, vector in enumerate(vectors, start)
    ]
    catalogue.scans.record(root, MODEL, pictures)


def opened(catalogue: Catalogue) -> TunedIndex:
    return open_index(catalogue, MODEL, must_save=True)


def check(catalogue: Catalogue) -> None:
    """Check that the index has every picture of the catalogue once, correctly, in one collection."""
    index = open_index(catalogue, MODEL)
    ids, vectors = (np.concatenate(parts) for parts in zip(*catalogue.descriptors.all(MODEL), strict=True))
    assert len(index) == len(ids)
    assert index.search(vectors, 1)[1].ravel().tolist() == ids.tolist()
    assert isinstance(index, MilvusIndex)
    for label in LABELS:
        found = index.search_label(vectors[:1], len(ids), os.fsdecode(label))[1]
        labelled = {
            id_ for id_, picture in catalogue.pictures.get_many(ids.tolist()).items() if picture.label == label.decode()
        }
        assert set(found[0].tolist()) == labelled
    index.close()


def kept(client: MilvusClient) -> dict[str, dict[str, str]]:
    """Return the properties of each collection."""
    return {name: client.describe_collection(name)["properties"] for name in client.list_collections()}


def never(*arguments: object) -> Any:
    raise AssertionError("the index was made anew")


class Crash(BaseException):
    """The process ends here."""


def crash(*arguments: object, **more: object) -> None:
    raise Crash


def test_an_index_is_built_once_and_updated(
    catalogue: Catalogue, client: MilvusClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    progress = RecordedProgress()
    open_index(catalogue, MODEL, must_save=True, progress=progress).close()
    assert progress.totals == [("Making the index", 600)]
    check(catalogue)
    monkeypatch.setattr(index_sync._IndexSync, "_build", never)
    new = clustered(20, seed=3)
    record(catalogue, COUNT, new[:10])
    record(catalogue, 6, new[10:11])  # another content under a known path
    catalogue.scans.set_missing([1, 2], True)
    catalogue.remove(b"/g/boats/00030")
    opened(catalogue).close()
    check(catalogue)
    assert len(client.list_collections()) == 1
    (properties,) = kept(client).values()
    assert properties["retrieve.generation"] == catalogue.generation
    assert properties["retrieve.until"] == ""
    catalogue.scans.set_missing([1], False)
    check(catalogue)


def test_changed_labels_are_updated(catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch) -> None:
    record(catalogue, 0, clustered(3, seed=9), b"/h/cats/boats")
    record(catalogue, 5, clustered(1, seed=9), b"/i/dogs")
    catalogue.scans.record(b"/j/cats", MODEL, [NewPicture(b"/j/cats/1", 1, 2, b"j", clustered(1, seed=8)[0], 3, 4)])
    opened(catalogue).close()
    check(catalogue)
    monkeypatch.setattr(index_sync._IndexSync, "_build", never)
    before = catalogue.generation
    catalogue.scans.ensure_root(b"/j")  # the picture gets a label, and nothing else happens
    assert catalogue.generation != before
    check(catalogue)


def test_an_index_that_a_crash_left_half_built_is_rebuilt(
    catalogue: Catalogue, client: MilvusClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(MilvusStorage, "save", crash)
        with pytest.raises(Crash):
            opened(catalogue)
    assert [properties.get("retrieve.generation") for properties in kept(client).values()] == [None]
    opened(catalogue).close()
    check(catalogue)
    assert len(client.list_collections()) == 1


@pytest.mark.parametrize("where", ["remove", "add", "keep"])
def test_an_index_that_a_crash_left_half_updated_is_repaired(
    catalogue: Catalogue, client: MilvusClient, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    opened(catalogue).close()
    before = catalogue.generation
    record(catalogue, COUNT, clustered(20, seed=3))
    record(catalogue, 0, clustered(5, seed=5))
    catalogue.scans.set_missing([50, 51], True)
    done = MilvusIndex.remove
    with monkeypatch.context() as patch:
        if where == "remove":

            def halfway(index: MilvusIndex, ids: Ids) -> None:
                done(index, ids)
                crash()

            patch.setattr(MilvusIndex, "remove", halfway)
        else:
            patch.setattr(*((MilvusIndex, "add", crash) if where == "add" else (MilvusStorage, "save", crash)))
        with pytest.raises(Crash):
            opened(catalogue)
    (properties,) = kept(client).values()
    assert (properties["retrieve.generation"], properties["retrieve.until"]) == (before, catalogue.generation)
    monkeypatch.setattr(index_sync._IndexSync, "_build", never)
    opened(catalogue).close()
    check(catalogue)


def test_an_index_half_updated_to_an_unknown_generation_is_rebuilt(
    catalogue: Catalogue, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The catalogue comes back from a copy that does not know what the index has come to in part."""
    opened(catalogue).close()
    catalogue.close()
    for file in catalogue.folder.glob("catalogue.sqlite*"):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    later = Catalogue(catalogue.folder)
    record(later, 0, clustered(20, seed=3))
    with monkeypatch.context() as patch:
        patch.setattr(MilvusStorage, "save", crash)
        with pytest.raises(Crash):
            opened(later)
    later.close()
    for file in catalogue.folder.glob("catalogue.sqlite*"):
        file.unlink()
    for file in tmp_path.glob("catalogue.sqlite*"):
        (catalogue.folder / file.name).write_bytes(file.read_bytes())
    restored = Catalogue(catalogue.folder)
    opened(restored).close()
    check(restored)
    restored.close()


def test_lost_vectors_are_noticed_at_the_next_update(catalogue: Catalogue, client: MilvusClient) -> None:
    opened(catalogue).close()
    (name,) = client.list_collections()
    client.delete(name, ids=[7, 8, 9])
    record(catalogue, COUNT, clustered(1, seed=3))
    opened(catalogue).close()
    check(catalogue)


@pytest.mark.slow
def test_an_index_that_no_longer_suits_is_rebuilt(
    catalogue: Catalogue, client: MilvusClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sizing, "MOST_EXACT", COUNT)
    index = opened(catalogue)
    assert index.kind == "Milvus FLAT"
    index.close()
    record(catalogue, COUNT, clustered(1, seed=2))
    index = opened(catalogue)
    assert index.kind == "Milvus IVF_FLAT 49"
    assert len(client.list_collections()) == 1
    monkeypatch.setattr("retrieval.store.maintenance.tuning._MIN_PROBES", 4)
    monkeypatch.setattr("retrieval.store.maintenance.tuning.POOL", 50)
    weight = np.random.default_rng(3).normal(size=(32, CHANNELS)).astype(np.float32)
    head = Head(weight, np.zeros(32, np.float32), slope=9.0, intercept=-5.0, normalize=True)
    steps = tune(catalogue, index, head, MODEL, 0.9)
    assert [step.probes for step in steps] == [4, 8, 16, 32, 49][: len(steps)]
    assert (steps[-1].recall or 0) >= 0.9
    assert {(step.kind, step.pictures, step.lists) for step in steps} == {("Milvus IVF_FLAT 49", 601, 49)}
    index.close()


def test_nothing_is_left_of_an_emptied_store(catalogue: Catalogue, client: MilvusClient) -> None:
    opened(catalogue).close()
    catalogue.remove(b"/g")
    assert len(opened(catalogue)) == 0
    assert client.list_collections() == []


# --- another's collections


def foreign(client: MilvusClient, name: str, properties: dict[str, str] | None = None) -> None:
    schema = MilvusClient.create_schema()
    schema.add_field("key", DataType.INT64, is_primary=True)
    schema.add_field("embedding", DataType.FLOAT_VECTOR, dim=4)
    client.create_collection(name, schema=schema, properties=properties or {})
    client.insert(name, [{"key": 1, "embedding": [1.0, 0.0, 0.0, 0.0]}])


@pytest.mark.parametrize(
    ("mark", "said"),
    [(None, "that `retrieve` did not make, which stays"), ("other", "of another store, which stays")],
)
def test_a_foreign_collection_is_left_alone(
    catalogue: Catalogue, client: MilvusClient, server: Process, mark: str | None, said: str
) -> None:
    name = f"tests_{MODEL}_b"
    foreign(client, name, {"retrieve.store": mark} if mark else None)
    with pytest.raises(StoreError, match=f"{server.address} has a collection {name} {said}") as raised:
        opened(catalogue)
    assert "\n" not in str(raised.value)
    catalogue.remove(b"/g")
    with pytest.raises(StoreError, match=said):
        opened(catalogue)
    with pytest.raises(StoreError, match=said):
        set_storage(Catalogue(catalogue.folder.parent / "new", create=True), MODEL, server.address)
    assert client.list_collections() == [name]
    assert client.get_collection_stats(name)["row_count"] == 1


def test_a_collection_with_other_fields_is_refused(catalogue: Catalogue, client: MilvusClient) -> None:
    foreign(client, f"tests_{MODEL}_a", {"retrieve.store": catalogue.settings.get("store") or ""})
    with pytest.raises(StoreError, match="with other fields than it was made with: drop it by hand"):
        opened(catalogue)
    assert len(client.list_collections()) == 1


def test_other_collections_do_not_matter(catalogue: Catalogue, client: MilvusClient) -> None:
    foreign(client, "tests")
    foreign(client, f"tests_{MODEL}")
    opened(catalogue).close()
    check(catalogue)
    assert {"tests", f"tests_{MODEL}"} < set(client.list_collections())


# --- where it is


@pytest.mark.slow
def test_an_index_moves_to_milvus_and_back(
    catalogue: Catalogue, client: MilvusClient, server: Process, tmp_path: Path
) -> None:
    def files() -> int:
        return len(list(catalogue.folder.glob("*.faiss")))

    opened(catalogue).close()
    set_storage(catalogue, MODEL, "milvus:./index.db")
    opened(catalogue).close()
    assert clear_old_storages(catalogue, MODEL) is None
    assert client.list_collections() == []
    check(catalogue)
    set_storage(catalogue, MODEL, "faiss")
    opened(catalogue).close()
    assert clear_old_storages(catalogue, MODEL) is None
    assert (files(), index_address(catalogue)) == (1, "faiss")
    set_storage(catalogue, MODEL, server.address)
    opened(catalogue).close()
    assert (files(), clear_old_storages(catalogue, MODEL), files()) == (1, None, 0)
    check(catalogue)
    assert not catalogue.settings.get("index_before")


@pytest.mark.parametrize("named", ["MILVUS://127.0.0.1", "milvus://localhost"])
def test_another_name_of_the_same_server_is_recognised(
    catalogue: Catalogue, client: MilvusClient, server: Process, named: str
) -> None:
    opened(catalogue).close()
    before = client.list_collections()
    set_storage(catalogue, MODEL, server.address.replace("milvus://127.0.0.1", named))
    opened(catalogue).close()
    assert clear_old_storages(catalogue, MODEL) is None
    assert client.list_collections() == before != []
    assert all(not properties["retrieve.sign"] for properties in kept(client).values() if "retrieve.sign" in properties)
    check(catalogue)


def test_another_name_of_the_same_file_is_recognised(catalogue: Catalogue) -> None:
    set_storage(catalogue, MODEL, "milvus:./index.db")
    opened(catalogue).close()
    clear_old_storages(catalogue, MODEL)
    set_storage(catalogue, MODEL, "milvus:index.db")
    opened(catalogue).close()
    assert clear_old_storages(catalogue, MODEL) is None
    home = open_storage(catalogue, MODEL)
    assert home.load(catalogue.generation) is not None
    home.close()
    check(catalogue)


def test_all_former_storages_are_cleared(catalogue: Catalogue, client: MilvusClient) -> None:
    opened(catalogue).close()
    set_storage(catalogue, MODEL, "milvus:./index.db")  # and no index is made there
    set_storage(catalogue, MODEL, "faiss")
    opened(catalogue).close()
    assert client.list_collections() != []
    assert clear_old_storages(catalogue, MODEL) is None
    assert client.list_collections() == []
    assert len(list(catalogue.folder.glob("*.faiss"))) == 1


@pytest.mark.slow
@pytest.mark.usefixtures("impatient")
def test_a_former_storage_that_is_gone_is_reported_once(catalogue: Catalogue, tmp_path: Path) -> None:
    with serving(tmp_path / "other") as other:
        set_storage(catalogue, MODEL, other.address)
        opened(catalogue).close()
    with pytest.raises(StoreError, match="cannot be reached: check that it runs there"):
        set_storage(catalogue, MODEL, other.address.replace("/tests", "/more"))
    set_storage(catalogue, MODEL, "faiss")
    opened(catalogue).close()
    note = clear_old_storages(catalogue, MODEL)
    assert note is not None
    assert note.startswith(f"the index that was at {other.address} could not be deleted there: ")
    assert clear_old_storages(catalogue, MODEL) is None


# --- the server goes away


class KillingProgress(Progress, WorkStage):
    """Kills the server at the first progress that is reported."""

    def __init__(self, kill: Callable[[], None]) -> None:
        self.kill, self.done = kill, 0

    @contextmanager
    def stage(self, title: str, total: Total = None, announce: bool = False) -> Iterator[WorkStage]:
        yield self

    def advance(self, count: int = 1) -> None:
        if not self.done:
            self.kill()
        self.done += count


@pytest.mark.slow
def test_a_server_that_restarts_during_a_build_is_waited_for(catalogue: Catalogue, server: Process) -> None:
    def restart() -> None:
        time.sleep(0.5)
        server.start()

    def kill() -> None:
        server.kill()
        restarting.start()

    restarting = threading.Thread(target=restart)
    progress = KillingProgress(kill)
    open_index(catalogue, MODEL, must_save=True, progress=progress).close()
    restarting.join()
    assert progress.done == COUNT
    check(catalogue)


@pytest.mark.slow
def test_a_server_that_stays_away_is_reported_and_nothing_is_lost(
    catalogue: Catalogue, server: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    try:
        with monkeypatch.context() as patch:
            patch.setattr(milvus_connection, "_PATIENCE", 0.5)
            with pytest.raises(StoreError) as raised:
                open_index(catalogue, MODEL, must_save=True, progress=KillingProgress(server.kill))
            with pytest.raises(StoreError, match="cannot be reached"):
                open_index(catalogue, MODEL)
    finally:
        server.start()
    assert str(raised.value) == (
        f"{server.address} cannot be reached: check that it runs there, then run the command again; nothing is lost"
    )
    opened(catalogue).close()
    check(catalogue)


@pytest.mark.slow
def test_an_index_is_searched_after_its_server_restarted(catalogue: Catalogue, server: Process) -> None:
    index = opened(catalogue)
    reader = open_index(catalogue, MODEL)
    queries = clustered(COUNT)[:20]
    before = reader.search(queries, 10)
    server.kill()
    server.start()
    for each in (reader, index):
        found = each.search(queries, 10)
        assert found[1].tolist() == before[1].tolist()
        each.close()
    check(catalogue)


# --- others at work


def test_a_reader_uses_the_index_while_another_process_updates_it(catalogue: Catalogue) -> None:
    opened(catalogue).close()
    record(catalogue, COUNT, clustered(10, seed=3))
    home = open_storage(catalogue, MODEL)
    with home.index_lock(True) as granted:
        assert granted
        reader, generation = open_index_state(catalogue, MODEL)
        assert (len(reader), generation) == (COUNT, None)
        reader.close()
    home.close()
    reader, generation = open_index_state(catalogue, MODEL)
    assert (len(reader), generation) == (COUNT + 10, catalogue.generation)
    reader.close()
    check(catalogue)


def test_a_failed_update_leaves_a_reader_the_index_as_it_is(
    catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened(catalogue).close()
    record(catalogue, COUNT, clustered(10, seed=3))

    def failing(*arguments: object) -> None:
        raise StoreError("the server has no room")

    with monkeypatch.context() as patch:
        patch.setattr(MilvusIndex, "add", failing)
        reader, generation = open_index_state(catalogue, MODEL)
        assert (len(reader), generation) == (COUNT, None)
        reader.close()
        with pytest.raises(StoreError, match="has no room"):
            opened(catalogue)
    check(catalogue)


def test_a_file_that_is_open_in_another_process_is_reported(
    catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    set_storage(catalogue, MODEL, "milvus:./index.db")
    file = catalogue.folder / "index.db"
    monkeypatch.setattr(milvus_connection, "_PATIENCE", 0.5)
    with MilvusLite(os.fspath(file)):  # locks the file as in another process
        lock = (file / "LOCK").stat()
        with pytest.raises(StoreError, match=r"milvus:\./index\.db is open in another process"):
            opened(catalogue)
        assert (file / "LOCK").stat().st_ino == lock.st_ino
    opened(catalogue).close()
    assert (file / "LOCK").stat().st_ino == lock.st_ino
    check(catalogue)
