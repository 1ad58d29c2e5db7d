"""Gradual rescoring: the head sees only as many candidates as the hits that are taken need, and loses none."""

from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from indexes.arrays import Ids, unit
from indexes.catalogue.catalogue import Catalogue
from indexes.catalogue.descriptors import Descriptors
from indexes.catalogue.records import NewPicture
from indexes.vectors import sizing
from retrieval.engine import Engine
from retrieval.model.bundle import Bundle
from retrieval.model.head import Array, Head
from retrieval.store.maintenance import tuning
from retrieval.store.maintenance.tuning import read_tuning
from retrieval.store.rescoring import rescore, rescored_hits
from retrieval.store.similarity import StoreSimilarity
from tests.support.vectors import clustered

MODEL = "0123456789abcdef"
COUNT, STEP = 95, 20


def record(catalogue: Catalogue, fingerprint: str, vectors: Array) -> None:
    pictures = [
        NewPicture(b"/g/%05d" % place, 1, 2, b"%d" % place, vector, 3, 4) for place, vector in enumerate(vectors)
    ]
    catalogue.scans.record(b"/g", fingerprint, pictures)


def random_head(channels: int) -> Head:
    weight = np.random.default_rng(3).normal(size=(32, channels)).astype(np.float32)
    return Head(weight, np.zeros(32, np.float32), slope=9.0, intercept=-5.0, normalize=True)


@pytest.fixture
def catalogue(tmp_path: Path) -> Catalogue:
    catalogue = Catalogue(tmp_path / "store", create=True)
    record(catalogue, MODEL, clustered(COUNT))
    return catalogue


@pytest.fixture
def query() -> Array:
    (query,) = clustered(1, seed=7)
    return np.asarray(query)


def nearest(catalogue: Catalogue, query: Array) -> Ids:
    ((ids, vectors),) = catalogue.descriptors.all(MODEL)
    order = np.argsort(-unit(vectors) @ unit(query[None])[0])
    return ids[order]


def test_each_ten_hits_are_the_best_of_as_many_steps(catalogue: Catalogue, query: Array) -> None:
    similarity, ids = StoreSimilarity.of(random_head(64)), nearest(catalogue, query)
    hits = list(rescored_hits(catalogue, similarity, MODEL, query, ids, STEP))
    exact = rescore(catalogue, similarity, MODEL, query, ids)
    distances = dict(zip(exact.ids.tolist(), similarity.head.distance(exact.separations).tolist(), strict=True))
    left, expected = list[int](), list[int]()
    for start in range(0, COUNT, STEP):
        left = sorted({*left, *ids[start : start + STEP].tolist()}, key=lambda id_: distances[id_])
        taken = len(left) if start + STEP >= COUNT else 10
        expected, left = expected + left[:taken], left[taken:]
    assert [hit.id for hit in hits] == expected != exact.ids.tolist()
    assert [hit.distance for hit in hits] == pytest.approx([distances[hit.id] for hit in hits])
    whole = [hit.id for hit in rescored_hits(catalogue, similarity, MODEL, query, ids, None)]
    assert whole == exact.ids.tolist()
    assert [hit.id for hit in rescored_hits(catalogue, similarity, MODEL, query, ids, COUNT)] == whole
    assert list(rescored_hits(catalogue, similarity, MODEL, query, ids[:0], None)) == []


def test_only_the_candidates_that_are_needed_are_read(
    catalogue: Catalogue, query: Array, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[int] = []
    of = Descriptors.of

    def counted(self: Descriptors, ids: Ids, fingerprint: str) -> object:
        read.append(len(ids))
        return of(self, ids, fingerprint)

    ids = nearest(catalogue, query)
    monkeypatch.setattr(Descriptors, "of", counted)
    hits = rescored_hits(catalogue, StoreSimilarity.of(random_head(64)), MODEL, query, ids, STEP)
    assert len(list(islice(hits, 10))) == 10
    assert read == [20]
    assert len(list(islice(hits, 1))) == 1
    assert read == [20, 20]
    assert len(list(hits)) == COUNT - 11
    assert sum(read) == COUNT


def test_pictures_that_are_gone_are_skipped(catalogue: Catalogue, query: Array) -> None:
    similarity, ids = StoreSimilarity.of(random_head(64)), nearest(catalogue, query)
    gone = [hit.path for hit in rescored_hits(catalogue, similarity, MODEL, query, ids, STEP)][:15]
    catalogue.remove(*(str(path).encode() for path in gone))
    paths = [hit.path for hit in rescored_hits(catalogue, similarity, MODEL, query, ids, STEP)]
    assert len(set(paths)) == len(paths) == COUNT - 15
    assert not set(paths) & set(gone)


def test_a_step_is_used_with_the_head_and_the_index_that_it_was_measured_with(
    tmp_path: Path, small_gallery: Path, tiny_bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sizing, "MOST_EXACT", 300)
    monkeypatch.setattr(tuning, "POOL", 50)
    engine = Engine.create(tmp_path / "store", str(tiny_bundle.folder))
    record(engine.catalogue, engine.bundle.fingerprint, np.abs(clustered(900, channels=1280)))
    engine.index(small_gallery)
    measured = read_tuning(engine.catalogue)
    assert measured is not None
    assert engine.store.rescoring_step == measured.step is not None

    monkeypatch.setitem(engine.bundle.__dict__, "head", random_head(1280))
    assert engine.store.rescoring_step is None
    (chosen,) = engine.tune(0.0, probes=40)
    assert (chosen.probes, chosen.head) == (40, engine.bundle.head.digest)
    assert engine.store.rescoring_step == chosen.step

    engine.catalogue.settings.set(rescoring="{}")  # as a version that did not measure it leaves it
    assert engine.store.rescoring_step is None
    engine.index(small_gallery)
    assert engine.store.rescoring_step == 64
    assert engine.store.current_index().probes >= 40
    engine.close()
