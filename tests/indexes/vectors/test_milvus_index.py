"""Milvus keeps the contract of vector indexes: milvus-lite in a file, and milvus-lite as a server on this machine."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from indexes.arrays import Ids, Vectors, unit
from indexes.errors import StoreError
from indexes.vectors import sizing
from indexes.vectors.milvus_connection import _SingleAttempt, shared_connection
from indexes.vectors.milvus_index import MilvusIndex
from indexes.vectors.milvus_storage import MilvusStorage
from tests.support.index_contract import CHANNELS, IndexContract, made
from tests.support.milvus import Process, address_of, always, home_at, need_milvus, no_sample, serving
from tests.support.vectors import clustered

need_milvus()
from pymilvus import MilvusException  # noqa: E402


class MilvusContract(IndexContract):
    """The contract on an address, each test in collections of its own."""

    @pytest.fixture(autouse=True)
    def _home(self, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[None]:
        self.made: list[MilvusIndex] = []
        self.number = 0
        self.folder = tmp_path
        self.address = self.written(request)
        yield
        for index in self.made:
            index.close()

    def written(self, request: pytest.FixtureRequest) -> str:
        """Return the address."""
        raise NotImplementedError

    def empty(self, channels: int) -> MilvusIndex:
        home = home_at(self.address, self.folder, fingerprint=f"{self.number:016}")
        self.number += 1
        self.made.append(home.create(channels, 0, no_sample))
        home.close()
        return self.made[-1]


class TestMilvusLiteInAFileKeepsTheContract(MilvusContract):
    def written(self, request: pytest.FixtureRequest) -> str:
        return "milvus:./index.db"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    with serving(tmp_path_factory.mktemp("server")) as process:
        yield process


class TestMilvusLiteAsAServerKeepsTheContract(MilvusContract):
    def written(self, request: pytest.FixtureRequest) -> str:
        process: Process = request.getfixturevalue("server")
        return process.address


ODD = ("plain", "l'\"é\\", "new\nline", "tab\t{x}", "(a) == b", "%", "\\n", "")


def filled(home: MilvusStorage, count: int = 80) -> tuple[MilvusIndex, Ids, Vectors]:
    ids, vectors = np.arange(1, count + 1, dtype=np.int64), made(count, seed=4)
    index = home.create(CHANNELS, count, no_sample)
    index.add(ids, vectors)
    return index, ids, vectors


def test_a_label_is_searched_without_listing_its_pictures(server: Process, tmp_path: Path) -> None:
    odd = {number: ODD[number % len(ODD)] for number in range(1, 81)}
    home = MilvusStorage(
        shared_connection(address_of(server.address), tmp_path), always, "store", "1" * 16, lambda ids: odd
    )
    index, ids, vectors = filled(home)
    for label in ODD:
        chosen = np.array([id_ for id_ in ids.tolist() if odd[id_] == label and label], np.int64)
        by_label, by_ids = index.search_label(vectors[:3], 7, label), index.search(vectors[:3], 7, chosen)
        assert set(by_label[1].ravel().tolist()) <= set(chosen.tolist())
        assert by_label[1].tolist() == by_ids[1].tolist()
        np.testing.assert_array_equal(by_label[0], by_ids[0])
    assert index.search_label(vectors[:2], 7, "no such label")[1].shape == (2, 0)
    home.clear()
    home.close()
    index.close()


def test_several_messages_return_what_one_returns(
    server: Process, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = home_at(server.address, tmp_path)
    index, ids, vectors = filled(home)
    queries, among = made(9, seed=5), ids[::2]
    whole, restricted = index.search(queries, 10), index.search(queries, 10, among)
    monkeypatch.setattr("indexes.vectors.milvus_index._IDS", 7)
    monkeypatch.setattr("indexes.vectors.milvus_index._MAX_BATCH_BYTES", 4 * CHANNELS * 6)
    monkeypatch.setattr("indexes.vectors.milvus_index._ANSWERS", 20)
    for found, expected in ((index.search(queries, 10), whole), (index.search(queries, 10, among), restricted)):
        assert found[1].tolist() == expected[1].tolist()
        np.testing.assert_allclose(found[0], expected[0], atol=1e-6)
    index.remove(ids[:30])
    index.add(ids[:20], vectors[:20])
    assert len(index) == 70
    assert set(index.search(queries, 80)[1].ravel().tolist()) == set(ids.tolist()) - set(range(21, 31))
    home.clear()
    home.close()
    index.close()


@pytest.mark.parametrize("lost", ["insert", "delete"])
def test_a_message_whose_answer_was_lost_duplicates_nothing(
    server: Process, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lost: str
) -> None:
    home = home_at(server.address, tmp_path)
    index, ids, vectors = filled(home)
    calls: list[str] = []

    def lose_answer(once: _SingleAttempt, name: str) -> Any:
        def call(*arguments: Any, **more: Any) -> Any:
            answer = getattr(once._client, name)(*arguments, retry_times=0, **more)
            calls.append(name)
            if calls.count(lost) == 1 and name == lost:
                raise MilvusException(code=2, message="the connection was lost")
            return answer

        return call

    monkeypatch.setattr(_SingleAttempt, "__getattr__", lose_answer)
    index.remove(ids[:10])
    index.add(ids[:10], vectors[:10])
    assert calls == (["delete", "insert", "upsert"] if lost == "insert" else ["delete", "delete", "insert"])
    assert len(index) == 80
    assert index.search(vectors, 1)[1].ravel().tolist() == ids.tolist()
    home.clear()
    home.close()
    index.close()


def test_many_pictures_are_in_lists(server: Process, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sizing, "MOST_EXACT", 400)
    home = home_at(server.address, tmp_path)
    vectors, ids = clustered(1000), np.arange(1000, dtype=np.int64)
    index = home.create(64, 1000, no_sample)
    index.add(ids, vectors)
    home.save(index, "g")
    assert (index.kind, index.is_exact, index.lists, index.probes) == ("Milvus IVF_FLAT 63", False, 63, 32)
    counts = (200, 201, 1000, 4000, 4100)
    assert [sizing.still_suits(count, index.lists) for count in counts] == [False, True, True, True, False]
    queries = clustered(30, seed=5)
    true = np.argsort(-unit(queries) @ unit(vectors).T, axis=1)[:, :10]

    def recall() -> float:
        found = index.search(queries, 10)[1]
        return float(np.mean([len({*a} & {*b}) for a, b in zip(found.tolist(), true.tolist(), strict=True)])) / 10

    index.probes = 1
    waited = time.monotonic() + 30
    while recall() == 1:  # milvus-lite makes the lists in the background, and until then compares with all
        assert time.monotonic() < waited
        time.sleep(0.05)
    recalls = []
    for probes, given in ((1, 1), (8, 8), (500, 63)):
        index.probes = probes
        assert index.probes == given
        recalls.append(recall())
    assert recalls[0] < recalls[-1] == 1
    index.probes = 1
    among = ids[::100]
    assert {*index.search(queries, 100, among)[1].ravel().tolist()} == set(among.tolist())  # in every list
    again = home.load("g")
    assert again is not None
    assert (again.kind, len(again)) == (index.kind, 1000)
    for each in (index, again):
        each.close()
    home.clear()
    home.close()


def test_descriptors_of_another_model_are_refused(server: Process, tmp_path: Path) -> None:
    home = home_at(server.address, tmp_path)
    index, _, _ = filled(home)
    with pytest.raises(StoreError, match=r"descriptors of 24 channels, not of 7: run `retrieve index`"):
        index.search(made(1, channels=7), 1)
    home.clear()
    home.close()
    index.close()


def test_an_index_that_another_process_rebuilt_is_found(server: Process, tmp_path: Path) -> None:
    home = home_at(server.address, tmp_path)
    index, ids, vectors = filled(home)
    home.save(index, "one")
    reader = home.load("one")
    assert reader is not None
    anew = home.create(CHANNELS, 40, no_sample)
    anew.add(ids[:40], vectors[40:])
    home.save(anew, "two")
    assert reader.search(vectors[40:45], 1)[1].ravel().tolist() == ids[:5].tolist()
    assert len(reader) == 40
    with pytest.raises(StoreError, match="as Milvus says"):  # what it has changed by halves is not gone on with
        index.add(ids[50:], vectors[50:])
    for each in (index, reader, anew):
        each.close()
    home.clear()
    home.close()
