"""The main job as commands with the index on Milvus: the same hits as with FAISS, and one sentence where it is away."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.support.command import PROJECT, answer, environment, retrieve_here, sentence
from tests.support.generated import blocks
from tests.support.milvus import Process, need_milvus, serving

need_milvus()

_IMPATIENT = """
import cli
import indexes.vectors.milvus_connection
indexes.vectors.milvus_connection._PATIENCE = 0.5
cli.main()
"""
FOLDERS = ("apples", "l'\"é\\", "cats")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    with serving(tmp_path_factory.mktemp("server")) as process:
        yield process


@pytest.fixture(scope="module")
def gallery(tmp_path_factory: pytest.TempPathFactory) -> Path:
    gallery = tmp_path_factory.mktemp("pictures") / "gallery"
    for number, name in enumerate(FOLDERS):
        (gallery / name).mkdir(parents=True)
        for place in range(4):
            Image.fromarray(blocks(100 * number + place)).save(gallery / name / f"{place}.png")
    return gallery


def impatient(*arguments: str | Path) -> subprocess.CompletedProcess[bytes]:
    """Return a command that gives up soon."""
    return subprocess.run(
        [sys.executable, "-c", _IMPATIENT, *(os.fspath(argument) for argument in arguments)],
        env=environment({"PYTHONPATH": os.fspath(PROJECT)}),
        capture_output=True,
        check=False,
        timeout=200,
    )


def hits(store: Path, *arguments: str | Path) -> list[Any]:
    result = answer("query", *arguments, "--store", store, "--no-explain", "--top", "12")
    names = ("path", "label", "distance", "probability", "familiarity", "index_rank")
    return [tuple(hit[name] for name in names) for hit in result["hits"]]


def test_the_main_job(server: Process, gallery: Path, tmp_path: Path) -> None:
    pictures = Path(shutil.copytree(gallery, tmp_path / "gallery"))
    picture, question = pictures / "cats" / "1.png", pictures / "cats" / "again.png"
    on_faiss, on_server, in_file = tmp_path / "faiss", tmp_path / "server", tmp_path / "file"
    assert answer("index", pictures, "--store", on_faiss)["added"] == 12
    for store, address in ((on_server, server.address), (in_file, "milvus:./index.db")):
        assert answer("index", pictures, "--store", store, "--index", address)["added"] == 12
        assert not list(store.glob("*.faiss"))
    assert f"index at {server.address}: exact" in retrieve_here("status", "--store", on_server).stdout.decode()
    assert answer("status", "--store", in_file)["index_at"] == "milvus:./index.db"
    for chosen, count in (((), 12), (("--label", FOLDERS[1]), 4), (("--folder", pictures / "apples"), 4)):
        known = hits(on_faiss, picture, *chosen)
        assert len(known) == count
        assert hits(on_server, picture, *chosen) == known
        if count == 4:
            assert hits(in_file, picture, *chosen) == known
    refused = retrieve_here("index", pictures, "--store", tmp_path / "another", "--index", server.address)
    assert "of another store, which stays as it is: give --index another name" in sentence(refused)
    picture.rename(question)
    Image.fromarray(blocks(999)).save(pictures / "cats" / "0.png")
    for store in (on_faiss, on_server, in_file):
        answer("remove", pictures / "apples", "--store", store)
    found = hits(on_server, question)
    assert found
    assert all(label != "apples" for _, label, *_ in found)
    for store in (on_faiss, on_server, in_file):
        assert answer("index", "--store", store)["missing"] == 1
    known = hits(on_faiss, question)
    assert len(known) == 12
    assert hits(on_server, question) == hits(in_file, question) == known
    assert answer("duplicates", "--store", on_server)["pictures"] == 12
    assert answer("index", "--store", on_server, "--index", "faiss")["notes"] == []
    assert hits(on_server, question) == known
    assert len(list(on_server.glob("*.faiss"))) == 1


def test_a_server_that_is_away_is_one_sentence(gallery: Path, tmp_path: Path) -> None:
    store, picture = tmp_path / "store", gallery / "cats" / "1.png"
    with serving(tmp_path / "server") as server:
        address = server.address
        done = impatient("index", gallery, "--store", store, "--index", address)
        assert done.returncode == 0, done.stderr.decode()
        known = hits(store, picture)
        server.kill()
        away = f"{address} cannot be reached: check that it runs there, then run the command again; nothing is lost"
        assert sentence(impatient("query", picture, "--store", store)) == away
        assert sentence(impatient("index", "--store", store)) == away
        done = impatient("remove", picture, "--store", store)
        assert sentence(done) == f"it is removed from the store, but not yet from its index: {away}"
        server.start()
        assert {hit[0] for hit in hits(store, picture)} == {hit[0] for hit in known} - {os.fspath(picture)}
        assert answer("index", gallery, "--store", store)["added"] == 1
        assert [hit[0] for hit in hits(store, picture)] == [hit[0] for hit in known]


def test_what_cannot_be_used_makes_no_store(gallery: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    wrong = retrieve_here("index", gallery, "--store", store, "--index", "milvus:nowhere")
    assert wrong.returncode == 2
    assert "is not the address of an index" in wrong.stderr.decode()
    away = retrieve_here("index", gallery, "--store", store, "--index", "milvus://127.0.0.1:1/tests")
    assert sentence(away).startswith("milvus://127.0.0.1:1/tests cannot be reached")
    assert not store.exists()


def test_a_store_on_faiss_loads_nothing_of_milvus(gallery: Path, tmp_path: Path) -> None:
    from tests.support.loaded import loaded

    store = tmp_path / "store"
    answer("index", gallery, "--store", store)
    query = ("query", gallery / "cats" / "1.png", "--store", store, "--no-explain")
    assert not loaded(*query) & {"pymilvus", "milvus_lite", "grpc", "pandas", "pyarrow"}
