"""The progress of an indexing, recorded in the store."""

import json
import time
from pathlib import Path

import pytest

from indexes.catalogue.catalogue import Catalogue
from retrieval.store.indexing import progress
from retrieval.store.indexing.progress import STALE_AFTER, read_progress, recorded_progress
from tests.support.postgres import AddressOf
from tests.support.progress import RecordedStage


@pytest.fixture
def catalogue(tmp_path: Path, address_of: AddressOf) -> Catalogue:
    return Catalogue(tmp_path / "store", create=True, address=address_of(tmp_path / "store"))


@pytest.mark.slow
def test_any_process_can_read_the_progress(catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "WRITE_INTERVAL", 0.0)
    other, bar = Catalogue(catalogue.folder), RecordedStage()
    assert read_progress(other) is None
    with recorded_progress(catalogue, bar) as stage:
        for total in (None, 5):  # before the walk has ended, and after
            stage.expect(total)
            stage.advance()
            read = read_progress(other)
            assert read is not None
            assert (read.done, read.total) == (bar.done, bar.total) == (1 if total is None else 2, total)
    assert read_progress(other) is None


def test_a_short_indexing_writes_nothing(catalogue: Catalogue) -> None:
    with recorded_progress(catalogue) as stage:
        stage.advance(5)
        assert read_progress(catalogue) is None


def test_the_progress_of_a_process_that_died_becomes_stale(catalogue: Catalogue) -> None:
    now = time.time()
    for written_at, is_running in ((now, True), (now - STALE_AFTER - 1, False)):
        value = {"done": 1, "total": 2, "began": now - 100, "noted": written_at}
        catalogue.settings.set(under_way=json.dumps(value))
        assert (read_progress(catalogue) is not None) is is_running


def test_a_value_of_another_version_is_ignored(catalogue: Catalogue) -> None:
    for value in ("{", "[1]", '{"done": 1}'):
        catalogue.settings.set(under_way=value)
        assert read_progress(catalogue) is None
