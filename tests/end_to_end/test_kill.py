"""Killed at random moments, a store is usable after each, and in the end as if never disturbed."""

import os
import random
import signal
import subprocess
import time
from pathlib import Path

import pytest
from PIL import Image

from indexes.catalogue.catalogue import Catalogue
from indexes.errors import StoreError
from retrieval.model.bundle import find_bundle
from retrieval.model.inference import open_network
from retrieval.store.indexing.pipeline import BATCH_SIZE
from tests.support.command import RETRIEVE, answer, environment, retrieve, retrieve_here
from tests.support.generated import blocks

_KILLS = 10
_PICTURES_A_ROUND = 36
_ROUNDS = 8  # indexed before an interrupt: more than are committed until it arrives


def _grow(gallery: Path, number: int) -> None:
    """More pictures for a round: some of it is always left to embed when the process dies."""
    folder = gallery / f"class-{number % 5}"
    folder.mkdir(parents=True, exist_ok=True)
    for place in range(_PICTURES_A_ROUND):
        Image.fromarray(blocks(1000 * number + place)).save(folder / f"{number:03}-{place:03}.png")


def _index_until(gallery: Path, store: Path, seconds: float) -> bool:
    """Index, and kill the process after so many seconds; whether it was still at work."""
    process = subprocess.Popen(
        [*RETRIEVE, "index", os.fspath(gallery), "--store", os.fspath(store)],
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        process.wait(seconds)
        return False
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)
        process.wait()
        return True


def _contents(store: Path) -> dict[bytes, tuple[str | None, bytes]]:
    """Path, label and descriptor of every picture in a store."""
    catalogue = Catalogue(store)
    fingerprint = catalogue.settings.get("fingerprint")
    assert fingerprint is not None
    rows: dict[bytes, tuple[str | None, bytes]] = {}
    for ids, vectors in catalogue.descriptors.all(fingerprint):
        pictures = catalogue.pictures.candidates(ids)
        rows |= {
            picture.path: (picture.label, vector.tobytes()) for picture, vector in zip(pictures, vectors, strict=True)
        }
    return rows


def test_store_survives_kills_at_random_moments(tmp_path: Path) -> None:
    gallery, store, calm = tmp_path / "gallery", tmp_path / "store", tmp_path / "calm"
    chance = random.Random(7)
    _grow(gallery, 0)
    open_network(find_bundle("default"))  # else its preparation counts as time of indexing
    started = time.perf_counter()
    answer("index", gallery, "--store", calm, run=retrieve)
    whole = time.perf_counter() - started

    kills, committed = 0, 0
    for number in range(1, 4 * _KILLS):
        if kills == _KILLS:
            break
        _grow(gallery, number)
        started = time.perf_counter()
        if _index_until(gallery, store, chance.uniform(0.3, 1.2) * whole):
            kills += 1
        else:
            whole = min(whole, time.perf_counter() - started)  # the undisturbed run may have had to wait for others
        done = retrieve_here("query", gallery / "class-0" / "000-000.png", "--store", store, "--no-explain", "--json")
        if done.returncode == 0:
            committed = max(committed, len(_contents(store)))
        else:  # killed before the first commit
            assert committed == 0, done.stderr.decode()
            assert done.stderr.decode().startswith("error: ")
        if not committed:
            whole *= 1.2  # the machine is busier than it was
    assert kills == _KILLS
    assert committed > 0

    report = answer("index", gallery, "--store", store)
    assert report["failed"] == 0
    answer("index", gallery, "--store", calm)
    assert _contents(store) == _contents(calm)
    queries = sorted(gallery.rglob("*.png"))[::67]
    for picture in queries:
        disturbed, undisturbed = (
            answer("query", picture, "--top", "10", "--no-explain", "--store", place)["hits"] for place in (store, calm)
        )
        assert disturbed == undisturbed
        assert Path(disturbed[0]["path"]) == picture


@pytest.mark.parametrize("batches", [1, 3])
def test_interrupt_leaves_a_usable_store(tmp_path: Path, batches: int) -> None:
    """Ctrl-C in the middle of the work: one sentence, what was committed is kept, the next run goes on."""
    open_network(find_bundle("default"), "cpu")  # prepared, of which the process would tell too
    gallery, store = tmp_path / "gallery", tmp_path / "store"
    for number in range(_ROUNDS):
        _grow(gallery, number)
    process = subprocess.Popen(
        [*RETRIEVE, "index", os.fspath(gallery), "--store", os.fspath(store)],
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    while process.poll() is None and _committed(store) < batches * BATCH_SIZE:
        time.sleep(0.005)
    process.send_signal(signal.SIGINT)
    _, complaint = process.communicate()
    assert process.returncode == 130
    assert complaint.decode().startswith("error: interrupted")
    assert len(complaint.decode().splitlines()) == 1
    assert batches * BATCH_SIZE <= _committed(store) <= _ROUNDS * _PICTURES_A_ROUND
    assert answer("index", gallery, "--store", store)["unchanged"] >= batches * BATCH_SIZE
    answer("index", gallery, "--store", tmp_path / "calm")
    assert _contents(store) == _contents(tmp_path / "calm")


def _committed(store: Path) -> int:
    """How many pictures a store has, also while it is being made."""
    try:
        return sum(count.pictures for count in Catalogue(store).scans.root_counts())
    except StoreError:
        return 0
