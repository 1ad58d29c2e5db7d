"""Selections from the values that a user gives."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from indexes.catalogue.catalogue import Catalogue
from indexes.catalogue.records import EVERYTHING, NewPicture, Selection
from retrieval.common.errors import GalleryError
from retrieval.store.filters import make_selection
from tests.support.postgres import AddressOf

TIMES = {
    b"/g/a/1.jpg": "2023-12-31T23:59:59",
    b"/g/a/2.jpg": "2024-05-17T10:00:00",
    b"/g/b/3.jpg": "2024-05-31T23:00:00",
}


@pytest.fixture
def catalogue(tmp_path: Path, address_of: AddressOf) -> Catalogue:
    catalogue = Catalogue(tmp_path / "store", create=True, address=address_of(tmp_path / "store"))
    pictures = [
        NewPicture(path, 1, 1, path, np.ones(3, np.float32), 4, 3, taken_at)
        for path, taken_at in {**TIMES, b"/g/b/4.jpg": None}.items()
    ]
    catalogue.scans.record(b"/g", "model", pictures)
    return catalogue


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ({}, "1234"),
        ({"label": "a"}, "12"),
        ({"folder": "/g/b"}, "34"),
        ({"folder": "/g"}, "1234"),
        ({"folder": "/"}, "1234"),
        ({"folder": "/g/a/1.jpg"}, ""),
        ({"since": "2024"}, "23"),
        ({"since": "2024-05-17"}, "23"),
        ({"since": "2024-05-18"}, "3"),
        ({"until": "2023"}, "1"),
        ({"until": "2024-05-17"}, "12"),
        ({"until": "2024-05"}, "123"),
        ({"since": "2024-05-17", "until": "2024-05-17"}, "2"),
        ({"since": "2024", "label": "b"}, "3"),
    ],
)
def test_a_selection_has_the_pictures_that_fit(catalogue: Catalogue, filters: dict[str, Any], expected: str) -> None:
    selection = make_selection(**filters)
    listed = catalogue.pictures.page(selection, b"", 10)
    assert "".join(Path(picture.path.decode()).stem for picture in listed) == expected
    assert sorted(catalogue.pictures.select_ids(selection).tolist()) == sorted(picture.id for picture in listed)
    assert catalogue.pictures.count_selected(selection) == len(expected)


@pytest.mark.parametrize(
    "written", ["", "yesterday", "24", "2024-5", "2024-13", "2024-00", "2024-05-32", "2024-05-17T", "2024~", "2024\n"]
)
def test_a_value_that_is_not_a_date_is_refused(written: str) -> None:
    with pytest.raises(GalleryError, match="is not a date"):
        make_selection(since=written)


def test_no_filter_selects_everything() -> None:
    assert make_selection() == EVERYTHING
    assert make_selection().is_all
    assert not Selection(label="a").is_all


def test_pictures_are_listed_in_parts_by_path(catalogue: Catalogue) -> None:
    first = catalogue.pictures.page(EVERYTHING, b"", 3)
    rest = catalogue.pictures.page(EVERYTHING, first[-1].path, 3)
    assert [each.path for each in (*first, *rest)] == sorted([*TIMES, b"/g/b/4.jpg"])
    assert catalogue.pictures.get_many([each.id for each in rest] + [99]) == {each.id: each for each in rest}
    assert catalogue.pictures.get(rest[0].id) == rest[0]
    assert catalogue.pictures.folders() == [b"/g/a", b"/g/b"]
    catalogue.scans.set_missing([rest[0].id], True)
    assert catalogue.pictures.get(rest[0].id) is None
    assert catalogue.pictures.get_many([rest[0].id]) == {}
