"""Calibration to a gallery: the fit, the pairs that it is measured on, and its refusals."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from indexes.arrays import Vectors
from indexes.errors import StoreError
from retrieval.common.errors import GalleryError
from retrieval.datasets.pair_sampling import Codes
from retrieval.model.head import Head
from retrieval.store.maintenance import calibration as module
from retrieval.store.maintenance import labelled_pictures
from retrieval.store.maintenance.calibration import Calibration, HeldOut, calibrate, read_calibration
from tests.support.labelled import CHANNELS, a_bundle, a_catalogue, classes
from tests.support.unprivileged import require_binding_permissions, run_unprivileged


@pytest.mark.slow
def test_the_neuron_that_made_the_labels_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def made(*arguments: object) -> tuple[object, object]:
        random = np.random.default_rng(1)
        separations = random.uniform(0, 2, 100_000)
        return separations, random.random(len(separations)) < 1 / (1 + np.exp(3 - 4 * separations))

    monkeypatch.setattr(module, "_draw_pairs", made)
    found = calibrate(a_catalogue(tmp_path, classes(3, 1000)), a_bundle()).calibration
    assert (found.slope, found.intercept) == pytest.approx((4, -3), abs=0.1)
    assert found.after.error < 0.01


@pytest.mark.parametrize(("count", "unseen"), [(4, HeldOut.pictures), (12, HeldOut.classes)])
def test_the_error_falls_where_the_head_is_wrong(count: int, unseen: HeldOut, tmp_path: Path) -> None:
    catalogue, bundle = a_catalogue(tmp_path, classes(count, 40)), a_bundle()
    found = calibrate(catalogue, bundle).calibration
    assert found.unseen == unseen
    assert found.before.error > 0.2
    assert found.after.error < 0.1
    assert found.after.accuracy >= found.before.accuracy
    assert (found.pictures, found.classes, found.model) == (40 * count, count, "tiny")
    assert found.digest == bundle.head.digest
    assert found.slope > 0
    assert 0.5 < found.roc_auc < 1
    assert read_calibration(catalogue) == found


def test_the_error_is_the_sum_over_the_bins(tmp_path: Path) -> None:
    found = calibrate(a_catalogue(tmp_path, classes(4, 40)), a_bundle())
    for bins, judged in ((found.before, found.calibration.before), (found.after, found.calibration.after)):
        total = sum(each.count for each in bins)
        assert sum(each.count * abs(each.mean - each.share) for each in bins) / total == pytest.approx(judged.error)


def test_the_seed_decides_all(tmp_path: Path) -> None:
    catalogue, bundle = a_catalogue(tmp_path, classes(3, 20)), a_bundle()
    one, again, other = (calibrate(catalogue, bundle, seed).calibration for seed in (0, 0, 1))
    assert one == again
    assert one.after != other.after
    assert one.slope == pytest.approx(other.slope, rel=0.3)


@pytest.mark.parametrize("unseen", [HeldOut.pictures, HeldOut.classes])
def test_a_half_is_judged_by_the_neuron_of_the_other(unseen: HeldOut, monkeypatch: pytest.MonkeyPatch) -> None:
    """The fits give slopes 1, 2, 3, …: the pairs of the first half are judged with 2, those of the second with 1."""
    codes = np.repeat(np.arange(12), 4)
    drawn: list[Codes] = []
    slopes = iter(range(1, 1000))

    def noted(head: Head, labelled: object, places: Codes, random: object) -> tuple[object, object]:
        drawn.append(places)
        return np.ones(4), np.array([True, False, True, False])

    monkeypatch.setattr(module, "_draw_pairs", noted)
    monkeypatch.setattr(module, "fit_logistic", lambda *arguments: (float(next(slopes)), 0.0))
    labelled = module._Labelled(np.ones((len(codes), 2), np.float32), codes)
    found = module._cross_fit(a_bundle().head, labelled, unseen, np.random.default_rng(0))
    for one, other in zip(drawn[::2], drawn[1::2], strict=True):
        assert sorted([*one, *other]) == list(range(len(codes)))
        assert (set(codes[one]) & set(codes[other]) == set()) == (unseen is HeldOut.classes)
        assert len(one) == len(other) == 24
    judged_with = np.repeat([2, 1, 4, 3, 6, 5, 8, 7, 10, 9], 4)
    np.testing.assert_allclose(found[2], 1 / (1 + np.exp(-judged_with)))


def test_of_a_large_gallery_a_sample_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(labelled_pictures, "MAX_PICTURES", 100)
    found = calibrate(a_catalogue(tmp_path, classes(4, 60)), a_bundle()).calibration
    assert found.pictures == 100


def test_pictures_outside_class_folders_are_ignored(tmp_path: Path) -> None:
    catalogue = a_catalogue(tmp_path, classes(3, 10) | {"": np.ones((5, CHANNELS), np.float32)})
    assert catalogue.pictures.count() == 35
    assert calibrate(catalogue, a_bundle()).calibration.pictures == 30


@pytest.mark.parametrize(
    ("descriptors", "held"),
    [
        (classes(1, 50), "50 pictures in class folders, and 4 or more in 1 of these"),
        (classes(4, 4), "16 pictures in class folders, and 4 or more in 4 of these"),
        (classes(9, 3), "27 pictures in class folders, and 4 or more in 0 of these"),
        ({}, "0 pictures in class folders, and 4 or more in 0 of these"),
    ],
)
def test_too_few_labels_are_refused(descriptors: dict[str, Vectors], held: str, tmp_path: Path) -> None:
    catalogue = a_catalogue(tmp_path, descriptors)
    with pytest.raises(GalleryError, match=f"holds {held}, too few to calibrate to: index at least 20, with 4 or more"):
        calibrate(catalogue, a_bundle())
    assert read_calibration(catalogue) is None


def test_many_classes_of_two_are_enough(tmp_path: Path) -> None:
    found = calibrate(a_catalogue(tmp_path, classes(10, 2)), a_bundle()).calibration
    assert (found.pictures, found.unseen) == (20, HeldOut.classes)


def test_labels_that_similarity_contradicts_are_refused_and_change_nothing(tmp_path: Path) -> None:
    """Put half of each class at either of two points, so that two of one class are more often apart."""
    places = np.repeat(np.eye(CHANNELS, dtype=np.float32)[:2], 5, axis=0)
    catalogue = a_catalogue(tmp_path / "good", classes(3, 20))
    kept = calibrate(catalogue, a_bundle()).calibration
    catalogue.remove(b"/g")
    catalogue.close()
    catalogue = a_catalogue(tmp_path / "good", {"a": places, "b": places + np.float32(0.01)})
    with pytest.raises(GalleryError, match="pictures of one class are no more similar than those of two"):
        calibrate(catalogue, a_bundle())
    assert read_calibration(catalogue) == kept


@pytest.mark.slow
def test_a_store_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    require_binding_permissions(tmp_path)
    store = tmp_path / "store"
    catalogue = a_catalogue(store, classes(3, 20))
    catalogue.close()
    store.chmod(0o500)
    code = (
        "import sys\nfrom pathlib import Path\nfrom indexes.catalogue.catalogue import Catalogue\n"
        "from retrieval.store.maintenance.calibration import calibrate\nfrom tests.support.labelled import a_bundle\n"
        "calibrate(Catalogue(Path(sys.argv[1])), a_bundle())"
    )
    last = run_unprivileged(code, store).stderr.splitlines()[-1]
    store.chmod(0o700)
    assert last.startswith(f"{StoreError.__module__}.StoreError: {store / 'catalogue.sqlite'} cannot be written: allow")


def test_a_calibration_is_that_of_one_head() -> None:
    head = a_bundle().head
    assert head.digest == replace(head).digest
    assert replace(head, slope=41.0).digest != head.digest
    assert replace(head, weight=head.weight + np.float32(1e-3)).digest != head.digest
    assert {"digest", "slope", "intercept"} <= Calibration.__dataclass_fields__.keys()
