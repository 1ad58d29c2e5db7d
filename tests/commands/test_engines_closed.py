"""A command closes its engine, whatever happens."""

from typing import Any

import pytest
from typer.testing import CliRunner

import cli
from indexes.errors import StoreError
from retrieval.engine import Engine
from retrieval.store.opened_store import OpenedStore
from tests.support.store import Indexed


@pytest.mark.process
@pytest.mark.slow
@pytest.mark.parametrize("command", ["tune", "duplicates", "index"])
def test_a_command_that_fails_closes_its_engine(
    command: str, indexed: Indexed, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: Any, **options: Any) -> None:
        raise StoreError("the disk is full")

    closed: list[OpenedStore] = []
    close = OpenedStore.close

    def record_close(store: OpenedStore) -> None:
        closed.append(store)
        close(store)

    monkeypatch.setattr(Engine, command, fail)
    monkeypatch.setattr(OpenedStore, "close", record_close)
    done = CliRunner().invoke(cli.app, [command, "--store", str(indexed.store)])
    assert done.exit_code == 1
    assert len(closed) == 1
