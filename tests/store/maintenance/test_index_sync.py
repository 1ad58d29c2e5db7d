"""The index's file follows the catalogue: mapped, updated or rebuilt; and tuned if approximate."""

import os
import sys
from pathlib import Path

import numpy as np
import pytest

from indexes.arrays import Vectors, unit
from indexes.catalogue.catalogue import Catalogue
from indexes.catalogue.records import NewPicture
from indexes.vectors import faiss_file, sizing
from indexes.vectors.faiss_index import FaissIndex
from retrieval.model.head import Head
from retrieval.store.maintenance import index_sync
from retrieval.store.maintenance.index_sync import open_index
from retrieval.store.maintenance.tuning import Tuning, read_tuning, save_tuning, tune
from tests.support.postgres import AddressOf
from tests.support.progress import RecordedProgress
from tests.support.vectors import clustered

MODEL = "0123456789abcdef"
CHANNELS = 64


@pytest.fixture
def small_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a thousand pictures have an approximate index."""
    monkeypatch.setattr(sizing, "MOST_EXACT", 400)


@pytest.fixture
def catalogue(tmp_path: Path, address_of: AddressOf) -> Catalogue:
    return Catalogue(tmp_path / "store", create=True, address=address_of(tmp_path / "store"))


def record(catalogue: Catalogue, start: int, vectors: Vectors) -> None:
    pictures = [
        NewPicture(b"/g/%05d" % (start + place), 1, 2, b"%d" % (start + place), vector, 3, 4)
        for place, vector in enumerate(vectors)
    ]
    catalogue.scans.record(b"/g", MODEL, pictures)


def files(catalogue: Catalogue) -> list[str]:
    return [file.name for file in catalogue.folder.glob("*.faiss")]


def never(*arguments: object) -> tuple[FaissIndex, str]:
    raise AssertionError("the index was made anew")


def test_an_index_is_built_once_then_mapped(catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch) -> None:
    vectors = clustered(50)
    record(catalogue, 0, vectors)
    assert len(open_index(catalogue, MODEL)) == 50
    (name,) = files(catalogue)
    assert name.startswith(f"{MODEL}-{catalogue.generation}-")
    monkeypatch.setattr(index_sync._IndexSync, "_build", never)
    assert open_index(catalogue, MODEL).search(vectors[7:8], 1)[1].tolist() == [[8]]


@pytest.mark.usefixtures("small_limit")
@pytest.mark.parametrize("count", [100, 1000])
def test_an_index_follows_changes_without_a_rebuild(
    catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    vectors = clustered(count)
    record(catalogue, 0, vectors)
    index = open_index(catalogue, MODEL, must_save=True)
    assert index.is_exact == (count == 100)
    monkeypatch.setattr(index_sync._IndexSync, "_build", never)
    new = clustered(20, seed=3)
    record(catalogue, count, new[:10])
    record(catalogue, 5, new[10:11])  # another content under a known path
    catalogue.scans.set_missing([1, 2], True)
    catalogue.remove(b"/g/00030")
    index = open_index(catalogue, MODEL, must_save=True)
    assert len(index) == count + 10 - 3 == catalogue.pictures.count()
    mapped = faiss_file.load(catalogue.folder, MODEL, catalogue.generation)
    assert mapped is not None
    mapped.probes = 1000
    assert mapped.search(new[:11], 1)[1].ravel().tolist() == [*range(count + 1, count + 11), 6]
    assert not set(mapped.search(vectors[:40], 20)[1].ravel().tolist()) & {1, 2, 31}
    assert len(files(catalogue)) == 1
    catalogue.scans.set_missing([1], False)
    assert open_index(catalogue, MODEL).search(vectors[:1], 1)[1].tolist() == [[1]]


@pytest.mark.usefixtures("small_limit")
def test_an_index_that_no_longer_suits_is_rebuilt(catalogue: Catalogue) -> None:
    record(catalogue, 0, clustered(400))
    assert open_index(catalogue, MODEL, must_save=True).is_exact
    record(catalogue, 400, clustered(1, seed=2))
    progress = RecordedProgress()
    index = open_index(catalogue, MODEL, must_save=True, progress=progress)
    assert (index.is_exact, len(index)) == (False, 401)
    assert progress.totals == [("Learning the index", None), ("Making the index", 401)]
    catalogue.scans.set_missing(list(range(1, 300)), True)
    assert open_index(catalogue, MODEL, must_save=True).is_exact


def test_a_file_of_an_unknown_generation_is_not_followed(catalogue: Catalogue) -> None:
    record(catalogue, 0, clustered(5))
    other = FaissIndex.empty(CHANNELS)
    other.add(np.array([99], np.int64), clustered(1))
    faiss_file.save(other, catalogue.folder, MODEL, "feedfeedfeedfeed")
    assert sorted(open_index(catalogue, MODEL).search(clustered(1), 9)[1][0].tolist()) == [1, 2, 3, 4, 5]


def test_an_emptied_store_has_no_index_file(catalogue: Catalogue) -> None:
    record(catalogue, 0, clustered(5))
    open_index(catalogue, MODEL, must_save=True)
    assert len(files(catalogue)) == 1
    catalogue.remove(b"/g")
    assert len(open_index(catalogue, MODEL, must_save=True)) == 0
    assert files(catalogue) == []


def test_an_index_that_followed_is_mapped_from_its_new_file(catalogue: Catalogue) -> None:
    record(catalogue, 0, clustered(50))
    open_index(catalogue, MODEL).close()
    record(catalogue, 50, clustered(10))
    index = open_index(catalogue, MODEL)
    assert len(index) == 60
    (name,) = files(catalogue)
    if sys.platform == "linux":
        assert os.fsencode(catalogue.folder / name) in Path("/proc/self/maps").read_bytes()
    index.close()


@pytest.fixture
def head() -> Head:
    random = np.random.default_rng(3)
    weight = random.normal(size=(32, CHANNELS)).astype(np.float32)
    return Head(weight, np.zeros(32, np.float32), slope=9.0, intercept=-5.0, normalize=True)


@pytest.mark.slow
@pytest.mark.usefixtures("small_limit")
def test_tuning_stops_where_the_recall_is_reached(
    catalogue: Catalogue, head: Head, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("retrieval.store.maintenance.tuning.POOL", 50)
    monkeypatch.setattr("retrieval.store.maintenance.tuning._MIN_PROBES", 4)
    record(catalogue, 0, clustered(3000))
    index = open_index(catalogue, MODEL)
    progress = RecordedProgress()
    steps = tune(catalogue, index, head, MODEL, 0.9, progress)
    assert progress.totals == [("Measuring the index", 3000)]
    assert progress.stages[0].done == 3000
    assert [step.probes for step in steps] == [4, 8, 16, 32, 64, 110][: len(steps)]
    recalls = [step.recall or 0 for step in steps]
    assert recalls == sorted(recalls)
    assert recalls[-1] >= 0.9 > max([0, *recalls[:-1]])
    assert steps[-1].probes == index.probes
    assert {(step.kind, step.pictures, step.lists, step.queries) for step in steps} == {
        ("RR64,IVF110,RaBitQ4", 3000, 110, 100)
    }
    everything = tune(catalogue, index, head, MODEL, 1.1)
    assert everything[-1].probes == index.lists


@pytest.mark.usefixtures("small_limit")
def test_recall_equals_a_count_by_hand(catalogue: Catalogue, head: Head, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("retrieval.store.maintenance.tuning.POOL", 40)
    monkeypatch.setattr("retrieval.store.maintenance.tuning._MIN_PROBES", 4)
    monkeypatch.setattr("retrieval.store.maintenance.tuning._MIN_STEP", 1)
    record(catalogue, 0, clustered(1000))
    index = open_index(catalogue, MODEL)
    tuning = tune(catalogue, index, head, MODEL, 0.0)[0]
    own, queries = catalogue.descriptors.sample(MODEL, 100)
    ids, vectors = (np.concatenate(parts) for parts in zip(*catalogue.descriptors.all(MODEL), strict=True))
    units, u = unit(vectors), head.embed(vectors)
    shares, places = [], []
    for id_, query in zip(own, queries, strict=True):
        near = np.argsort(-units @ unit(query[None])[0], kind="stable")
        pool = [place for place in near if ids[place] != id_][:40]
        best = sorted(pool, key=lambda place: float(np.linalg.norm(u[place] - head.embed(query))))[:10]
        found = [found for found in index.search(query[None], 41)[1][0].tolist() if found != id_][:40]
        shares.append(len({int(ids[place]) for place in best} & set(found)) / 10)
        places += [found.index(int(ids[place])) for place in best if ids[place] in found]
    assert tuning.probes == index.probes == 4
    assert tuning.recall == pytest.approx(np.mean(shares), abs=1e-9)
    assert 0 < np.mean(shares) < 1
    assert tuning.step is not None
    assert np.mean(np.array(places) < tuning.step) >= 0.8 > np.mean(np.array(places) < tuning.step - 1)
    whole = tune(catalogue, index, head, MODEL, 1.0)[0].step
    assert whole == max(places) + 1 > tuning.step


def test_an_exact_index_has_nothing_to_tune(catalogue: Catalogue, head: Head) -> None:
    record(catalogue, 0, clustered(20))
    assert tune(catalogue, open_index(catalogue, MODEL), head, MODEL) == [Tuning("IDMap,Flat", 20)]


@pytest.mark.usefixtures("small_limit")
def test_a_tuning_is_saved_and_used(catalogue: Catalogue) -> None:
    assert read_tuning(catalogue) is None
    record(catalogue, 0, clustered(1000))
    kind = open_index(catalogue, MODEL, must_save=True).kind
    tuning = Tuning(kind, 1000, 63, 7, 0.987, 100, 0.25, 80, "digest")
    save_tuning(catalogue, tuning)
    assert read_tuning(catalogue) == tuning
    assert open_index(catalogue, MODEL).probes == 7
    save_tuning(catalogue, Tuning("RR64,IVF9,RaBitQ4", 1000, 9, 3))
    assert open_index(catalogue, MODEL).probes == 32
