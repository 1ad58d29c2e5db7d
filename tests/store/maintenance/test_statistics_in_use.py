"""A gallery's statistics are the same however it was indexed, follow what is removed, and come to a store of before."""

import sqlite3
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from indexes.catalogue.catalogue import Catalogue
from indexes.catalogue.records import NewPicture
from retrieval.engine import Engine
from retrieval.explain.hit import Hit
from retrieval.store.maintenance import gallery_statistics
from retrieval.store.maintenance.gallery_statistics import GalleryStatistics, learn_statistics
from retrieval.store.maintenance.index_sync import open_index
from tests.support.generated import blocks
from tests.support.labelled import CHANNELS, MODEL, a_gallery_bundle
from tests.support.postgres import AddressOf
from tests.support.vectors import clustered

COUNT, PORTIONS = 300, 10
_VECTORS = np.abs(clustered(2 * COUNT, channels=CHANNELS))


def record(catalogue: Catalogue, numbers: Iterable[int]) -> None:
    """Record pictures by their numbers: half of the others' hashes come before those of the first 300."""
    pictures = [
        NewPicture(b"/g/%04d" % number, 1, 2, b"%04d" % (number * 7919 % 10_000), _VECTORS[number], 3, 4)
        for number in numbers
    ]
    catalogue.scans.record(b"/g", MODEL, pictures)


def learned(catalogue: Catalogue) -> GalleryStatistics:
    with closing(open_index(catalogue, MODEL)) as index:
        statistics = learn_statistics(catalogue, index, a_gallery_bundle())
    assert statistics is not None
    return statistics


def assert_same(found: GalleryStatistics, expected: GalleryStatistics) -> None:
    np.testing.assert_allclose(found.centre, expected.centre, rtol=1e-6)
    assert found.spread == pytest.approx(expected.spread, rel=1e-5)
    assert found.nearest == pytest.approx(expected.nearest, rel=1e-5)
    assert found.plain_nearest == pytest.approx(expected.plain_nearest, rel=1e-5)


@pytest.fixture
def small_cohort(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a gallery of 300 be larger than its cohort."""
    monkeypatch.setattr(gallery_statistics, "_COHORT", 100)
    monkeypatch.setattr(gallery_statistics, "_REFERENCES", 50)


@pytest.mark.usefixtures("small_cohort")
def test_portions_removals_and_additions_give_the_same(tmp_path: Path, address_of: AddressOf) -> None:
    with Catalogue(tmp_path / "once", create=True) as once:
        record(once, range(COUNT))
        expected = learned(once)
    with Catalogue(tmp_path / "store", create=True, address=address_of(tmp_path / "store")) as catalogue:
        shuffled = np.random.default_rng(0).permutation(COUNT).tolist()
        for start in range(PORTIONS):
            record(catalogue, shuffled[start::PORTIONS])
            found = learned(catalogue)
        assert_same(found, expected)
        record(catalogue, range(COUNT, 2 * COUNT))
        changed = learned(catalogue)
        assert abs(changed.nearest[0] - expected.nearest[0]) > 0.01
        catalogue.remove(*(b"/g/%04d" % number for number in range(COUNT // 2, 2 * COUNT)))
        learned(catalogue)
        record(catalogue, range(COUNT // 2, COUNT))
        assert_same(learned(catalogue), expected)


@pytest.fixture(scope="module")
def gallery(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    for number in range(16):
        Image.fromarray(blocks(number)).save(folder / f"{number:02}.png")
    return folder


def figures(hits: Iterable[Hit]) -> list[tuple[str, float, float, float]]:
    """Return what a store says of its hits by the gallery's statistics."""
    found = []
    for hit in hits:
        assert hit.probability is not None
        assert hit.familiarity is not None
        found.append((str(hit.path), round(hit.similarity, 5), round(hit.probability, 5), round(hit.familiarity, 5)))
    return found


def test_a_query_after_a_removal_is_as_in_a_store_without(gallery: Path, tmp_path: Path) -> None:
    with Engine.create(tmp_path / "store") as engine, Engine.create(tmp_path / "without") as without:
        engine.index(gallery)
        before = engine.query(blocks(99), 12, explain=False)
        engine.remove(*(gallery / f"{number:02}.png" for number in range(4)))
        for number in range(4, 16):
            (tmp_path / "kept").mkdir(exist_ok=True)
            (tmp_path / "kept" / f"{number:02}.png").symlink_to(gallery / f"{number:02}.png")
        without.index(tmp_path / "kept")
        found, expected = (each.query(blocks(99), 12, explain=False) for each in (engine, without))
        assert [(Path(name).name, *rest) for name, *rest in figures(found)] == [
            (Path(name).name, *rest) for name, *rest in figures(expected)
        ]
        kept = {hit.path: hit.similarity for hit in before}
        assert any(abs(hit.similarity - kept.get(hit.path, hit.similarity)) > 1e-3 for hit in found)


def test_a_store_of_before_shows_the_models_own_number_until_it_is_indexed(gallery: Path, tmp_path: Path) -> None:
    with Engine.create(tmp_path / "store") as engine:
        engine.index(gallery)
        expected = figures(engine.query(blocks(99), explain=False))
    with closing(sqlite3.connect(tmp_path / "store" / "catalogue.sqlite")) as database, database:
        database.execute("DELETE FROM settings WHERE name = 'gallery_statistics'")
    with Engine.open(tmp_path / "store") as engine:
        for hit in engine.query(blocks(99), explain=False):
            assert (hit.similarity, hit.probability, hit.familiarity) == (hit.plain_similarity, None, None)
        assert engine.index().unchanged == 16
        assert figures(engine.query(blocks(99), explain=False)) == expected
