"""One indexing at a time over all processes, here as two that share a folder."""

from __future__ import annotations

import time
from http import HTTPStatus
from pathlib import Path
from threading import Event
from unittest.mock import Mock

import pytest

from retrieval.engine import Engine
from retrieval.errors import GalleryError
from retrieval.serving.indexer import Indexer
from retrieval.serving.terms import Refused


def until_done(indexer: Indexer) -> None:
    waited = time.monotonic() + 10
    while indexer.is_running:
        assert time.monotonic() < waited
        time.sleep(0.01)


def test_one_run_at_a_time_and_each_tells_of_it(tmp_path: Path) -> None:
    go = Event()

    def opened() -> Engine:
        assert go.wait(10)
        raise GalleryError("the gallery is gone: mount it")

    one, other = Indexer(opened, tmp_path), Indexer(opened, tmp_path)
    assert not other.is_running
    one.start()
    for each in (one, other):
        assert each.is_running
        assert each.error is None
        with pytest.raises(Refused, match="goes on already") as refusal:
            each.start()
        assert refusal.value.status == HTTPStatus.CONFLICT
    go.set()
    until_done(other)
    assert one.error == other.error == "the gallery is gone: mount it"


def test_a_run_that_ends_well_leaves_no_error(tmp_path: Path) -> None:
    (tmp_path / "failed").write_text("an earlier one")
    engine = Mock(spec=Engine)
    indexer = Indexer(lambda: engine, tmp_path)
    assert indexer.error == "an earlier one"
    indexer.start()
    until_done(indexer)
    assert indexer.error is None
    engine.index.assert_called_once_with()
    engine.close.assert_called_once_with()


def test_a_run_that_broke_off_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("threading.excepthook", lambda told: None)

    def opened() -> Engine:
        raise MemoryError  # as good as any end that was not foreseen

    indexer = Indexer(opened, tmp_path)
    indexer.start()
    until_done(indexer)
    assert indexer.error is not None
    assert "broken off" in indexer.error


def test_a_run_that_cannot_be_noted_gives_the_turn_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    indexer = Indexer(lambda: Mock(spec=Engine), tmp_path)

    def full(self: Path, content: bytes) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", full)
        with pytest.raises(OSError, match="No space left"):
            indexer.start()
    assert not indexer.is_running
    indexer.start()
    until_done(indexer)
    assert indexer.error is None
