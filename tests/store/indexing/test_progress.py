from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from indexes.catalogue.catalogue import Catalogue
from retrieval.store.indexing import progress
from retrieval.store.indexing.progress import STALE_AFTER, read_progress, recorded_progress
from tests.support.postgres import AddressOf


@pytest.fixture
def catalogue(tmp_path: Path, address_of: AddressOf) -> Catalogue:
    return Catalogue(tmp_path / "store", create=True, address=address_of(tmp_path / "store"))


@pytest.fixture
def folder(tmp_path: Path) -> bytes:
    for number in range(5):
        (tmp_path / f"{number}.jpg").touch()
    return str(tmp_path).encode()


def test_what_goes_on_can_be_read_by_anybody(
    catalogue: Catalogue, folder: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "WRITE_INTERVAL", 0.0)
    other = Catalogue(catalogue.folder)
    assert read_progress(other) is None
    with recorded_progress(catalogue, [folder]) as stage:
        stage.advance(2)
        found = read_progress(other)
        assert found is not None
        assert (found.done, found.total) in ((2, None), (2, 5))
        waited = time.monotonic() + 10
        while (found := read_progress(other)) is None or found.total is None:
            assert time.monotonic() < waited
            stage.advance(0)
        assert (found.done, found.total) == (2, 5)
    assert read_progress(other) is None


def test_a_short_one_leaves_no_note(catalogue: Catalogue, folder: bytes) -> None:
    with recorded_progress(catalogue, [folder]) as stage:
        stage.advance(5)
        assert read_progress(catalogue) is None


def test_one_that_died_is_not_told_for_ever(catalogue: Catalogue) -> None:
    now = time.time()
    for noted_at, is_told in ((now, True), (now - STALE_AFTER - 1, False)):
        note = {"done": 1, "total": 2, "began": now - 100, "noted": noted_at}
        catalogue.settings.set(under_way=json.dumps(note))
        assert (read_progress(catalogue) is not None) is is_told


def test_a_note_of_another_version_is_none(catalogue: Catalogue) -> None:
    for kept in ("{", "[1]", '{"done": 1}'):
        catalogue.settings.set(under_way=kept)
        assert read_progress(catalogue) is None
