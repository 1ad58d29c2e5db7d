"""The status of a store."""

from pathlib import Path

import pytest

from indexes.catalogue.catalogue import Catalogue
from indexes.catalogue.records import FailedFile, RootCounts
from indexes.catalogue.scans import ScanRecords
from retrieval.model.bundle import find_bundle
from retrieval.store.maintenance.calibration import save_calibration
from retrieval.store.status import read_status
from tests.support.calibrations import a_calibration
from tests.support.served import client_of
from tests.support.store import Indexed


def test_an_empty_store_has_a_status(tmp_path: Path) -> None:
    with Catalogue(tmp_path / "store", create=True) as catalogue:
        status = read_status(catalogue)
    assert (status.model, status.fingerprint, status.tuning, status.calibration) == (None, None, None, None)
    assert (status.pictures, status.failed, status.galleries, status.progress) == (0, 0, [], None)
    assert (status.folder, status.address, status.index_address) == (tmp_path / "store", None, "faiss")


def test_failed_files_are_counted(tmp_path: Path) -> None:
    with Catalogue(tmp_path / "store", create=True) as catalogue:
        catalogue.scans.record(b"/g", "model", [], [FailedFile(b"/g/a.jpg", "is empty", False)])
        status = read_status(catalogue)
    assert (status.failed, status.galleries) == (1, [RootCounts(b"/g", 0, 0)])


def test_a_calibration_is_of_one_head(tmp_path: Path) -> None:
    bundle = find_bundle("default")
    with Catalogue(tmp_path / "store", create=True) as catalogue:
        for digest, is_calibrated in ((bundle.head.digest, True), ("of another", False)):
            save_calibration(catalogue, a_calibration(digest))
            assert read_status(catalogue, bundle).is_calibrated is is_calibrated
        save_calibration(catalogue, a_calibration(bundle.head.digest))
        catalogue.settings.set(model="default")
        assert read_status(catalogue).is_calibrated  # by default the store's own model decides
        catalogue.settings.set(model=str(tmp_path / "gone"))
        status = read_status(catalogue)
    assert (status.similarity, status.is_calibrated) == (None, False)
    assert status.calibration is not None


def test_a_poll_of_the_server_loads_no_failures(indexed: Indexed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ScanRecords, "failures", lambda records: pytest.fail("all failures were loaded"))
    with client_of(indexed.store) as client:
        assert client.get("/api/status").json()["failed"] == 2
