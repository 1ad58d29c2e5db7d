"""Shards of a gallery: n runs do together what one does."""

import os
import subprocess
from pathlib import Path

import pytest

from retrieval.store.indexing.shards import WHOLE, Shard, parse_shard
from tests.support.begun import begun
from tests.support.command import answer, retrieve_here
from tests.support.galleries import contents, failures, make_gallery
from tests.support.postgres import Server

_PICTURES = 24


def test_each_path_is_in_one_shard() -> None:
    paths = [b"/gallery/%d.jpg" % number for number in range(1000)]
    shards = [Shard(number, 7) for number in range(1, 8)]
    held = [[shard.holds(path) for path in paths] for shard in shards]
    assert all(sum(of_path) == 1 for of_path in zip(*held, strict=True))
    assert all(100 < sum(of_shard) < 190 for of_shard in held)
    assert all(WHOLE.holds(path) for path in paths)


def test_a_shard_is_named_i_of_n() -> None:
    assert parse_shard("2/3") == Shard(2, 3)
    assert parse_shard("1/1").is_all


@pytest.mark.parametrize("text", ["0/3", "4/3", "1", "1/", "-1/3", "1/0", "a/b", "1/2/3", "١/2"])
def test_a_text_that_is_not_a_shard_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a shard: give i/n"):
        parse_shard(text)


@pytest.mark.slow
def test_wrong_usage() -> None:
    for options in (("--shards", "3/2"), ("--workers", "2")):
        done = retrieve_here("index", "gallery", *options)
        assert (done.returncode, done.stdout) == (2, b""), options


@pytest.mark.slow
def test_shards_do_together_what_one_run_does(tmp_path: Path) -> None:
    gallery, store, calm = make_gallery(tmp_path / "gallery", 1, _PICTURES), tmp_path / "store", tmp_path / "calm"
    (gallery / "unreadable.jpg").symlink_to("nothing")
    count = 3

    def both() -> None:
        reports = [answer("index", gallery, "--store", store, "--shards", f"{i}/{count}") for i in (1, 2, 3)]
        whole = answer("index", gallery, "--store", calm)
        for key in ("added", "reused", "embedded", "unchanged", "missing", "failed"):
            assert sum(report[key] for report in reports) == whole[key], key
        assert contents(store) == contents(calm)
        assert failures(store) == failures(calm)

    both()
    assert not (store / "index.faiss").exists()
    (gallery / "class-0" / "003.png").unlink()
    (gallery / "class-1" / "004.png").rename(gallery / "class-1" / "renamed.png")
    (gallery / "broken.jpg").unlink()
    (gallery / "class-2" / "new.jpg").write_text("no picture")
    both()
    hits = [
        answer("query", gallery / "copy.png", "--no-explain", "--top", "9", "--store", place)["hits"]
        for place in (store, calm)
    ]
    numbers = [
        {hit["path"]: [hit[name] for name in ("similarity", "probability", "familiarity")] for hit in each}
        for each in hits
    ]
    assert numbers[0].keys() == numbers[1].keys()
    for path, found in numbers[0].items():
        assert found == pytest.approx(numbers[1][path], abs=1e-5)
    assert answer("index", gallery, "--store", store)["unchanged"] == len(contents(calm))


@pytest.mark.slow
def test_an_empty_shard_marks_its_vanished_files_missing(tmp_path: Path) -> None:
    """The gallery is not empty, only this shard of it is."""
    gallery, store = tmp_path / "gallery", tmp_path / "store"
    make_gallery(gallery, 1, 12)
    answer("index", gallery, "--store", store)
    shard = Shard(1, 2)
    gone = [path for path in gallery.rglob("*.*") if shard.holds(os.fsencode(os.path.realpath(path)))]
    assert 0 < len(gone) < 14
    for path in gone:
        path.unlink()
    report = answer("index", gallery, "--store", store, "--shards", "1/2")
    assert report["missing"] == len([path for path in gone if path.name != "broken.jpg"])
    assert report["kept_roots"] == []
    assert report["notes"] == [
        "shard 1 of 2 is done; the index was not updated: the next query or `retrieve index` does that"
    ]
    for path in gallery.rglob("*.*"):
        path.unlink()
    emptied = [answer("index", gallery, "--store", store, "--shards", f"{number}/2") for number in (1, 2)]
    assert [report["missing"] for report in emptied] == [0, 0]
    assert [report["kept_roots"] for report in emptied] == [[], [os.path.realpath(gallery)]]


@pytest.mark.slow
def test_shards_write_one_catalogue_at_once(postgres: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGPASSWORD", postgres.password)
    address = postgres.address(tmp_path, password=False)
    gallery, calm = make_gallery(tmp_path / "gallery", 1, 2 * _PICTURES), tmp_path / "calm"
    stores = [tmp_path / f"store-{number}" for number in (1, 2)]
    work: list[subprocess.Popen[bytes]] = [
        begun("index", gallery, "--store", store, "--catalogue", address, "--shards", f"{number}/2")
        for number, store in enumerate(stores, 1)
    ]
    for process in work:
        _, complaint = process.communicate()
        assert process.returncode == 0, complaint.decode()
    answer("index", gallery, "--store", calm)
    assert contents(stores[0]) == contents(calm)
    assert failures(stores[0]) == failures(calm)
    assert answer("index", gallery, "--store", stores[1])["unchanged"] == len(contents(calm))
