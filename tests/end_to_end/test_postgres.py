"""The commands on a catalogue on PostgreSQL: as on SQLite, with several writers at once, and through a crash."""

import time
from pathlib import Path
from typing import Any

import pytest

from indexes.catalogue.database.database_url import CONFIG_FILE, URL_VARIABLE
from retrieval.engine import Engine
from retrieval.model.bundle import find_bundle
from retrieval.model.inference import open_network
from retrieval.store.indexing.pipeline import BATCH_SIZE
from tests.support.begun import begun, committed
from tests.support.command import answer, retrieve_here, sentence
from tests.support.galleries import _PICTURES, contents, make_gallery
from tests.support.loaded import loaded
from tests.support.postgres import Server


@pytest.fixture
def address(postgres: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Where a store of this test has its catalogue; commands have the password from the environment."""
    monkeypatch.setenv("PGPASSWORD", postgres.password)
    return postgres.address(tmp_path, password=False)


@pytest.fixture(scope="module", autouse=True)
def _prepared() -> None:
    open_network(find_bundle("default"), "cpu")  # else each process of several prepares it


def test_the_commands_answer_as_on_sqlite(address: str, tmp_path: Path) -> None:
    gallery = make_gallery(tmp_path / "gallery", 1)
    store, plain = tmp_path / "store", tmp_path / "plain"
    picture = gallery / "class-1" / "004.png"
    made = answer("index", gallery, "--store", store, "--catalogue", address)
    result = answer("index", gallery, "--store", plain)
    assert {**made, "seconds": 0, "pictures_per_second": 0} == {**result, "seconds": 0, "pictures_per_second": 0}
    assert answer("index", gallery, "--store", store)["unchanged"] == _PICTURES + 1
    for command in (
        ("query", picture, "--top", "10", "--no-explain"),
        ("query", picture, "--label", "class-2", "--no-explain"),
        ("duplicates",),
        ("remove", gallery / "class-1"),
        ("query", picture, "--top", "10", "--no-explain"),
        ("remove", gallery),
    ):
        there = answer(*command, "--store", store)
        here = answer(*command, "--store", plain)
        for changing in ("store", "seconds"):
            there.pop(changing, None), here.pop(changing, None)
        assert there == here, command
    status = answer("status", "--store", store)
    assert (status["catalogue"], status["galleries"]) == (address, [])
    assert f"catalogue {address}\n" in retrieve_here("status", "--store", store).stdout.decode()
    assert sorted(file.name for file in store.iterdir()) == [CONFIG_FILE]


def test_another_address_than_the_stores_is_refused(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gallery = make_gallery(tmp_path / "gallery", 1, count=3)
    store, plain = tmp_path / "store", tmp_path / "plain"
    answer("index", gallery, "--store", store, "--catalogue", address)
    answer("index", gallery, "--store", store, "--catalogue", address)
    done = retrieve_here("index", gallery, "--store", store, "--catalogue", address + "2")
    assert sentence(done) == (
        f"{store} has its catalogue at {address}, not there: leave that out, or choose another store with --store"
    )
    answer("index", gallery, "--store", plain)
    done = retrieve_here("index", gallery, "--store", plain, "--catalogue", address)
    assert sentence(done).startswith(f"{plain} has its catalogue in catalogue.sqlite: leave out --catalogue")
    monkeypatch.delenv("PGPASSWORD")
    assert sentence(retrieve_here("status", "--store", store)).startswith(f"{address} refuses the user or password: ")


def test_a_new_store_takes_its_address_from_the_environment(
    postgres: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gallery = make_gallery(tmp_path / "gallery", 1, count=3)
    monkeypatch.setenv(URL_VARIABLE, postgres.address(tmp_path))
    answer("index", gallery, "--store", tmp_path / "store")
    result = answer("status", "--store", tmp_path / "store")
    assert result["catalogue"] == postgres.address(tmp_path, password=False)


def test_a_model_of_a_shared_catalogue_is_found_by_other_stores(address: str, tmp_path: Path) -> None:
    gallery = make_gallery(tmp_path / "gallery", 1, count=3)
    answer("index", gallery, "--store", tmp_path / "one", "--catalogue", address)
    report = answer("index", gallery, "--store", tmp_path / "two", "--catalogue", address)
    assert report["unchanged"] == 4
    query = ("query", gallery / "copy.png", "--no-explain")
    one, two = (answer(*query, "--store", tmp_path / name)["hits"] for name in ("one", "two"))
    assert one == two


def test_a_query_on_sqlite_loads_no_driver(tmp_path: Path) -> None:
    gallery = make_gallery(tmp_path / "gallery", 1, count=3)
    for arguments in (("index", gallery), ("query", gallery / "copy.png", "--no-explain")):
        assert "psycopg" not in loaded(*arguments, "--store", tmp_path / "store", "--device", "cpu")


def rounded(hits: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Round figures to six digits: the gallery's statistics are sums in the order of the index."""
    return [{key: round(value, 6) if isinstance(value, float) else value for key, value in hit.items()} for hit in hits]


def test_several_processes_at_once_lose_and_double_nothing(address: str, tmp_path: Path) -> None:
    """Three galleries, one of them by two processes, from two stores on one catalogue, which none has made before."""
    galleries = [make_gallery(tmp_path / f"gallery-{number}", number, 2 * _PICTURES) for number in range(3)]
    stores = [tmp_path / name for name in ("one", "two", "one", "one")]
    work = [
        begun("index", gallery, "--store", store, "--catalogue", address)
        for gallery, store in zip([*galleries, galleries[0]], stores, strict=True)
    ]
    for process in work:
        _, complaint = process.communicate()
        assert process.returncode == 0, complaint.decode()
    answer("index", *galleries, "--store", tmp_path / "calm")
    calm = contents(tmp_path / "calm")
    assert len(calm) == 3 * (2 * _PICTURES + 1)
    assert contents(tmp_path / "one") == contents(tmp_path / "two") == calm
    assert answer("index", "--store", tmp_path / "two")["unchanged"] == len(calm)
    for gallery in galleries:
        query = ("query", gallery / "class-2" / "005.png", "--top", "10", "--no-explain", "--store")
        hits = [rounded(answer(*query, tmp_path / name)["hits"]) for name in ("one", "two", "calm")]
        assert hits[0] == hits[1] == hits[2]


def test_a_crash_of_the_server_during_indexing_loses_and_doubles_nothing(
    postgres: Server, address: str, tmp_path: Path
) -> None:
    gallery, store = make_gallery(tmp_path / "gallery", 1, 12 * BATCH_SIZE), tmp_path / "store"
    index = ("index", gallery, "--store", store, "--catalogue", address)
    process = begun(*index)
    for batches in (1, 4):
        while process.poll() is None and committed(store) < batches * BATCH_SIZE:
            time.sleep(0.005)
        assert process.poll() is None
        postgres.restart()
    _, complaint = process.communicate()
    assert (process.returncode, complaint) == (0, b"")
    assert answer(*index)["unchanged"] == 12 * BATCH_SIZE + 1
    answer("index", gallery, "--store", tmp_path / "calm")
    assert contents(store) == contents(tmp_path / "calm")


def test_a_server_that_stays_away_ends_indexing_and_the_same_command_goes_on(
    postgres: Server, address: str, tmp_path: Path
) -> None:
    gallery, store = make_gallery(tmp_path / "gallery", 1, 12 * BATCH_SIZE), tmp_path / "store"
    index = ("index", gallery, "--store", store, "--catalogue", address)
    process = begun(*index, impatient=True)
    while process.poll() is None and committed(store) < BATCH_SIZE:
        time.sleep(0.005)
    assert process.poll() is None
    postgres.control("stop", "-m", "immediate")
    try:
        _, complaint = process.communicate()
    finally:
        postgres.control("start")
    assert process.returncode == 1
    said = complaint.decode().splitlines()[-1]
    assert "cannot be reached (Connection refused): start the server, or check the address" in said
    kept = committed(store)
    assert kept >= BATCH_SIZE
    assert answer(*index)["unchanged"] >= kept
    answer("index", gallery, "--store", tmp_path / "calm")
    assert contents(store) == contents(tmp_path / "calm")


def test_a_crash_between_queries_is_not_noticed(postgres: Server, address: str, tmp_path: Path) -> None:
    gallery = make_gallery(tmp_path / "gallery", 1)
    engine = Engine.create(tmp_path / "store", address=address)
    engine.index(gallery)
    picture = gallery / "copy.png"
    before = engine.query(picture, explain=False)
    postgres.restart()
    assert engine.query(picture, explain=False) == before
    engine.close()
    assert Engine.open(tmp_path / "store").query(picture, explain=False) == before
