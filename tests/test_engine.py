"""The engine: the hits of queries and their order, incremental runs, and removal."""

import io
import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import retrieval.engine as engine_module
from indexes.arrays import Vectors
from indexes.catalogue.records import RemovedCounts
from indexes.errors import StoreError
from indexes.vectors import faiss_file
from indexes.vectors.base import TunedIndex
from indexes.vectors.faiss_index import FaissIndex
from retrieval.common.errors import GalleryError, ModelError
from retrieval.engine import Engine
from retrieval.model.bundle import Bundle
from retrieval.model.head import Head
from retrieval.sources.gallery import resolve_gallery
from retrieval.store import opened_store
from retrieval.store.maintenance import index_sync
from retrieval.store.maintenance.calibration import Calibration, delete_calibration, save_calibration
from retrieval.store.maintenance.index_sync import open_index, open_index_state
from retrieval.store.maintenance.removal import remove_paths
from retrieval.store.query import PreparedQuery
from retrieval.store.similarity import set_plain
from tests.support.bundles import altered_bundle
from tests.support.calibrations import a_calibration
from tests.support.generated import blocks
from tests.support.photographs import photograph
from tests.support.progress import RecordedProgress
from tests.support.unprivileged import require_binding_permissions, run_unprivileged

_PICTURES = 240


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory, tiny_bundle: Bundle) -> Iterator[Engine]:
    """240 generated pictures under a random head, whose order is not the index's."""
    folder = tmp_path_factory.mktemp("engine")
    for number in range(_PICTURES):
        class_folder = folder / "gallery" / f"class-{number % 4}"
        class_folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(blocks(number, cells=2 + number % 5)).save(class_folder / f"{number:03}.png")
    engine = Engine.create(folder / "store", str(tiny_bundle.folder))
    random = np.random.default_rng(3)
    weight = random.normal(size=(64, 1280)).astype(np.float32)
    head = Head(weight, random.normal(size=64).astype(np.float32), slope=9.0, intercept=-5.0, normalize=True)
    engine.bundle.__dict__["head"] = head
    engine.index(folder / "gallery")
    yield engine
    engine.close()


def test_a_failed_run_releases_the_network(
    small_gallery: Path, tmp_path: Path, tiny_bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: object) -> None:
        raise StoreError("the disk is full")

    engine = Engine.create(tmp_path / "store", str(tiny_bundle.folder))
    monkeypatch.setattr(engine_module, "index_galleries", fail)
    network = engine.store.encoder.network
    with pytest.raises(StoreError, match="the disk is full"):
        engine.index(small_gallery)
    assert engine.store.encoder.network is not network
    engine.close()


@pytest.mark.slow
def test_top_5_is_a_prefix_of_top_15(engine: Engine) -> None:
    for number in range(100):
        picture = blocks(number, width=80, height=70)
        short = engine.query(picture, top=5, pool=60, explain=False)
        assert len(short) == 5
        assert engine.query(picture, top=15, pool=60, explain=False)[:5] == short


def test_a_coverage_is_of_the_whole_store(engine: Engine) -> None:
    for wrong in ({"coverage": 0.0}, {"coverage": 1.0}, {"coverage": 0.5, "label": "a"}):
        with pytest.raises(ValueError, match="coverage"):
            engine.query(blocks(1), explain=False, **wrong)


@pytest.mark.slow
def test_rescored_order_is_the_exact_order_of_the_head(engine: Engine) -> None:
    catalogue, bundle, head = engine.catalogue, engine.bundle, engine.store.head
    assert head.centre is not None
    ((ids, vectors),) = catalogue.descriptors.all(bundle.fingerprint)
    pictures = catalogue.pictures.candidates(ids)
    row_of = {picture.path: row for row, picture in enumerate(pictures)}
    changed = 0
    for number in range(100):
        picture = blocks(number, width=80, height=70)
        descriptor = engine.queries.describe([engine.queries.read(picture)])[0]
        hits = engine.query(picture, top=60, pool=60, explain=False)
        rows = np.array([row_of[os.fsencode(hit.path)] for hit in hits])

        cosines = vectors @ descriptor / np.linalg.norm(vectors, axis=1) / np.linalg.norm(descriptor)
        np.testing.assert_allclose(np.sort(cosines[rows]), np.sort(cosines)[-60:], atol=1e-6)  # the nearest 60
        by_index = sorted(range(60), key=lambda rank: hits[rank].index_rank)
        assert [hits[rank].index_rank for rank in by_index] == list(range(1, 61))
        assert np.all(np.diff(cosines[rows[by_index]]) <= 1e-6)

        u, others = (each.astype(np.float64) for each in (head.embed(descriptor[None])[0], head.embed(vectors[rows])))
        separations = np.sqrt(((u.astype(np.float64) - others) ** 2).sum(axis=1))
        assert np.all(np.diff(separations) >= -1e-6)
        assert [hit.rank for hit in hits] == list(range(1, 61))
        np.testing.assert_allclose([hit.distance for hit in hits], head.distance(separations), atol=1e-5)
        changed += by_index != list(range(60))
    assert changed > 90  # else nothing was shown about rescoring


def test_explanation_of_a_hit_is_that_of_the_pair(engine: Engine) -> None:
    picture = blocks(5, width=80, height=70)
    hit = engine.query(picture, top=3, method="ensemble")[2]  # occlusion hides other regions if a query has one hit
    assert hit.explanation is not None
    pair = engine.explain(picture, hit.path, method="ensemble")
    np.testing.assert_allclose(hit.explanation.query.factual, pair.query.factual, atol=1e-5)
    np.testing.assert_allclose(hit.explanation.hit.counterfactual, pair.hit.counterfactual, atol=1e-5)
    assert hit.distance == pytest.approx(pair.distance, abs=1e-6)
    assert hit.explanation.query.magnitude > 0
    assert max(hit.explanation.query.factual.max(), hit.explanation.query.counterfactual.max()) == 1


@pytest.mark.parametrize("method", ["ensemble", pytest.param("occlusion", marks=pytest.mark.slow)])
def test_every_hit_has_grad_cam_s_maps_beside_the_method_s(method: str, engine: Engine) -> None:
    picture = blocks(5, width=80, height=70)
    shown, alone = (engine.query(picture, top=3, method=name) for name in (method, "gradcam"))
    whys = [(hit.explanation, other.explanation) for hit, other in zip(shown, alone, strict=True)]
    pairs = [engine.explain(picture, shown[1].path, method=name) for name in (method, "gradcam")]
    for why, expected in [*whys, (pairs[0], pairs[1])]:
        assert why is not None
        assert why.gradcam is not None
        assert expected is not None
        assert expected.gradcam is None
        for own, other in ((why.gradcam.query, expected.query), (why.gradcam.hit, expected.hit)):
            np.testing.assert_allclose(own.factual, other.factual, atol=1e-5)
            np.testing.assert_allclose(own.counterfactual, other.counterfactual, atol=1e-5)
            assert own.magnitude == pytest.approx(other.magnitude)
            assert own.seen == other.seen
        assert why.gradcam.overlay("query") == expected.overlay("query")


def test_a_picture_finds_itself_and_has_nothing_to_explain(engine: Engine) -> None:
    path = sorted(Path(engine.catalogue.folder).parent.glob("gallery/*/*.png"))[17]
    hit = engine.query(path, top=1)[0]
    assert hit.path == path
    assert hit.similarity > 0.99
    assert hit.explanation is not None
    assert hit.explanation.identical
    assert hit.explanation.hit.magnitude == 0
    assert not hit.explanation.query.factual.any()


def test_a_file_has_the_same_answer_in_every_way_in(engine: Engine, tmp_path: Path) -> None:
    photograph(7, 1300, 900).save(tmp_path / "a.jpg")
    photograph(7, 1300, 900).save(tmp_path / "a.png")
    for file in (tmp_path / "a.jpg", tmp_path / "a.png"):
        opened, loaded = Image.open(file), Image.open(file)
        loaded.load()
        expected = [(hit.path, hit.similarity) for hit in engine.query(file, top=9, explain=False)]
        for source in (str(file), file.read_bytes(), opened, loaded):
            assert [(hit.path, hit.similarity) for hit in engine.query(source, top=9, explain=False)] == expected
        of_nothing = Image.open(io.BytesIO(file.read_bytes()))
        of_nothing.load()
        hits = engine.query(of_nothing, top=9, explain=False)
        np.testing.assert_allclose([hit.similarity for hit in hits], [each for _, each in expected], atol=0.05)


def test_label_and_least_similarity_filter(engine: Engine) -> None:
    picture = blocks(9)
    labelled = engine.query(picture, top=60, pool=60, label="class-2", explain=False)
    assert len(labelled) == 60  # the pool is drawn among the label's own pictures
    assert {hit.label for hit in labelled} == {"class-2"}
    everything = engine.query(picture, top=60, pool=60, explain=False)
    least = everything[10].similarity
    assert engine.query(picture, top=60, pool=60, min_similarity=least, explain=False) == everything[:11]
    assert engine.query(picture, label="no such label") == []


def test_preprocess_is_what_the_network_sees(engine: Engine) -> None:
    x = engine.preprocess(np.full((10, 20, 3), 255, np.uint8))
    assert x.shape == (3, 224, 224)
    assert x.dtype == np.float32
    assert np.all(x == 1.0)  # (255 - 127) / 128


def test_incremental_run(small_gallery: Path, tmp_path: Path, tiny_bundle: Bundle) -> None:
    engine = Engine.create(tmp_path / "store", str(tiny_bundle.folder))
    first = engine.index(small_gallery)
    assert (first.added, first.embedded, first.reused, first.unchanged, first.missing) == (12, 12, 0, 0, 0)
    again = engine.index(small_gallery)
    assert (again.added, again.embedded, again.unchanged) == (0, 0, 12)

    apple, boat = small_gallery / "apples" / "0.png", small_gallery / "boats" / "0.png"
    apple.rename(small_gallery / "apples" / "renamed.png")
    shutil.copy(boat, small_gallery / "boats" / "copy.png")
    (small_gallery / "cats" / "0.png").unlink()
    Image.fromarray(blocks(999)).save(small_gallery / "cats" / "1.png")
    changed = engine.index(small_gallery)
    assert (changed.added, changed.embedded, changed.reused) == (3, 1, 2)
    assert (changed.unchanged, changed.missing) == (9, 2)
    found = {hit.path.name for hit in engine.query(blocks(0), top=12, explain=False)}
    assert "renamed.png" in found

    names = {hit.path for hit in engine.query(blocks(200), top=12, explain=False, collapse=False)}
    assert small_gallery / "cats" / "0.png" not in names
    assert len(names) == 12
    (boats,) = [hit for hit in engine.query(boat, top=12, explain=False) if hit.copies]
    assert (boats.path, boats.copies) == (boat, (small_gallery / "boats" / "copy.png",))


def test_exchanged_names_exchange_descriptors(small_gallery: Path, tmp_path: Path, tiny_bundle: Bundle) -> None:
    engine = Engine.create(tmp_path / "store", str(tiny_bundle.folder))
    engine.index(small_gallery)
    one, two = small_gallery / "apples" / "0.png", small_gallery / "boats" / "3.png"
    one.rename(tmp_path / "aside.png")
    two.rename(one)
    (tmp_path / "aside.png").rename(two)
    report = engine.index(small_gallery)
    assert (report.embedded, report.reused) == (0, 2)
    assert engine.query(blocks(0), top=1)[0].path == two
    assert engine.query(blocks(103), top=1)[0].path == one


@pytest.mark.slow
def test_a_deleted_file_is_no_hit_even_before_the_next_run(
    small_gallery: Path, tmp_path: Path, tiny_bundle: Bundle
) -> None:
    engine = Engine.create(tmp_path / "store", str(tiny_bundle.folder))
    engine.index(small_gallery)
    (small_gallery / "apples" / "0.png").unlink()
    hits = engine.query(blocks(0), top=12)
    assert len(hits) == 11
    assert [hit.rank for hit in hits] == list(range(1, 12))


def test_a_vanished_or_emptied_gallery_loses_nothing(small_gallery: Path, tmp_path: Path, tiny_bundle: Bundle) -> None:
    engine = Engine.create(tmp_path / "store", str(tiny_bundle.folder))
    engine.index(small_gallery)
    small_gallery.rename(tmp_path / "unmounted")
    with pytest.raises(GalleryError, match="nothing was marked missing"):
        engine.index(small_gallery)
    small_gallery.mkdir()
    report = engine.index(small_gallery)
    assert report.missing == 0
    assert report.kept_roots == (small_gallery,)
    small_gallery.rmdir()
    (tmp_path / "unmounted").rename(small_gallery)
    assert engine.index(small_gallery).unchanged == 12


def test_a_file_that_comes_back_is_not_embedded_again(small_gallery: Path, tmp_path: Path, tiny_bundle: Bundle) -> None:
    engine = Engine.create(tmp_path / "store", str(tiny_bundle.folder))
    engine.index(small_gallery)
    apple = small_gallery / "apples" / "0.png"
    apple.rename(tmp_path / "0.png")
    assert engine.index(small_gallery).missing == 1
    (tmp_path / "0.png").rename(apple)
    report = engine.index(small_gallery)
    assert (report.embedded, report.reused, report.missing) == (0, 1, 0)
    assert engine.query(blocks(0), top=1)[0].path == apple


def test_several_galleries_and_a_run_over_all(small_gallery: Path, tmp_path: Path, tiny_bundle: Bundle) -> None:
    other = tmp_path / "other"
    shutil.copytree(small_gallery / "cats", other)
    engine = Engine.create(tmp_path / "store", str(tiny_bundle.folder))
    report = engine.index(small_gallery, other)
    assert (report.added, report.embedded, report.reused) == (16, 12, 4)
    (other / "0.png").unlink()
    assert engine.index().missing == 1
    assert sorted(engine.catalogue.scans.roots()) == sorted(str(path).encode() for path in (small_gallery, other))


@pytest.mark.slow
def test_a_damaged_or_absent_index_file_is_rebuilt(small_gallery: Path, tmp_path: Path, tiny_bundle: Bundle) -> None:
    engine = Engine.create(tmp_path / "store", str(tiny_bundle.folder))
    engine.index(small_gallery)
    expected = engine.query(blocks(3), explain=False)
    (file,) = (tmp_path / "store").glob("*.faiss")
    for damage in (b"", file.read_bytes()[:100], file.read_bytes()[:-1] + b"\0\1"):
        file.write_bytes(damage)
        assert Engine.open(tmp_path / "store").query(blocks(3), explain=False) == expected
    file.unlink()
    assert Engine.open(tmp_path / "store").query(blocks(3), explain=False) == expected
    assert file.is_file()


def test_index_file_of_another_generation_is_not_used(small_gallery: Path, tmp_path: Path, tiny_bundle: Bundle) -> None:
    engine = Engine.create(tmp_path / "store", str(tiny_bundle.folder))
    engine.index(small_gallery)
    engine.catalogue.remove(bytes(small_gallery / "apples"))
    assert len(open_index(engine.catalogue, engine.bundle.fingerprint)) == 8


def test_index_file_of_a_store_that_was_restored_is_not_used(
    small_gallery: Path, tmp_path: Path, tiny_bundle: Bundle
) -> None:
    store = tmp_path / "store"
    Engine.create(store, str(tiny_bundle.folder)).close()
    shutil.copytree(store, tmp_path / "copy")
    for folder in ("apples", "boats"):
        engine = Engine.open(store)
        engine.index(small_gallery / folder)
        engine.close()
        shutil.copy(tmp_path / "copy" / "catalogue.sqlite", store)
    engine = Engine.open(store)
    engine.index(small_gallery / "cats")
    for place in range(4):  # ids are those of the others, descriptors are not
        hit = engine.query(blocks(200 + place), top=1, explain=False)[0]
        assert hit.path == small_gallery / "cats" / f"{place}.png"
        assert hit.index_distance == pytest.approx(0, abs=1e-5)


def test_an_engine_sees_what_another_one_changed(small_gallery: Path, tmp_path: Path, tiny_bundle: Bundle) -> None:
    engine, other = (Engine.create(tmp_path / "store", str(tiny_bundle.folder)) for _ in range(2))
    engine.index(small_gallery / "apples")
    assert len(engine.query(blocks(0), top=12, explain=False)) == 4
    other.index(small_gallery / "boats")
    assert engine.query(blocks(100), top=12, explain=False)[0].path == small_gallery / "boats" / "0.png"
    assert other.remove(small_gallery / "apples") == 4
    assert len(engine.query(blocks(0), top=12, explain=False)) == 4


def test_a_query_needs_no_room_for_the_index_file(
    small_gallery: Path, tmp_path: Path, tiny_bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = Engine.create(tmp_path / "store", str(tiny_bundle.folder))
    engine.index(small_gallery)
    expected = engine.query(blocks(3), explain=False)

    def full(*arguments: object) -> None:
        raise StoreError("the disk is full")

    monkeypatch.setattr(faiss_file, "save", full)
    next((tmp_path / "store").glob("*.faiss")).unlink()
    assert Engine.open(tmp_path / "store").query(blocks(3), explain=False) == expected
    with pytest.raises(StoreError, match="the disk is full"):
        engine.index(small_gallery)


def test_a_batch_of_queries_is_one_search(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    single = [engine.query(blocks(number), top=3, explain=False) for number in range(3)]
    sizes: list[int] = []
    search = FaissIndex.search

    def counted(self: FaissIndex, queries: Vectors, *rest: object) -> object:
        sizes.append(len(queries))
        return search(self, queries, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(FaissIndex, "search", counted)
    found = engine.queries.prepare([blocks(0), "no such.png", blocks(1), blocks(2)])
    assert sizes == [3]
    assert str(found.pop(1)) == "no such.png does not exist"
    questions = [question for question in found if isinstance(question, PreparedQuery)]
    assert [engine.queries.finish(question, top=3, explain=False).hits for question in questions] == single
    assert str(engine.queries.prepare([b""])[0]) == "is empty"


# Removal


def test_remove_by_any_path_that_leads_there(small_gallery: Path, tmp_path: Path, tiny_bundle: Bundle) -> None:
    (small_gallery / "apples" / "link.png").symlink_to(small_gallery / "cats" / "0.png")
    shutil.copytree(small_gallery / "boats", tmp_path / "elsewhere")
    (small_gallery / "linked").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "way").symlink_to(small_gallery)
    engine = Engine.create(tmp_path / "store", str(tiny_bundle.folder))
    assert engine.index(tmp_path / "way").added == 17
    for path in ("way/apples/link.png", "way/linked/1.png", "gallery/linked/2.png", "way/boats/3.png"):
        assert engine.remove(tmp_path / path) == 1, path
    assert engine.remove(tmp_path / "way" / "apples", tmp_path / "way" / "cats") == 8
    assert engine.remove(tmp_path / "way" / "apples") == 0
    assert engine.remove(tmp_path / "way") == 5
    assert engine.catalogue.scans.roots() == []


def test_removed_pictures_do_not_stay_on_the_disk(small_gallery: Path, tmp_path: Path, tiny_bundle: Bundle) -> None:
    engine = Engine.create(tmp_path / "store", str(tiny_bundle.folder))
    engine.index(small_gallery)
    ((_, vectors),) = engine.catalogue.descriptors.all(engine.bundle.fingerprint)
    kept = vectors[0].astype("<f2").tobytes()[:500]  # less than what SQLite keeps in one piece
    assert engine.remove(small_gallery) == 12
    engine.close()
    (file,) = (tmp_path / "store").iterdir()
    assert kept not in file.read_bytes()


def test_a_failed_file_and_an_empty_gallery_are_removed(tmp_path: Path, tiny_bundle: Bundle) -> None:
    (tmp_path / "g").mkdir()
    (tmp_path / "g" / "broken.jpg").write_text("no picture")
    engine = Engine.create(tmp_path / "store", str(tiny_bundle.folder))
    engine.index(tmp_path / "g")
    broken, gallery = str(tmp_path / "g" / "broken.jpg"), str(tmp_path / "g")
    counts = {broken: RemovedCounts(failures=1), gallery: RemovedCounts(roots=1)}
    assert remove_paths(engine.catalogue, [broken, gallery]) == counts
    assert remove_paths(engine.catalogue, [gallery]) == {gallery: RemovedCounts()}


# Galleries


def test_an_absent_gallery_does_not_stop_the_others(small_gallery: Path, tmp_path: Path, tiny_bundle: Bundle) -> None:
    engine = Engine.create(tmp_path / "store", str(tiny_bundle.folder))
    engine.index(small_gallery / "apples", small_gallery / "boats")
    (small_gallery / "apples").rename(tmp_path / "unmounted")
    (small_gallery / "boats" / "0.png").unlink()
    report = engine.index()
    assert (report.missing, report.unchanged) == (1, 3)
    assert report.kept_roots == (small_gallery / "apples",)
    with pytest.raises(GalleryError, match="nothing was marked missing"):
        engine.index(small_gallery / "apples")
    small_gallery.rename(tmp_path / "also unmounted")
    with pytest.raises(GalleryError, match="nothing was marked missing"):
        engine.index()


def test_a_folder_given_twice_is_counted_once(small_gallery: Path, tmp_path: Path, tiny_bundle: Bundle) -> None:
    engine = Engine.create(tmp_path / "store", str(tiny_bundle.folder))
    engine.index(small_gallery)
    progress = RecordedProgress()
    report = engine.index(small_gallery / "cats", small_gallery, small_gallery, progress=progress)
    assert report.unchanged == 12
    assert progress.totals == [("Indexing", 12)]
    assert progress.stages[0].done == 12


@pytest.mark.parametrize("order", [(".hidden", "."), (".", ".hidden")])
def test_a_hidden_gallery_within_another_loses_nothing(
    order: tuple[str, str], small_gallery: Path, tmp_path: Path, tiny_bundle: Bundle
) -> None:
    hidden = small_gallery / ".hidden"
    (small_gallery / "cats").rename(hidden)
    (hidden / "broken.jpg").touch()
    engine = Engine.create(tmp_path / "store", str(tiny_bundle.folder))
    for name in (*order, *order):
        assert engine.index(small_gallery / name).missing == 0
    assert [(count.pictures, count.missing) for count in engine.catalogue.scans.root_counts()] == [(8, 0), (4, 0)]
    assert [path for path, _ in engine.catalogue.scans.failures()] == [bytes(hidden / "broken.jpg")]


def test_a_gallery_without_permission_is_an_error_in_one_sentence(tmp_path: Path) -> None:
    require_binding_permissions(tmp_path)
    gallery = tmp_path / "closed" / "g"
    gallery.mkdir(parents=True)
    gallery.parent.chmod(0)
    code = "import sys\nfrom retrieval.sources.gallery import resolve_gallery\nresolve_gallery(sys.argv[1])"
    last = run_unprivileged(code, gallery).stderr.splitlines()[-1]
    gallery.parent.chmod(0o700)
    assert last.startswith(
        f"retrieval.common.errors.GalleryError: {gallery} cannot be read (Permission denied), so nothing"
    )
    with pytest.raises(GalleryError, match="File name too long"):
        resolve_gallery(tmp_path / ("n" * 300))


@pytest.mark.parametrize(("model", "device"), [("none", "auto"), ("default", "gpu")])
def test_a_model_that_cannot_run_leaves_no_store(model: str, device: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError):
        Engine.create(tmp_path / "store", model, device)
    assert not (tmp_path / "store").exists()


def test_a_models_folder_whose_name_is_not_utf8_is_refused(tmp_path: Path, tiny_bundle: Bundle) -> None:
    folder = os.fsdecode(bytes(tmp_path) + b"/m\xff")
    shutil.copytree(tiny_bundle.folder, folder)
    with pytest.raises(ModelError, match="has a name that is not UTF-8: rename it"):
        Engine.create(tmp_path / "store", folder)
    assert not (tmp_path / "store").exists()


def test_store_of_another_model_is_refused(
    small_gallery: Path, tmp_path: Path, tiny_bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    Engine.create(tmp_path / "store", str(tiny_bundle.folder)).index(small_gallery)
    monkeypatch.setattr(Bundle, "fingerprint", property(lambda self: "0" * 64))
    with pytest.raises(StoreError, match="was indexed with other weights of the model tiny"):
        Engine.open(tmp_path / "store", str(tiny_bundle.folder))


def test_another_head_on_the_same_backbone_needs_no_new_embedding(
    small_gallery: Path, tmp_path: Path, tiny_bundle: Bundle
) -> None:
    Engine.create(tmp_path / "store", str(tiny_bundle.folder)).index(small_gallery)
    altered_bundle(tmp_path / "other-head", lambda tensors: tensors["output.bias"].fill(-2))
    engine = Engine.open(tmp_path / "store", str(tmp_path / "other-head"))
    assert engine.index(small_gallery).embedded == 0
    other = engine.query(blocks(50), top=3, explain=False)
    plain = Engine.open(tmp_path / "store").query(blocks(50), top=3, explain=False)
    assert [hit.path for hit in other] == [hit.path for hit in plain]
    assert [hit.distance for hit in other] != [hit.distance for hit in plain]


def test_a_store_shows_the_models_own_similarity_if_that_is_chosen(small_gallery: Path, tmp_path: Path) -> None:
    engine = Engine.create(tmp_path / "store")
    engine.index(small_gallery, plain_similarity=True)
    for hit in engine.query(blocks(50), explain=False):
        assert (hit.similarity, hit.probability) == (hit.plain_similarity, None)
    engine.index()  # which leaves it so
    assert engine.query(blocks(50), explain=False)[0].probability is None
    engine.index(plain_similarity=False)
    for hit in engine.query(blocks(50), explain=False):
        assert hit.similarity != hit.plain_similarity
        assert hit.probability is not None


def calibrated(digest: str) -> Calibration:
    return replace(a_calibration(digest), slope=1.0, intercept=-0.5)


@pytest.mark.slow
def test_a_calibrated_store_changes_numbers_and_not_the_order(
    small_gallery: Path, tmp_path: Path, tiny_bundle: Bundle
) -> None:
    engine = Engine.create(tmp_path / "store", str(tiny_bundle.folder))
    engine.index(small_gallery)
    set_plain(engine.catalogue, plain=True)
    plain, pair = engine.query(blocks(50), top=12), engine.explain(blocks(50), blocks(51))
    save_calibration(engine.catalogue, calibrated(tiny_bundle.head.digest))  # as another process may
    assert engine.calibration is not None
    found, found_pair = engine.query(blocks(50), top=12), engine.explain(blocks(50), blocks(51))
    assert [hit.path for hit in found] == [hit.path for hit in plain]
    for hit, old in zip(found, plain, strict=True):
        one, other = hit.explanation, old.explanation
        assert one is not None
        assert other is not None
        # D = (logit(d) + 5) / 10 by the head's own neuron, slope 10 and intercept -5; the new one has 1 and -0.5.
        logit = np.log(other.distance / (1 - other.distance))
        assert one.distance == pytest.approx(1 / (1 + np.exp(0.5 - (logit + 5) / 10)), abs=1e-6)
        assert one.query.magnitude == pytest.approx(other.query.magnitude / 10, rel=1e-3)
    assert [hit.similarity for hit in found] == [hit.explanation.similarity for hit in found if hit.explanation]
    assert found_pair.distance != pair.distance
    larger = engine.explain(blocks(50), blocks(51), size=256)
    assert larger.distance == pytest.approx(found_pair.distance)
    delete_calibration(engine.catalogue)
    assert engine.query(blocks(50), top=12, explain=False) == [replace(hit, explanation=None) for hit in plain]


def test_a_calibration_of_another_head_is_not_used(small_gallery: Path, tmp_path: Path, tiny_bundle: Bundle) -> None:
    engine = Engine.create(tmp_path / "store", str(tiny_bundle.folder))
    engine.index(small_gallery)
    plain = engine.query(blocks(50), explain=False)
    save_calibration(engine.catalogue, calibrated(replace(tiny_bundle.head, slope=11.0).digest))
    assert engine.calibration is None
    assert engine.query(blocks(50), explain=False) == plain


def test_too_large_a_top_is_refused(engine: Engine) -> None:
    with pytest.raises(ValueError, match="pool of 10"):
        engine.query(blocks(1), top=11, pool=10)


def test_an_index_that_is_not_current_is_opened_again(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = open_index_state
    calls: list[bool] = []

    def stale_at_first(*given: Any) -> tuple[TunedIndex, str | None]:
        index, generation = opened(*given)
        calls.append(len(calls) > 1)
        return index, generation if calls[-1] else None

    engine.store.release_index()
    monkeypatch.setattr(opened_store, "open_index_state", stale_at_first)
    monkeypatch.setattr(opened_store, "_RETRY_SECONDS", 0.0)
    for _ in range(5):
        engine.store.current_index()
        time.sleep(0.02)
    assert calls == [False, False, True]


def test_an_index_opened_before_another_process_committed_is_opened_again(
    small_gallery: Path, tmp_path: Path, tiny_bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine, other = (Engine.create(tmp_path / "store", str(tiny_bundle.folder)) for _ in range(2))
    real, commits = index_sync.open_index_state, [small_gallery / "boats"]

    def open_then_commit(*args: Any, **options: Any) -> Any:
        opened = real(*args, **options)
        if commits:
            other.index(commits.pop())
        return opened

    monkeypatch.setattr(index_sync, "open_index_state", open_then_commit)
    monkeypatch.setattr(opened_store, "open_index_state", open_then_commit)
    engine.index(small_gallery / "apples")
    assert engine.query(blocks(100), top=1, explain=False)[0].path == small_gallery / "boats" / "0.png"


def test_the_index_is_written_once_for_several_paths(
    small_gallery: Path, tmp_path: Path, tiny_bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = Engine.create(tmp_path / "store", str(tiny_bundle.folder))
    engine.index(small_gallery)
    sizes: list[int] = []
    real = faiss_file.save

    def save(*args: Any, **options: Any) -> Any:
        sizes.append(engine.catalogue.pictures.count())
        return real(*args, **options)

    monkeypatch.setattr(faiss_file, "save", save)
    assert engine.remove(*(small_gallery / "apples" / f"{number}.png" for number in range(3))) == 3
    assert sizes == [9]
