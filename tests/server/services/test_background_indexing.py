"""One run of indexing at a time over all processes, here two indexers that share a folder."""

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


def wait_until_done(indexer: BackgroundIndexer) -> None:
    waited = time.monotonic() + 10
    while indexer.state().is_running:
        assert time.monotonic() < waited
        time.sleep(0.01)


def test_one_run_at_a_time_and_each_process_reports_it(tmp_path: Path) -> None:
    go = Event()

    def open_engine() -> Engine:
        assert go.wait(10)
        raise GalleryError("the gallery is gone: mount it")

    one, other = BackgroundIndexer(open_engine, tmp_path), BackgroundIndexer(open_engine, tmp_path)
    assert not other.state().is_running
    one.start()
    for each in (one, other):
        assert each.state() == (True, None)
        with pytest.raises(RequestRefused, match="running already") as refusal:
            each.start()
        assert refusal.value.status == HTTPStatus.CONFLICT
    go.set()
    wait_until_done(other)
    assert one.state() == other.state() == (False, "the gallery is gone: mount it")


def test_a_run_that_ends_well_leaves_no_error(tmp_path: Path) -> None:
    (tmp_path / "failed").write_text("an earlier one")
    engine = fake_engine()
    indexer = BackgroundIndexer(lambda: engine, tmp_path)
    assert indexer.state().error == "an earlier one"
    indexer.start()
    wait_until_done(indexer)
    assert indexer.state().error is None
    engine.index.assert_called_once_with()
    engine.__exit__.assert_called_once_with(None, None, None)


def test_an_interrupted_run_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("threading.excepthook", lambda arguments: None)

    def open_engine() -> Engine:
        raise MemoryError  # like any unexpected end

    indexer = BackgroundIndexer(open_engine, tmp_path)
    indexer.start()
    wait_until_done(indexer)
    assert "interrupted" in (indexer.state().error or "")


def disk_full(file: Path, content: bytes) -> int:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def no_more_threads(thread: Thread) -> None:
    raise RuntimeError("can't start new thread")


@pytest.mark.parametrize(
    ("owner", "name", "fail", "error"),
    [(Path, "write_bytes", disk_full, RequestRefused), (Thread, "start", no_more_threads, RuntimeError)],
)
def test_a_run_that_cannot_begin_releases_its_lock(
    tmp_path: Path, owner: type, name: str, fail: Callable[..., Any], error: type[Exception]
) -> None:
    engine = fake_engine()
    indexer = BackgroundIndexer(lambda: engine, tmp_path)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(owner, name, fail)
        with pytest.raises(error) as raised:
            indexer.start()
    if isinstance(raised.value, RequestRefused):
        assert raised.value.status == HTTPStatus.INSUFFICIENT_STORAGE
        assert os.strerror(errno.ENOSPC) in str(raised.value)
    assert not indexer.state().is_running
    indexer.start()
    wait_until_done(indexer)
    engine.index.assert_called_once_with()


def test_a_run_that_ends_well_during_a_check_is_no_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def read(file: Path) -> bytes:
        content = real(file)
        go.set()
        for thread in threading.enumerate():
            if thread.name == "indexer":
                thread.join(10)
        return content

    def open_engine() -> Engine:
        assert go.wait(10)
        return fake_engine()

    go = Event()
    real = Path.read_bytes
    indexer = BackgroundIndexer(open_engine, tmp_path)
    indexer.start()
    monkeypatch.setattr(Path, "read_bytes", read)
    assert indexer.state().error is None
    go.set()
    wait_until_done(indexer)
    assert indexer.state().error is None
