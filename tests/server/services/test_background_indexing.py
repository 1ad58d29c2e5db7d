"""One indexing at a time over all processes, here as two that share a folder."""

from __future__ import annotations

import errno
import os
import threading
import time
from collections.abc import Callable
from http import HTTPStatus
from pathlib import Path
from threading import Event, Thread
from typing import Any
from unittest.mock import MagicMock

import pytest

from retrieval.common.errors import GalleryError
from retrieval.engine import Engine
from retrieval.server.errors import RequestRefused
from retrieval.server.services.background_indexing import BackgroundIndexer


def fake_engine() -> MagicMock:
    engine = MagicMock(spec=Engine)
    engine.__enter__.return_value = engine
    return engine


def until_done(indexer: BackgroundIndexer) -> None:
    waited = time.monotonic() + 10
    while indexer.is_running:
        assert time.monotonic() < waited
        time.sleep(0.01)


def test_one_run_at_a_time_and_each_tells_of_it(tmp_path: Path) -> None:
    go = Event()

    def opened() -> Engine:
        assert go.wait(10)
        raise GalleryError("the gallery is gone: mount it")

    one, other = BackgroundIndexer(opened, tmp_path), BackgroundIndexer(opened, tmp_path)
    assert not other.is_running
    one.start()
    for each in (one, other):
        assert each.is_running
        assert each.error is None
        with pytest.raises(RequestRefused, match="goes on already") as refusal:
            each.start()
        assert refusal.value.status == HTTPStatus.CONFLICT
    go.set()
    until_done(other)
    assert one.error == other.error == "the gallery is gone: mount it"


def test_a_run_that_ends_well_leaves_no_error(tmp_path: Path) -> None:
    (tmp_path / "failed").write_text("an earlier one")
    engine = fake_engine()
    indexer = BackgroundIndexer(lambda: engine, tmp_path)
    assert indexer.error == "an earlier one"
    indexer.start()
    until_done(indexer)
    assert indexer.error is None
    engine.index.assert_called_once_with()
    engine.__exit__.assert_called_once_with(None, None, None)


def test_a_run_that_broke_off_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("threading.excepthook", lambda told: None)

    def opened() -> Engine:
        raise MemoryError  # as good as any end that was not foreseen

    indexer = BackgroundIndexer(opened, tmp_path)
    indexer.start()
    until_done(indexer)
    assert indexer.error is not None
    assert "broken off" in indexer.error


def full(file: Path, content: bytes) -> int:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def no_more(thread: Thread) -> None:
    raise RuntimeError("can't start new thread")


@pytest.mark.parametrize(
    ("of", "name", "fails", "raised"),
    [(Path, "write_bytes", full, RequestRefused), (Thread, "start", no_more, RuntimeError)],
)
def test_a_run_that_cannot_begin_gives_its_turn_back(
    tmp_path: Path, of: type, name: str, fails: Callable[..., Any], raised: type[Exception]
) -> None:
    engine = fake_engine()
    indexer = BackgroundIndexer(lambda: engine, tmp_path)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(of, name, fails)
        with pytest.raises(raised) as told:
            indexer.start()
    if isinstance(told.value, RequestRefused):
        assert told.value.status == HTTPStatus.INSUFFICIENT_STORAGE
        assert os.strerror(errno.ENOSPC) in str(told.value)
    assert not indexer.is_running
    indexer.start()
    until_done(indexer)
    engine.index.assert_called_once_with()


def test_a_run_that_ends_well_while_it_is_looked_at_is_no_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read(file: Path) -> bytes:
        said = real(file)
        go.set()
        for thread in threading.enumerate():
            if thread.name == "indexer":
                thread.join(10)
        return said

    def opened() -> Engine:
        assert go.wait(10)
        return fake_engine()

    go = Event()
    real = Path.read_bytes
    indexer = BackgroundIndexer(opened, tmp_path)
    indexer.start()
    monkeypatch.setattr(Path, "read_bytes", read)
    assert indexer.error is None
    go.set()
    until_done(indexer)
    assert indexer.error is None
