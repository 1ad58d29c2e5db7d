"""Milvus keeps the contract of vector indexes: milvus-lite in a file, and milvus-lite as a server on this machine."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from indexes.milvus_index import MilvusIndex
from tests.index_contract import IndexContract
from tests.milvus import Process, home_at, need_milvus, no_sample, serving

need_milvus()


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
        """The address."""
        raise NotImplementedError

    def empty(self, channels: int) -> MilvusIndex:
        home = home_at(self.address, self.folder, fingerprint=f"{self.number:016}")
        self.number += 1
        self.made.append(home.new(channels, 0, no_sample))
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
