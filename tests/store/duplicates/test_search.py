"""Duplicates of a store: their kinds, the one to keep, and those left out; as table, JSON and page."""

import hashlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from indexes.catalogue.catalogue import Catalogue
from indexes.catalogue.records import NewPicture
from indexes.vectors import sizing
from indexes.vectors.faiss_index import FaissIndex
from retrieval.model.preprocessing import read_image
from retrieval.store.duplicates import candidates, thumbnails
from retrieval.store.duplicates.candidates import Contents
from retrieval.store.duplicates.groups import DuplicateKind, Duplicates
from retrieval.store.duplicates.page import duplicates_page
from retrieval.store.duplicates.search import DuplicateRules, find_duplicates
from retrieval.store.filters import either_folder, make_selection
from retrieval.store.maintenance.index_sync import open_index
from tests.support.command import answer, retrieve_here
from tests.support.html_checker import Checker
from tests.support.photographs import cropped, halved, photograph

MODEL = "0123456789abcdef"
CHANNELS = 48


class Gallery:
    """Photographs on the disk, recorded with descriptors near to those of what they are copies of."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "gallery"
        self.catalogue = Catalogue(folder / "store", create=True)

    def path(self, name: str) -> Path:
        return self.folder / name

    def save(self, seed: int, name: str, change: Callable[..., object] | None = None, quality: int = 90) -> Path:
        """Save a photograph, or a changed one, as a file."""
        path = self.path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        image = photograph(seed)
        (change(image) if change else image).save(path, quality=quality)  # type: ignore[attr-defined]
        return path

    def copy(self, name: str, other: str) -> Path:
        self.path(other).parent.mkdir(parents=True, exist_ok=True)
        return Path(shutil.copy(self.path(name), self.path(other)))

    def record(self, **seeds: int) -> None:
        """Record all files; `seeds` give the photograph of a file, else its name does."""
        pictures = []
        for path in sorted(path for path in self.folder.rglob("*") if path.is_file()):
            content, now = path.read_bytes(), path.stat()
            seed = seeds.get(path.stem, int(path.stem.split("-")[0]) if path.stem[0].isdigit() else 0)
            vector = np.random.default_rng(seed).normal(size=CHANNELS)
            vector += 0.1 * np.random.default_rng(len(content)).normal(size=CHANNELS)
            width, height = read_image(path)[0].size
            digest = hashlib.sha256(content).digest()
            found = (os.fsencode(path), now.st_size, now.st_mtime_ns, digest)
            pictures.append(NewPicture(*found, vector.astype(np.float32), width, height))
        self.catalogue.scans.record(os.fsencode(self.folder), MODEL, pictures)

    def found(self, rules: DuplicateRules | None = None) -> Duplicates:
        return find_duplicates(self.catalogue, open_index(self.catalogue, MODEL), MODEL, rules or DuplicateRules())

    def named(self, found: Duplicates) -> list[list[str]]:
        """Return the groups by their files' names."""
        return [[os.path.relpath(member.path, self.folder) for member in group.members] for group in found.groups]


@pytest.fixture
def gallery(tmp_path: Path) -> Gallery:
    """Save six photographs; 1 has every kind of copy and 2 an equal one."""
    made = Gallery(tmp_path)
    for seed in range(1, 7):
        made.save(seed, f"{seed}.jpg")
    made.copy("1.jpg", "copies/1-renamed.jpg")
    made.save(1, "copies/1-half.jpg", halved)
    made.save(1, "copies/1-poor.jpg", quality=30)
    made.save(1, "copies/1-cropped.jpg", lambda image: cropped(image, 0.05, 0.05, 0.05, 0.05))
    made.copy("2.jpg", "copies/2-renamed.jpg")
    made.record()
    return made


def test_every_kind_of_copy_is_in_one_group(gallery: Gallery) -> None:
    found = gallery.found()
    one, two = found.groups
    assert [member.path.name for member in one.members[:2]] == ["1.jpg", "1-renamed.jpg"]
    assert {member.path.name: member.kind for member in one.members} == {
        "1.jpg": None,
        "1-renamed.jpg": DuplicateKind.identical,
        "1-half.jpg": DuplicateKind.near,
        "1-poor.jpg": DuplicateKind.near,
        "1-cropped.jpg": DuplicateKind.near,
    }
    assert (one.kind, two.kind) == (DuplicateKind.near, DuplicateKind.identical)
    assert gallery.named(found)[1] == ["2.jpg", "copies/2-renamed.jpg"]
    assert [member.similarity for member in two.members] == [1, 1]
    assert all(0.9 <= member.similarity <= 1 for member in one.members)
    assert (found.pictures, found.unread) == (11, ())
    assert found.spare == 5
    assert found.spare_bytes == sum(member.size_bytes for group in found.groups for member in group.members[1:])
    assert [(member.width, member.height) for member in one.members if "half" in member.path.name] == [(120, 90)]


def test_the_most_pixels_then_the_largest_then_the_oldest_is_kept(tmp_path: Path) -> None:
    made = Gallery(tmp_path)
    made.save(1, "a/1.jpg", halved)
    made.save(1, "b/1.jpg", quality=50)
    made.save(1, "c/1.jpg", quality=90)
    os.utime(made.copy("c/1.jpg", "d/1.jpg"), ns=(0, 10**18))
    made.record()
    assert gallery_order(made) == ["d/1.jpg", "c/1.jpg", "b/1.jpg", "a/1.jpg"]


def gallery_order(made: Gallery) -> list[str]:
    (names,) = made.named(made.found())
    return [*names[:2], *sorted(names[2:], reverse=True)]


def test_only_equal_files_where_no_picture_may_be_looked_at(gallery: Gallery, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "retrieval.store.duplicates.thumbnails.read_image", lambda *arguments: pytest.fail("a picture was looked at")
    )
    found = gallery.found(DuplicateRules(near=None))
    assert sorted(gallery.named(found)) == [["1.jpg", "copies/1-renamed.jpg"], ["2.jpg", "copies/2-renamed.jpg"]]


def test_a_threshold_of_one_leaves_only_equal_files(gallery: Gallery) -> None:
    assert {group.kind for group in gallery.found(DuplicateRules(near=1.0)).groups} == {DuplicateKind.identical}


def test_pictures_with_equal_descriptors_are_no_duplicates_if_they_look_different(tmp_path: Path) -> None:
    made = Gallery(tmp_path)
    made.save(1, "a.jpg")
    made.save(2, "b.jpg")
    made.record(a=5, b=5)
    assert made.found().groups == ()
    (group,) = made.found(DuplicateRules(alike=0.9)).groups
    assert group.kind is DuplicateKind.alike
    assert [member.kind for member in group.members] == [None, DuplicateKind.alike]
    assert 0.9 <= group.members[1].similarity < 1
    assert (group.spare, group.spare_bytes) == (0, 0)


def test_alike_pictures_are_listed_once_without_their_copies(gallery: Gallery) -> None:
    gallery.save(7, "1-other.jpg")
    gallery.record()
    found = gallery.found(DuplicateRules(alike=0.9))
    *_, alike = found.groups
    assert alike.kind is DuplicateKind.alike
    assert {member.path.name for member in alike.members} == {"1.jpg", "1-other.jpg"}


def test_only_a_selection_is_searched(gallery: Gallery) -> None:
    found = gallery.found(DuplicateRules(selection=make_selection(folder=gallery.path("copies"))))
    (names,) = gallery.named(found)
    assert {Path(name).name for name in names} == {"1-renamed.jpg", "1-half.jpg", "1-poor.jpg", "1-cropped.jpg"}
    assert found.pictures == 5


def test_two_folders_are_compared(tmp_path: Path) -> None:
    made = Gallery(tmp_path)
    for seed, part in ((1, "train"), (2, "train"), (3, "test"), (4, "test")):
        made.save(seed, f"{part}/{seed}.jpg")
    made.copy("train/1.jpg", "test/1-again.jpg")
    made.copy("train/2.jpg", "train/2-again.jpg")
    made.save(2, "test/2-half.jpg", halved)
    made.copy("test/3.jpg", "test/3-again.jpg")
    made.record()
    sides = [make_selection(folder=made.path(part)) for part in ("train", "test")]
    rules = DuplicateRules(selection=either_folder(sides), between=(sides[0], sides[1]))
    groups = [{Path(name).name for name in names} for names in made.named(made.found(rules))]
    assert sorted(groups, key=min) == [{"1.jpg", "1-again.jpg"}, {"2.jpg", "2-again.jpg", "2-half.jpg"}]


def test_links_are_no_copies(tmp_path: Path) -> None:
    made = Gallery(tmp_path)
    for seed in (1, 2, 3):
        made.save(seed, f"{seed}.jpg")
    made.path("0-best.jpg").symlink_to(made.path("1.jpg"))
    os.link(made.path("2.jpg"), made.path("2-linked.jpg"))
    made.copy("3.jpg", "3-copy.jpg")
    made.path("0-third.jpg").symlink_to(made.path("3.jpg"))
    made.record(**{"0-best": 1, "0-third": 3})
    (names,) = made.named(made.found())
    assert set(names) == {"3.jpg", "3-copy.jpg"}


def test_files_that_are_gone_broken_or_changed_are_reported_and_left_out(gallery: Gallery) -> None:
    gallery.path("copies/1-half.jpg").unlink()
    gallery.path("copies/2-renamed.jpg").unlink()
    gallery.path("copies/1-poor.jpg").write_bytes(b"\xff\xd8 no picture")
    poor = gallery.path("1.jpg")
    now = poor.stat()
    poor.write_bytes(b"x" * now.st_size)
    os.utime(poor, ns=(now.st_atime_ns, now.st_mtime_ns))  # broken, and looks as it was
    found = gallery.found()
    (names,) = gallery.named(found)
    assert sorted(names) == ["copies/1-cropped.jpg", "copies/1-renamed.jpg"]
    reasons = {path.name: reason for path, reason in found.unread}
    assert reasons.keys() >= {"1.jpg", "1-half.jpg", "1-poor.jpg", "2-renamed.jpg"}
    assert reasons["1-half.jpg"] == "does not exist"
    assert "has changed since it was indexed" in reasons["1-poor.jpg"]


def test_many_equal_files_do_not_hide_a_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(candidates, "_FIRST_K", 4)
    made = Gallery(tmp_path)
    made.save(1, "1.jpg")
    for number in range(20):
        made.copy("1.jpg", f"equal/1-{number}.jpg")
    made.save(1, "1-half.jpg", halved)
    for seed in range(2, 5):
        made.save(seed, f"{seed}.jpg")
    made.record()
    (group,) = made.found().groups
    assert len(group.members) == 22
    assert {member.path.name for member in group.members if member.kind is DuplicateKind.near} == {"1-half.jpg"}


def test_many_small_pictures_are_kept_in_a_file(gallery: Gallery, monkeypatch: pytest.MonkeyPatch) -> None:
    in_memory = gallery.found()
    monkeypatch.setattr(thumbnails, "_IN_MEMORY", 0)
    in_file = gallery.found()
    assert in_file.groups == in_memory.groups


def test_an_approximate_index_finds_them_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sizing, "MOST_EXACT", 50)
    made = Gallery(tmp_path)
    for seed in range(1, 61):
        made.save(seed, f"{seed}.jpg", halved)
    for seed in range(1, 6):
        made.save(seed, f"copies/{seed}-poor.jpg", halved, quality=40)
    made.record()
    index = open_index(made.catalogue, MODEL)
    assert not index.is_exact
    assert len(made.found().groups) == 5


def test_a_store_without_pictures_has_no_duplicates(tmp_path: Path) -> None:
    catalogue = Catalogue(tmp_path / "store", create=True)
    found = find_duplicates(catalogue, FaissIndex.empty(CHANNELS), MODEL)
    assert (found.groups, found.pictures) == ((), 0)


def test_contents_are_numbered_as_they_come(gallery: Gallery) -> None:
    contents = Contents.of(gallery.catalogue)
    assert len(contents) == 9
    assert contents.firsts.tolist() == sorted(contents.firsts)
    assert contents.number_of(contents.ids).tolist() == contents.numbers.tolist()
    assert contents.number_of(np.array([-1, 10**6])).tolist() == [-1, -1]
    assert sorted(len(ids) for ids in contents.picture_ids(np.arange(9))) == [1] * 7 + [2, 2]


def test_the_page_is_whole_and_no_name_can_harm_it(tmp_path: Path) -> None:
    made = Gallery(tmp_path)
    made.save(1, "1-<b>&.jpg")
    made.copy("1-<b>&.jpg", "1-<script>.jpg")
    made.save(2, "2.jpg")
    made.copy("2.jpg", "2-gone.jpg")
    made.record()
    found = made.found()
    made.path("2-gone.jpg").unlink()
    text = duplicates_page(made.catalogue.folder, found)
    checked = Checker(text)
    assert not {"b>&", "script"} & set(checked.tags)
    assert "1-<b>&.jpg" in checked.text
    assert "1-<script>.jpg" in checked.text
    assert "cannot be shown" in checked.text
    assert "2 groups among 4 pictures, 2 pictures more than needed" in checked.text
    sources = [value for _, name, value in checked.attributes if name == "src"]
    assert len(sources) == 3
    assert all(value and value.startswith("data:image/jpeg") for value in sources)


# As a person runs it


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Index two photographs with halves of them, and an equal file with an odd name."""
    folder = tmp_path_factory.mktemp("duplicates")
    for number, name in enumerate(("rooms", "views")):
        (folder / name).mkdir()
        photograph(number, 600, 450).save(folder / name / "large.jpg")
        halved(photograph(number, 600, 450)).save(folder / name / "half.jpg")
    odd = os.path.join(os.fsencode(folder), b"views", b"[red]<b>&\xff.jpg")
    shutil.copy(os.fsencode(folder / "rooms" / "large.jpg"), odd)
    done = retrieve_here("index", folder, "--store", folder / ".retrieve")
    assert done.returncode == 0, done.stderr.decode()
    return folder / ".retrieve"


@pytest.mark.slow
def test_the_table_tells_groups_and_sums(store: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    done = retrieve_here("duplicates", "--store", store, "--html", page, cwd=store.parent)
    said = done.stdout.decode()
    assert (done.returncode, done.stderr) == (0, b"")
    assert "\x1b" not in said
    assert "2 groups among 5 pictures, 3 pictures more than needed" in said
    assert "views/[red]<b>&\\xff.jpg" in said
    rows = [line.split() for line in said.splitlines()]
    assert ["1", "keep", "rooms/large.jpg", "600", "x", "450"] in [row[:6] for row in rows]
    assert {row[0] for row in rows if row} >= {"near-identical", "identical"}
    assert "Near-identical" in Checker(page.read_text("utf-8")).text


@pytest.mark.slow
def test_json_has_stable_keys(store: Path) -> None:
    report = answer("duplicates", "--store", store)
    assert report.keys() == {"store", "pictures", "groups", "linked", "spare", "spare_bytes", "unread", "seconds"}
    group = report["groups"][0]
    assert group.keys() == {"kind", "spare", "spare_bytes", "pictures"}
    keys = {"id", "path", "label", "width", "height", "bytes", "kind", "similarity", "kept"}
    assert all(member.keys() == keys for member in group["pictures"])
    assert [member["kept"] for member in group["pictures"]] == [True, False, False]
    assert report["spare"] == 3


@pytest.mark.slow
def test_a_label_and_only_equal_files(store: Path) -> None:
    (group,) = answer("duplicates", "--store", store, "--label", "rooms")["groups"]
    assert {Path(member["path"]).name for member in group["pictures"]} == {"large.jpg", "half.jpg"}
    (group,) = answer("duplicates", "--store", store, "--identical")["groups"]
    assert group["kind"] == "identical"


@pytest.mark.parametrize(
    "arguments", [["--near", "0.2"], ["--alike", "0.5"], ["--near", "0.9", "--identical"]], ids=" ".join
)
def test_wrong_usage_ends_with_2(arguments: list[str], store: Path) -> None:
    done = retrieve_here("duplicates", "--store", store, *arguments)
    assert done.returncode == 2
    assert b"Usage: " in done.stderr
