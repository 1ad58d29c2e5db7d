"""What may befall a store, a disk or a folder: one clear sentence each, or repaired without a word."""

import json
import os
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from indexes.catalogue.database.sqlite import CATALOGUE_FILE
from retrieval.common.errors import ModelError
from retrieval.model.bundle import find_bundle
from retrieval.model.inference import open_network
from tests.support.bundles import altered_bundle
from tests.support.command import RETRIEVE, answer, environment, retrieve_here, sentence
from tests.support.generated import blocks
from tests.support.store import Indexed
from tests.support.unprivileged import require_binding_permissions, run_unprivileged

_RUN = "import cli; cli.main()"
_PAGE = 4096  # SQLite's


def hits(store: Path, picture: Path) -> Any:
    """Return the answer to a query by a file of the gallery, which needs no explanation."""
    return answer("query", picture, "--top", "5", "--no-explain", "--store", store)["hits"]


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """Make a folder and its files read-only."""
    files = list(folder.iterdir())
    for path in (*files, folder):
        path.chmod(0o555)
    try:
        yield
    finally:
        for path in (folder, *files):
            path.chmod(0o755)


@contextmanager
def small_disk(folder: Path, size: str) -> Iterator[None]:
    """Mount a disk of its own on a folder; skip if mounting is not allowed."""
    folder.mkdir()
    try:
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"a small disk cannot be mounted here: {error}")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


# The store


def test_a_store_of_another_model(indexed: Indexed, tmp_path: Path) -> None:
    altered_bundle(tmp_path / "other", lambda tensors: tensors["backbone.blocks.0.0.bn1.bias"].fill(0))
    for command in (["query", str(indexed.picture)], ["index", str(indexed.gallery)]):
        said = sentence(retrieve_here(*command, "--store", indexed.store, "--model", tmp_path / "other"))
        assert said.startswith(f"{indexed.store} was indexed with another model (default) than ")
        assert said.endswith("give that model with --model, or index the gallery again into another --store")


def test_a_store_whose_model_is_gone(indexed: Indexed, tmp_path: Path) -> None:
    store = indexed.copy(tmp_path / "store")
    change(store, "UPDATE settings SET value = '/gone/model', checksum = NULL WHERE name = 'model'")
    assert "/gone/model is neither a model's name" in sentence(
        retrieve_here("query", indexed.picture, "--store", store)
    )


def test_a_store_of_a_newer_schema(indexed: Indexed, tmp_path: Path) -> None:
    store = indexed.copy(tmp_path / "store")
    change(store, "INSERT INTO migrations VALUES ('9999-from-the-future')")
    for command in (["query", str(indexed.picture)], ["index", str(indexed.gallery)], ["status"], ["remove", "x"]):
        assert sentence(retrieve_here(*command, "--store", store)) == (
            f"{store / CATALOGUE_FILE} was written by a newer version (its last change is 9999-from-the-future):"
            " upgrade this program"
        )


def test_a_damaged_faiss_file_is_made_anew(indexed: Indexed, tmp_path: Path) -> None:
    store = indexed.copy(tmp_path / "store")
    expected = hits(store, indexed.picture)
    (file,) = store.glob("*.faiss")
    whole = file.read_bytes()
    for damaged in (whole[: len(whole) // 2], whole[:1000] + b"\xff" * 100 + whole[1100:]):
        file.write_bytes(damaged)
        assert hits(store, indexed.picture) == expected
        assert file.read_bytes() == whole


def overwritten(start: int) -> Callable[[bytes], bytes]:
    return lambda whole: whole[:start] + b"\xa5" * _PAGE + whole[start + _PAGE :]


@pytest.mark.parametrize(
    "damage",
    [overwritten(0), lambda whole: whole[: len(whole) // 2], lambda whole: b"not a database, only some words\n" * 300],
    ids=["first page overwritten", "cut in its middle", "another file"],
)
def test_a_damaged_catalogue(damage: Callable[[bytes], bytes], indexed: Indexed, tmp_path: Path) -> None:
    store = indexed.copy(tmp_path / "store")
    file = store / CATALOGUE_FILE
    file.write_bytes(damage(file.read_bytes()))
    damaged = file.read_bytes()
    for command in (["query", str(indexed.picture)], ["index", str(indexed.gallery)]):
        assert sentence(retrieve_here(*command, "--store", store)) == (
            f"{file} is damaged: run `retrieve index --repair`; if that does not help, restore it from a copy, or"
            " delete the store's folder and index again"
        )
    assert len(file.read_bytes()) == len(damaged)


def test_any_damaged_page_is_said_or_does_not_matter(indexed: Indexed, tmp_path: Path) -> None:
    """Wherever in the file the damage lies: the same hits, or one sentence."""
    expected = hits(indexed.store, indexed.picture)
    whole = (indexed.store / CATALOGUE_FILE).read_bytes()
    pages = len(whole) // _PAGE
    for page in {pages // 3, pages // 2, pages - 1}:
        store = indexed.copy(tmp_path / f"store-{page}")
        (store / CATALOGUE_FILE).write_bytes(overwritten(page * _PAGE)(whole))
        done = retrieve_here("query", indexed.picture, "--top", "5", "--no-explain", "--json", "--store", store)
        if done.returncode == 0:
            assert json.loads(done.stdout)["hits"] == expected
        else:
            assert "is damaged" in sentence(done)


def test_a_store_that_cannot_be_written(indexed: Indexed, tmp_path: Path) -> None:
    require_binding_permissions(tmp_path)
    store = indexed.copy(tmp_path / "store")
    (file,) = store.glob("*.faiss")
    expected = hits(indexed.store, indexed.picture)
    query = ["query", str(indexed.picture), "--top", "5", "--no-explain", "--json", "--store", str(store)]
    with read_only(store):
        done = run_unprivileged(_RUN, *query)
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["hits"] == expected
        assert run_unprivileged(_RUN, "status", "--store", store).returncode == 0
        for command in (["index", str(indexed.gallery)], ["remove", str(indexed.picture)]):
            said = sentence(run_unprivileged(_RUN, *command, "--store", store))
            assert said.startswith(f"{store / CATALOGUE_FILE} cannot be written: allow writing there, or ")
    file.unlink()
    with read_only(store):  # the index is built in memory, each time
        done = run_unprivileged(_RUN, *query)
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["hits"] == expected
    assert not list(store.glob("*.faiss"))
    closed = tmp_path / "closed"
    closed.mkdir()
    with read_only(closed):
        for place in (closed, closed / "store"):
            assert "cannot be" in sentence(run_unprivileged(_RUN, "index", indexed.gallery, "--store", place))


def change(store: Path, statement: str) -> None:
    """Change a catalogue from outside."""
    connection = sqlite3.connect(store / CATALOGUE_FILE)
    with connection:
        connection.execute(statement)
    connection.close()


# Other processes at work


def started(*arguments: str | Path) -> subprocess.Popen[bytes]:
    """`retrieve` with these arguments, at work while the test goes on."""
    command = [*RETRIEVE, *(os.fspath(argument) for argument in arguments)]
    return subprocess.Popen(command, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def many_pictures(gallery: Path) -> Path:
    """Make a gallery of several batches."""
    for number in range(160):
        place = gallery / f"class-{number % 4}"
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(blocks(number, 32, 32)).save(place / f"{number:03}.png")
    return gallery


def complaint(process: subprocess.Popen[bytes]) -> bytes:
    """Wait for a process and return why it failed."""
    _, said = process.communicate(timeout=120)
    return said if process.returncode else b""


def test_two_runs_into_one_store_and_queries_meanwhile(tmp_path: Path) -> None:
    gallery, store = many_pictures(tmp_path / "gallery"), tmp_path / "store"
    picture = gallery / "class-0" / "000.png"
    answer("index", gallery / "class-0", "--store", store)
    runs = [started("index", folder, "--store", store) for folder in (gallery, gallery / "class-1")]
    queries = 0
    while queries == 0 or any(run.poll() is None for run in runs):
        assert hits(store, picture)[0]["path"] == str(picture)
        queries += 1
    assert [complaint(run) for run in runs] == [b"", b""]
    (kept,) = answer("status", "--store", store)["galleries"]
    assert kept == {"path": str(gallery), "pictures": 160, "missing": 0, "present": True}
    assert {hit["label"] for hit in hits(store, picture)} <= {f"class-{number}" for number in range(4)}


def test_a_gallery_that_is_removed_during_its_run(tmp_path: Path) -> None:
    gallery, store = many_pictures(tmp_path / "gallery"), tmp_path / "store"
    answer("index", gallery / "class-0", "--store", store)
    run = started("index", gallery, "--store", store)
    while run.poll() is None:
        done = retrieve_here("remove", gallery, "--store", store)
        assert b"Traceback" not in done.stderr
        assert done.returncode == 0 or b"is not in the store" in done.stderr
    assert complaint(run) == b""
    assert answer("index", gallery, "--store", store)["failed"] == 0
    (kept,) = answer("status", "--store", store)["galleries"]
    assert kept == {"path": str(gallery), "pictures": 160, "missing": 0, "present": True}


# A full disk


def test_what_cannot_be_indexed_leaves_no_store(indexed: Indexed, tmp_path: Path) -> None:
    for command in (["index", str(indexed.gallery), "--model", "nope"], ["index"]):
        sentence(retrieve_here(*command, cwd=tmp_path))
        assert list(tmp_path.iterdir()) == []


def test_a_full_disk_stops_indexing_and_room_lets_it_go_on(tmp_path: Path) -> None:
    gallery, disk, calm = tmp_path / "gallery", tmp_path / "disk", tmp_path / "calm"
    gallery.mkdir()
    for number in range(144):
        Image.fromarray(blocks(number, 32, 32)).save(gallery / f"{number:03}.png")
    answer("index", gallery, "--store", calm)
    with small_disk(disk, "1m"):
        (disk / "filler").write_bytes(bytes(600_000))  # so that fewer pictures fill it
        said = sentence(retrieve_here("index", gallery, "--store", disk))
        assert "full" in said
        assert "make room" in said
        subprocess.run(["mount", "-o", "remount,size=64m", disk], check=True)
        report = answer("index", gallery, "--store", disk)
        assert report["failed"] == 0
        assert 0 < report["embedded"] + report["unchanged"] == 144
        assert hits(disk, gallery / "007.png") == hits(calm, gallery / "007.png")
        assert answer("status", "--store", disk)["galleries"] == answer("status", "--store", calm)["galleries"]


def test_a_disk_too_full_for_any_store(indexed: Indexed, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    with small_disk(disk, "64k"):
        said = sentence(retrieve_here("index", indexed.gallery, "--store", disk))
        assert "full" in said
        (disk / "filler").unlink(missing_ok=True)
        subprocess.run(["mount", "-o", "remount,size=64m", disk], check=True)
        answer("index", indexed.gallery, "--store", disk)
        assert hits(disk, indexed.picture) == hits(indexed.store, indexed.picture)


def test_a_disk_too_full_for_overlays_and_page(indexed: Indexed, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    query = ("query", indexed.picture, "--top", "3", "--store", indexed.store)
    with small_disk(disk, "12k"):
        for option, name in (("--out", disk), ("--html", disk / "page.html")):
            done = retrieve_here(*query, option, name)
            done.stdout = b"" if option == "--html" else done.stdout  # the hits were shown before the page
            said = sentence(done)
            assert said.startswith(f"{disk}/")
            assert "cannot be written (No space left on device): choose a place" in said
            assert not list(disk.glob("*.part")) + list(disk.glob(".*.part"))
        said = sentence(retrieve_here("explain", indexed.picture, indexed.gallery / "cats" / "1.png", "--out", disk))
        assert "cannot be written (No space left on device)" in said


def test_files_in_the_way_of_overlays_and_page(indexed: Indexed, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    query = ("query", indexed.picture, "--top", "2", "--json", "--store", indexed.store)
    assert sentence(retrieve_here(*query, "--out", tmp_path / "file")).endswith("file is a file: give --out a folder")
    assert sentence(retrieve_here(*query, "--html", tmp_path)).endswith("is a folder: give --html a file")


# The cache of compiled networks


def test_a_cache_that_cannot_be_written_is_no_obstacle(indexed: Indexed, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    query = ("query", indexed.picture, "--store", indexed.store, "--device", "cpu")
    assert retrieve_here(*query, RETRIEVE_CACHE=str(tmp_path / "file" / "cache")).returncode == 0
    require_binding_permissions(tmp_path)
    (tmp_path / "cache").mkdir()
    with read_only(tmp_path / "cache"), pytest.MonkeyPatch.context() as patch:
        patch.setenv("RETRIEVE_CACHE", str(tmp_path / "cache"))
        assert run_unprivileged(_RUN, *query).returncode == 0


def test_a_full_disk_for_the_cache_is_no_obstacle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = tmp_path / "disk"
    monkeypatch.setenv("RETRIEVE_CACHE", os.fspath(disk))
    with small_disk(disk, "1m"):
        assert open_network(find_bundle("default"), "cpu").describe([blocks(1, 224, 224)]).shape == (1, 1280)


# Bundles


@pytest.mark.torch
def test_a_bundle_that_cannot_be_written(tmp_path: Path) -> None:
    from retrieval.model.backbones import build_backbone
    from retrieval.model.bundle_export import save_bundle

    bundle = find_bundle("default")
    trunk = build_backbone(bundle.card.backbone, pretrained=False)
    (tmp_path / "file").touch()
    with pytest.raises(ModelError, match=r"file cannot be written .*: choose a place with room for the bundle"):
        save_bundle(trunk, bundle.head, tmp_path / "file", "file", {}, {})
    with (
        small_disk(tmp_path / "disk", "1m"),
        pytest.raises(ModelError, match=r"cannot be written .*No space left .*: choose a place with room"),
    ):
        save_bundle(trunk, bundle.head, tmp_path / "disk" / "bundle", "bundle", {}, {})
