"""One thing by any of its names: index, filters, remove and labels agree, and an empty answer says what there is."""

import os
import unicodedata
from pathlib import Path

import numpy as np
import pytest

from indexes.catalogue.catalogue import Catalogue
from indexes.catalogue.records import NewPicture, Selection
from retrieval.sources.gallery import resolve_gallery
from retrieval.store.emptiness import SearchFilters, explain_nothing
from retrieval.store.maintenance.removal import remove_paths
from retrieval.store.names import stored_folders

NFC, NFD = (unicodedata.normalize(form, "Zürich") for form in ("NFC", "NFD"))


@pytest.fixture
def catalogue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Catalogue:
    """Record a gallery with a decomposed name and a linked folder, whose pictures have one date."""
    monkeypatch.chdir(tmp_path)
    for folder in (f"g/{NFD}", "g/Bern", "elsewhere"):
        Path(folder).mkdir(parents=True)
    os.symlink(tmp_path / "elsewhere", "g/linked")
    os.symlink(tmp_path / "g", "link")
    catalogue = Catalogue(tmp_path / "store", create=True)
    root = resolve_gallery("link")
    for number, name in enumerate((f"{NFD}/é.jpg", "Bern/2.jpg", "linked/3.jpg", f"{NFD}/4.jpg")):
        Path("g", name).write_bytes(b"x")
        path, time = root + b"/" + os.fsencode(name), "2009-06-12T10:11:12" if number == 1 else None
        catalogue.scans.record(root, "m", [NewPicture(path, 1, 1, bytes([number]), np.ones(2, np.float32), 4, 3, time)])
    return catalogue


FOLDERS = {
    "Zürich": (f"g/{NFC}", f"g/{NFD}", f"link/{NFC}", f"g/../g/{NFD}", f"g/linked/../g/{NFC}", f"./g//{NFC}/"),
    "linked": ("elsewhere", "g/linked", "link/linked", "g/linked/../elsewhere"),
    "": ("g", "link", "g/Bern/..", "."),
}


@pytest.mark.parametrize(("name", "typed"), [(name, each) for name, names in FOLDERS.items() for each in names])
def test_a_filter_takes_any_name_of_a_folder(catalogue: Catalogue, name: str, typed: str) -> None:
    expected = {"Zürich": 2, "linked": 1, "": 4}[name]
    for path in (typed, os.path.abspath(".") + "/" + typed, Path(os.getcwd(), typed).as_uri()):
        assert catalogue.pictures.count_selected(SearchFilters(folder=path).select(catalogue)) == expected


def test_a_label_has_one_spelling_and_is_found_by_each(catalogue: Catalogue) -> None:
    assert catalogue.pictures.labels() == ["Bern", NFC, "linked"]
    for label in (NFC, NFD):
        assert catalogue.pictures.count_selected(Selection(label)) == 2
    assert Selection("Bern").only_label == "Bern"
    assert Selection(NFC).only_label is None  # an index of before may have either


NAMED = [
    (f"link/{NFC}", 2),
    (f"g/{NFC}/é.jpg", 1),
    (f"g/{NFD}/e\u0301.jpg", 1),
    ("elsewhere", 1),
    ("elsewhere/3.jpg", 1),
]


@pytest.mark.parametrize(("typed", "count"), NAMED)
def test_remove_takes_any_name(catalogue: Catalogue, typed: str, count: int) -> None:
    assert remove_paths(catalogue, [typed])[typed].pictures == count


@pytest.mark.parametrize(("typed", "count"), [each for each in NAMED if each[0].startswith("g/")])
def test_remove_takes_any_name_of_what_is_gone(catalogue: Catalogue, typed: str, count: int) -> None:
    os.rename("g", "away")
    os.mkdir("g")
    assert remove_paths(catalogue, [typed])[typed].pictures == count


def test_nothing_is_removed_by_a_name_that_is_only_alike(catalogue: Catalogue) -> None:
    for typed in ("g/bern", "g/Berne", "g/Bern/3.jpg", f"g/{NFC}/e.jpg"):
        assert not remove_paths(catalogue, [typed])[typed]
        assert stored_folders(catalogue, typed) == ()


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        (SearchFilters(label="Berm"), "no picture has the label Berm; there are alike: Bern"),
        (SearchFilters(label="x"), f"no picture has the label x; there are: Bern, {NFC}, linked"),
        (SearchFilters(folder="g/2042"), "no picture of the store is below the folder g/2042; there are galleries: "),
        (
            SearchFilters(folder="g/Bern/2.jpg"),
            "2.jpg is a file, and nothing is below it: give --folder a folder",
        ),
        (SearchFilters(since="2024"), "1 of 4 pictures have a date, from 2009-06-12T10:11:12 to 2009-06-12T10:11:12: "),
        (SearchFilters(until="2009", label="linked"), "has all of it: the label linked (1) and until 2009 (1)"),
        (SearchFilters(), "the files of the nearest pictures are not there any more"),
    ],
)
def test_nothing_is_explained(catalogue: Catalogue, filters: SearchFilters, expected: str) -> None:
    assert expected in explain_nothing(catalogue, filters, 0, None)


def test_nothing_is_explained_by_likeness_and_by_a_store_without_dates_or_pictures(catalogue: Catalogue) -> None:
    assert "has 43.2 %, less than" in explain_nothing(catalogue, SearchFilters(), 0.8, 0.432)
    remove_paths(catalogue, ["g/Bern"])
    assert "no picture of the store has a date" in explain_nothing(catalogue, SearchFilters(since="2024"), 0, None)
    remove_paths(catalogue, ["g"])
    assert "has no pictures" in explain_nothing(catalogue, SearchFilters(label="Bern"), 0, None)
