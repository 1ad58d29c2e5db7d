"""A store's saved calibration."""

from pathlib import Path

from retrieval.store.maintenance.calibration import (
    HeldOut,
    delete_calibration,
    read_calibration,
    save_calibration,
)
from tests.support.calibrations import a_calibration
from tests.support.labelled import a_catalogue


def test_a_calibration_is_saved_and_deleted(tmp_path: Path) -> None:
    catalogue = a_catalogue(tmp_path, {})
    assert read_calibration(catalogue) is None
    assert not delete_calibration(catalogue)
    save_calibration(catalogue, a_calibration())
    found = read_calibration(catalogue)
    assert found == a_calibration()
    assert isinstance(found.unseen, HeldOut)
    assert delete_calibration(catalogue)
    assert read_calibration(catalogue) is None
    assert not delete_calibration(catalogue)
