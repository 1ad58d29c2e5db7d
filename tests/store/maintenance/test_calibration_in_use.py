"""A store's saved calibration, and whether it is in use."""

from pathlib import Path

from retrieval.model.bundle import find_bundle
from retrieval.store.maintenance.calibration import (
    HeldOut,
    delete_calibration,
    is_in_use,
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


def test_it_is_in_use_for_the_head_that_the_model_has_now(tmp_path: Path) -> None:
    catalogue = a_catalogue(tmp_path, {})
    assert is_in_use(a_calibration(find_bundle("default").head.digest), catalogue)
    assert not is_in_use(a_calibration("of another head"), catalogue)
    catalogue.settings.set(model=str(tmp_path / "gone"))
    assert not is_in_use(a_calibration(find_bundle("default").head.digest), catalogue)
