"""A gallery's statistics: by hand, on a cohort of the smallest hashes, and saved beside the catalogue."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from indexes.arrays import Vectors
from indexes.catalogue.catalogue import Catalogue
from indexes.catalogue.records import NewPicture
from indexes.errors import StoreError
from retrieval.model.bundle import Bundle
from retrieval.model.head import Array
from retrieval.store.maintenance import gallery_statistics as module
from retrieval.store.maintenance.gallery_statistics import GalleryStatistics, learn_statistics, read_statistics
from retrieval.store.maintenance.index_sync import open_index
from retrieval.store.similarity import kind_probability
from tests.support.labelled import CHANNELS, MODEL, NEURON, a_bundle, a_catalogue, a_gallery_bundle, classes


@pytest.fixture
def bundle() -> Bundle:
    return a_gallery_bundle()


@pytest.fixture
def gallery(tmp_path: Path) -> Iterator[tuple[Catalogue, Vectors]]:
    """Return a store of 40 pictures, and their descriptors as stored."""
    catalogue = a_catalogue(tmp_path, classes(4, 10))
    yield catalogue, np.concatenate([stored for _, stored in catalogue.descriptors.all(MODEL)])
    catalogue.close()


def learned(catalogue: Catalogue, bundle: Bundle) -> GalleryStatistics | None:
    index = open_index(catalogue, MODEL)
    try:
        return learn_statistics(catalogue, index, bundle)
    finally:
        index.close()


def nearest(u: Array) -> Array:
    separations = np.linalg.norm(u[:, None] - u, axis=2)
    np.fill_diagonal(separations, np.inf)
    return np.asarray(separations.min(1))


def test_statistics_by_hand(gallery: tuple[Catalogue, Vectors], bundle: Bundle) -> None:
    (catalogue, vectors), head = gallery, bundle.head
    found = learned(catalogue, bundle)
    assert found is not None
    u = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    centre = 0.5 * u.mean(0)
    v = (u - centre) / np.linalg.norm(u - centre, axis=1, keepdims=True)
    np.testing.assert_allclose(found.centre, centre, rtol=1e-5)
    cosines = np.sort((v @ v.T)[np.triu_indices(len(v), 1)])
    assert found.spread == pytest.approx(np.quantile(cosines, 0.5) - np.quantile(cosines, 0.16), rel=1e-4)
    assert found.nearest == pytest.approx((nearest(v).mean(), nearest(v).std()), rel=1e-3)
    assert found.plain_nearest[::50] == pytest.approx(np.quantile(nearest(u), (0, 0.5, 1)), rel=1e-3)
    assert (found.digest, found.generation) == (head.digest, catalogue.generation)
    kept = read_statistics(catalogue, head)
    assert kept is not None
    np.testing.assert_array_equal(kept.centre, found.centre)
    assert replace(kept, centre=found.centre) == found
    assert read_statistics(catalogue, head.calibrated(3.0, 4.0)) is None


def test_what_the_neurons_make_of_them(gallery: tuple[Catalogue, Vectors], bundle: Bundle) -> None:
    found = learned(gallery[0], bundle)
    assert found is not None
    head = found.adapt(bundle.head, NEURON)
    assert (head.slope, head.intercept) == pytest.approx((10 + 1 / found.spread, -12 - 2 / found.spread))
    assert head.digest == bundle.head.calibrated(head.slope, head.intercept).digest
    mean, deviation = found.nearest
    z = found.nearness(np.array([mean, mean - deviation, mean + 2 * deviation]))
    np.testing.assert_allclose(z, [0, 1, -2], atol=1e-9)
    np.testing.assert_allclose(kind_probability(NEURON.hit, z), 1 / (1 + np.exp(-(2 * z + 1))))
    shares = [found.familiarity(separation) for separation in (0.0, *found.plain_nearest[::50], 3.0)]
    assert shares == pytest.approx([1, 1, 0.5, 0, 0], abs=0.05)  # two may be each other's nearest


def test_copies_count_once_and_are_nobodys_nearest(gallery: tuple[Catalogue, Vectors], bundle: Bundle) -> None:
    catalogue, vectors = gallery
    before = learned(catalogue, bundle)
    copies = [NewPicture(b"/g/copy%d" % place, 1, 2, b"class-0%d" % place, vectors[place], 3, 4) for place in range(10)]
    catalogue.scans.record(b"/g", MODEL, copies)
    assert catalogue.pictures.count() == 50
    after = learned(catalogue, bundle)
    assert before is not None
    assert after is not None
    assert after.generation != before.generation
    np.testing.assert_array_equal(after.centre, before.centre)
    assert after.spread == before.spread
    assert after.nearest == pytest.approx(before.nearest, rel=1e-5)
    assert after.plain_nearest == pytest.approx(before.plain_nearest, rel=1e-5)


def test_they_are_learned_once_for_a_generation(
    gallery: tuple[Catalogue, Vectors], bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    catalogue, _ = gallery
    first = learned(catalogue, bundle)
    monkeypatch.setattr(module, "_learn", None)
    again = learned(catalogue, bundle)
    assert first is not None
    assert again is not None
    assert again.generation == first.generation


def test_a_sample_of_the_nearest_says_the_same(
    gallery: tuple[Catalogue, Vectors], bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    catalogue, _ = gallery
    whole = learned(catalogue, bundle)
    monkeypatch.setattr(module, "_ALL", 10)
    catalogue.settings.set(gallery_statistics="")
    sampled = learned(catalogue, bundle)
    assert whole is not None
    assert sampled is not None
    assert sampled.nearest == pytest.approx(whole.nearest, rel=1e-6)


@pytest.mark.parametrize("count", [0, 9])
def test_few_pictures_say_too_little(count: int, tmp_path: Path, bundle: Bundle) -> None:
    with a_catalogue(tmp_path, {"a": (1 + np.eye(count, CHANNELS)).astype(np.float32)}) as catalogue:
        assert learned(catalogue, bundle) is None
        assert read_statistics(catalogue, bundle.head) is None


def test_a_model_without_a_neuron_learns_nothing(gallery: tuple[Catalogue, Vectors]) -> None:
    assert learned(gallery[0], a_bundle()) is None
    assert gallery[0].settings.get("gallery_statistics") is None


def test_damaged_statistics_are_one_sentence(gallery: tuple[Catalogue, Vectors], bundle: Bundle) -> None:
    catalogue, _ = gallery
    for text in ("{", "{}", "[1]"):
        catalogue.settings.set(gallery_statistics=text)
        with pytest.raises(StoreError, match="are damaged"):
            read_statistics(catalogue, bundle.head)
