"""What judges a store's pairs, and why the model alone does if the gallery cannot."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from retrieval.model.bundle import Bundle
from retrieval.store.maintenance.calibration import save_calibration, shown_similarity
from retrieval.store.maintenance.gallery_statistics import expect_statistics, learn_statistics
from retrieval.store.maintenance.index_sync import open_index
from retrieval.store.similarity import PlainReason, StoreSimilarity, set_plain
from tests.support.calibrations import a_calibration
from tests.support.labelled import CHANNELS, MODEL, a_bundle, a_catalogue, a_gallery_bundle, classes


@pytest.fixture
def bundle() -> Bundle:
    return a_gallery_bundle()


@pytest.mark.parametrize(("each", "reason"), [(10, None), (2, PlainReason.small)])
def test_the_gallery_judges_once_its_statistics_are_learned(
    each: int, reason: PlainReason | None, tmp_path: Path, bundle: Bundle
) -> None:
    catalogue = a_catalogue(tmp_path, classes(4, each))
    before = shown_similarity(catalogue, bundle)
    assert (before.by, before.reason, before.is_outdated) == ("model", PlainReason.unlearned, True)
    learn_statistics(catalogue, open_index(catalogue, MODEL), bundle)
    after = shown_similarity(catalogue, bundle)
    assert (after.reason, after.is_outdated) == (reason, False)
    assert (after.by == "model") is (after.head.centre is None) is (reason is not None)
    assert shown_similarity(catalogue, a_bundle()).reason is PlainReason.model
    set_plain(catalogue, plain=True)
    assert shown_similarity(catalogue, bundle).reason is PlainReason.chosen
    set_plain(catalogue, plain=False)
    assert shown_similarity(catalogue, bundle).reason is reason


def test_a_calibration_keeps_the_similarity_that_it_was_made_for(tmp_path: Path, bundle: Bundle) -> None:
    catalogue, own = a_catalogue(tmp_path, classes(4, 10)), a_calibration(bundle.head.digest)
    learn_statistics(catalogue, open_index(catalogue, MODEL), bundle)
    save_calibration(catalogue, own)  # of an earlier version
    found = shown_similarity(catalogue, bundle)
    assert (found.reason, found.is_outdated, found.is_calibrated) == (PlainReason.calibration, True, True)
    assert (found.head.slope, found.head.centre) == (own.slope, None)
    save_calibration(catalogue, replace(own, normalised=True))
    found = shown_similarity(catalogue, bundle)
    assert (found.by, found.is_calibrated, found.head.slope) == ("gallery", True, own.slope)
    set_plain(catalogue, plain=True)
    found = shown_similarity(catalogue, bundle)
    assert (found.reason, found.is_calibrated, found.head) == (PlainReason.chosen, False, bundle.head)


def test_statistics_that_shards_leave_to_later_are_not_those_of_a_small_gallery(tmp_path: Path, bundle: Bundle) -> None:
    catalogue = a_catalogue(tmp_path, classes(4, 10))
    expect_statistics(catalogue)
    assert shown_similarity(catalogue, bundle).reason is PlainReason.unlearned


@pytest.mark.parametrize("centre", [None, 0.3])
def test_a_head_alone_measures_as_it_compares(centre: float | None, bundle: Bundle) -> None:
    head = bundle.head.centred(None if centre is None else np.full(CHANNELS, centre, np.float32))
    own, others = np.random.default_rng(0).random((2, 5, CHANNELS), np.float32)
    by_head, plain = StoreSimilarity.of(head).measure_from(own[0])(others)
    np.testing.assert_allclose(by_head, head.separation(head.embed(own[:1]), head.embed(others)), atol=1e-5)
    np.testing.assert_allclose(plain, bundle.head.separation(*map(bundle.head.embed, (own[:1], others))), atol=1e-6)
