"""`retrieve index --engine ray`: the same results as on one machine, also if a node is lost; and how it ends."""

import json
import os
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from indexes.catalogue.catalogue import Catalogue
from retrieval.model.bundle import find_bundle
from retrieval.model.inference import open_network
from retrieval.store.maintenance.gallery_statistics import GalleryStatistics, read_statistics
from tests.support.begun import begun, committed
from tests.support.command import answer as answer_here
from tests.support.command import retrieve, sentence
from tests.support.galleries import failures, png, tar_of
from tests.support.loaded import loaded
from tests.support.nodes import Nodes, processes, ray_folder, workers
from tests.support.objects import Objects, Web

pytest.importorskip("ray", reason="needs Ray: pip install '.[ray]'")

_PICTURES, _BROKEN = 1_000, 10
_COUNTS = ("added", "reused", "embedded", "unchanged", "missing", "failed")


@pytest.fixture(scope="module")
def nodes() -> Iterator[Nodes]:
    open_network(find_bundle("default"), "cpu")  # else each worker prepares it
    with ray_folder():
        cluster = Nodes()
        try:
            yield cluster
        finally:
            cluster.shutdown()


@pytest.fixture
def at_nodes(nodes: Nodes, monkeypatch: pytest.MonkeyPatch) -> Nodes:
    monkeypatch.setenv("RAY_ADDRESS", nodes.address)
    return nodes


def answer(*arguments: str | Path) -> Any:
    """Return the JSON of a command in a process of its own, as Ray can be left only by ending that."""
    return answer_here(*arguments, run=retrieve)


def make_gallery(folder: Path, pictures: int, broken: int, seed: int = 0) -> Path:
    """Save small pictures of noise in class folders, some of the files broken, and one copied twice."""
    chance = np.random.default_rng(seed)
    for number in range(pictures):
        place = folder / f"class-{number % 7}" / f"{number:05}.jpg"
        place.parent.mkdir(parents=True, exist_ok=True)
        if number % (pictures // broken) == 3:
            place.write_bytes(b"" if number % 2 else b"no picture %d" % number)
        else:
            Image.fromarray(chance.integers(0, 256, (16, 16, 3), np.uint8)).save(place)
    first = folder / "class-0" / "00000.jpg"
    for name in ("class-1/copy.jpg", "copy.jpg"):
        (folder / name).write_bytes(first.read_bytes())
    return folder


def descriptors(store: Path) -> dict[bytes, tuple[str | None, np.ndarray[Any, Any]]]:
    """Return label and descriptor of every picture in a store by its path, none of them twice."""
    catalogue = Catalogue(store)
    rows = [
        (picture.path, (picture.label, vector))
        for ids, vectors in catalogue.descriptors.all(catalogue.settings.get("fingerprint") or "")
        for picture, vector in zip(catalogue.pictures.candidates(ids), vectors, strict=True)
    ]
    assert len(dict(rows)) == len(rows) == catalogue.pictures.count()
    catalogue.close()
    return dict(rows)


def assert_equal(store: Path, calm: Path) -> None:
    """Assert the same rows, the same failures, descriptors within 1e-3, and statistics of the gallery that follow."""
    ours, theirs = descriptors(store), descriptors(calm)
    assert ours.keys() == theirs.keys()
    assert failures(store) == failures(calm)
    for path, (label, vector) in theirs.items():
        assert ours[path][0] == label
        assert np.abs(ours[path][1] - vector).max() < 1e-3
    one, other = statistics(store), statistics(calm)
    np.testing.assert_allclose(one.centre, other.centre, atol=1e-4)
    assert (one.spread, *one.nearest) == pytest.approx((other.spread, *other.nearest), rel=1e-2)


def statistics(store: Path) -> GalleryStatistics:
    with Catalogue(store) as catalogue:
        found = read_statistics(catalogue, find_bundle("default").head)
    assert found is not None
    return found


def test_a_node_that_is_killed_half_way_costs_nothing_but_time(at_nodes: Nodes, tmp_path: Path) -> None:
    gallery = make_gallery(tmp_path / "gallery", _PICTURES, _BROKEN)
    store, calm = tmp_path / "store", tmp_path / "calm"
    expected = answer("index", gallery, "--store", calm)
    process = begun("index", gallery, "--store", store, "--engine", "ray", "--json")
    while process.poll() is None and committed(store) < _PICTURES // 2:
        time.sleep(0.05)
    assert process.poll() is None
    at_nodes.kill()
    said, complaint = process.communicate()
    assert process.returncode == 0, complaint.decode()
    assert_equal(store, calm)
    report = json.loads(said)
    assert {name: report[name] for name in _COUNTS} == {name: expected[name] for name in _COUNTS}
    assert sorted(report["failures"], key=str) == sorted(expected["failures"], key=str)

    for folder in ("class-2", "class-3"):
        (gallery / folder).rename(gallery / f"{folder}-renamed")
    (gallery / "another.jpg").write_bytes((gallery / "copy.jpg").read_bytes())
    (gallery / "class-1" / "00001.jpg").unlink()
    Image.new("RGB", (20, 20), "red").save(gallery / "new.png")
    expected = answer("index", gallery, "--store", calm)
    done = retrieve("index", gallery, "--store", store, "--engine", "ray", "--workers", "1", "--json")
    assert (done.returncode, done.stderr) == (0, b"")
    report = json.loads(done.stdout)
    assert {name: report[name] for name in _COUNTS} == {name: expected[name] for name in _COUNTS}
    assert (report["embedded"], report["reused"] > 200) == (1, True)
    assert_equal(store, calm)
    at_nodes.add()


def test_workers_that_die_each_time_end_the_run(at_nodes: Nodes, tmp_path: Path) -> None:
    gallery = make_gallery(tmp_path / "gallery", 300, 3)
    process = begun("index", gallery, "--store", tmp_path / "store", "--engine", "ray", "--workers", "1")
    while process.poll() is None:
        for pid in workers():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.05)
    out, complaint = process.communicate()
    assert (process.returncode, out) == (1, b"")
    assert "error: workers were lost 3 times " in complaint.decode()
    assert "Traceback" not in complaint.decode()
    report = answer("index", gallery, "--store", tmp_path / "store", "--engine", "ray")
    assert report["failed"] == 3


def test_tars_and_lists_are_as_on_one_machine(at_nodes: Nodes, tmp_path: Path) -> None:
    pictures = make_gallery(tmp_path / "pictures", 40, 4)
    members = [(os.fspath(file.relative_to(pictures)), file.read_bytes()) for file in sorted(pictures.rglob("*.jpg"))]
    (tmp_path / "a.tar").write_bytes(tar_of(*members, ("class-9/broken.png", b"no picture"), ("new.png", png(1))))
    (tmp_path / "b.tar").write_bytes(tar_of(("cats/1.png", png(2)), ("cats/2.png", b"")))
    lines = [
        "pictures/class-0/00000.jpg\tfirst",
        "b.tar",
        "nowhere.png",
        *(f"pictures/class-3/{3 + 7 * n:05}.jpg" for n in range(4)),
    ]
    (tmp_path / "list.txt").write_text("\n".join(lines))
    galleries = tmp_path / "a.tar", tmp_path / "list.txt"
    expected = answer("index", *galleries, "--store", tmp_path / "calm")
    report = answer("index", *galleries, "--store", tmp_path / "store", "--engine", "ray")
    assert {name: report[name] for name in _COUNTS} == {name: expected[name] for name in _COUNTS}
    assert report["failed"] >= 4
    assert_equal(tmp_path / "store", tmp_path / "calm")
    report = answer("index", *galleries, "--store", tmp_path / "store", "--engine", "ray")
    assert (report["added"], report["unchanged"]) == (0, expected["added"])


def test_objects_are_as_on_one_machine(
    nodes: Nodes, objects: Objects, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a cluster that the run starts for itself: its workers have the run's credentials."""
    gallery = objects.put_folder(make_gallery(tmp_path / "gallery", 40, 4), "g")
    objects.put("g/more.tar", tar_of(("cats/1.png", png(2)), ("cats/2.png", b"")))
    expected = answer("index", gallery, "--store", tmp_path / "calm")
    with ray_folder():
        monkeypatch.setenv("RAY_ADDRESS", "local")
        report = answer("index", gallery, "--store", tmp_path / "store", "--engine", "ray")
    assert {name: report[name] for name in _COUNTS} == {name: expected[name] for name in _COUNTS}
    assert report["failed"] == 5
    assert_equal(tmp_path / "store", tmp_path / "calm")


def test_another_program_on_a_worker_is_refused(
    at_nodes: Nodes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from retrieval.common.errors import ClusterError
    from retrieval.common.settings import IndexingBackend
    from retrieval.engine import Engine
    from retrieval.store.indexing.ray import worker_pool

    monkeypatch.setattr(worker_pool, "program_digest", lambda: "older")
    engine = Engine.create(tmp_path / "store", embeds_locally=False)
    gallery = make_gallery(tmp_path / "gallery", 40, 1)
    with pytest.raises(ClusterError, match=r"^a worker on .+ cannot work: its program is not the driver's: install"):
        engine.index(gallery, backend=IndexingBackend.ray)
    assert engine.catalogue.scans.failures() == []
    assert engine.catalogue.pictures.count() == 0
    engine.close()


def test_ctrl_c_leaves_a_usable_store_and_no_processes(
    nodes: Nodes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a cluster that the run has started for itself."""
    gallery, store = make_gallery(tmp_path / "gallery", 600, 2), tmp_path / "store"
    with ray_folder():
        monkeypatch.setenv("RAY_ADDRESS", "local")
        process = begun("index", gallery, "--store", store, "--engine", "ray")
        while process.poll() is None and committed(store) < 100:
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        out, complaint = process.communicate()
        assert (process.returncode, out) == (130, b"")
        kept = "error: interrupted; what was committed is kept, and the same command goes on from there\n"
        assert complaint.decode() == kept
        ended = time.monotonic() + 10
        while processes(os.environ["RAY_TMPDIR"]) and time.monotonic() < ended:
            time.sleep(0.1)
        assert processes(os.environ["RAY_TMPDIR"]) == []
    assert answer("index", gallery, "--store", store)["unchanged"] >= 100


def test_a_cluster_that_is_not_there(tmp_path: Path) -> None:
    gallery = make_gallery(tmp_path / "gallery", 4, 1)
    index = ("index", gallery, "--store", tmp_path / "store", "--engine", "ray")
    done = retrieve(*index, RAY_ADDRESS="ray://127.0.0.1:1")
    assert sentence(done).startswith(
        "RAY_ADDRESS is ray://127.0.0.1:1, an address for Ray clients: give the host:port of"
    )
    done = retrieve(*index, RAY_ADDRESS="127.0.0.1:1")
    assert sentence(done) == (
        "the Ray cluster at 127.0.0.1:1 cannot be used ([Errno 111] Connection refused): start it with"
        " `ray start --head`, set RAY_AUTH_MODE=token if it requires one, or give another RAY_ADDRESS"
        " (`local` starts one for this run)"
    )
    done = retrieve(*index, RAY_ADDRESS="nonsense")
    assert "the Ray cluster at nonsense cannot be used (it is not a host:port)" in sentence(done)


def test_something_else_that_answers_is_no_cluster(tmp_path: Path, web: Web) -> None:
    gallery = make_gallery(tmp_path / "gallery", 4, 1)
    began = time.monotonic()
    done = retrieve("index", gallery, "--store", tmp_path / "store", "--engine", "ray", RAY_ADDRESS=web.address[7:])
    assert "cannot be used (something else answers there)" in sentence(done)
    assert time.monotonic() - began < 20


def test_a_cluster_that_is_gone_is_not_waited_for(nodes: Nodes, tmp_path: Path) -> None:
    from retrieval.store.indexing.ray import cluster

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_TMPDIR", os.fspath(tmp_path))
        assert cluster._find_running() is None
        (tmp_path / "ray").mkdir()
        for address, expected in (("127.0.0.1:1", None), ("nonsense", None), (nodes.address, nodes.address)):
            (tmp_path / "ray" / "ray_current_cluster").write_text(address)
            assert cluster._find_running() == expected


def test_the_cluster_that_was_started_last_is_found(nodes: Nodes, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the file that Ray itself reads."""
    from ray._private.utils import read_ray_address, write_ray_address

    from retrieval.store.indexing.ray import cluster

    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    write_ray_address(nodes.address)
    assert cluster._find_running() == read_ray_address() == nodes.address


def test_without_ray_a_sentence_says_what_to_install(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "ray.py").write_text("raise ImportError('no')\n")
    gallery = make_gallery(tmp_path / "gallery", 4, 1)
    index = ("index", gallery, "--store", tmp_path / "store")
    done = retrieve(*index, "--engine", "ray", PYTHONPATH=os.fspath(tmp_path / "empty"))
    assert sentence(done) == "--engine ray needs Ray: install it with `pip install '.[ray]'`"
    assert not (tmp_path / "store").exists()
    assert not {"ray", "pyarrow"} & loaded(*index, "--device", "cpu")
