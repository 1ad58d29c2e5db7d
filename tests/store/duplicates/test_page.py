"""The page of duplicates: long lists are cut, with the number of what is left out."""

from dataclasses import replace
from pathlib import Path

import pytest

from retrieval.store.duplicates import page
from retrieval.store.duplicates.groups import DuplicateKind, Duplicates, Group, GroupMember
from tests.support.html_checker import Checker


def a_group(kind: DuplicateKind, count: int) -> Group:
    first = GroupMember(1, Path("a/first.jpg"), None, 30, 20, 2000, None, 1.0)
    others = [replace(first, id=n, path=Path(f"a/{n}.jpg"), kind=kind, similarity=0.9) for n in range(2, count + 1)]
    return Group(kind, (first, *others))


def test_long_lists_are_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page, "MAX_GROUPS", 2)
    kinds = (DuplicateKind.near, DuplicateKind.alike, DuplicateKind.alike, DuplicateKind.alike)
    groups = tuple(a_group(kind, 15) for kind in kinds)
    checked = Checker(page.duplicates_page(Path("store"), Duplicates(groups, 60, (), 1.0)))
    assert checked.tags.count("article") == 2
    assert checked.tags.count("figure") == 2 * page.MAX_MEMBERS
    assert checked.text.count("and 3 more") == 2
    assert "2 more groups are not shown here; --json has all." in checked.text
    assert "1 Near-identical 15 pictures" in checked.text
    assert "14 more than needed, 28.0 kB" in checked.text
    assert "keep first.jpg 30 × 20, 2.0 kB" in checked.text
    assert "near-identical, 90.0 % 2.jpg" in checked.text
    assert "2 Alike 15 pictures" in checked.text
    assert "first first.jpg" in checked.text


def test_a_store_without_duplicates_says_so() -> None:
    assert "No picture is there twice." in Checker(page.duplicates_page(Path("store"), Duplicates((), 4, (), 1.0))).text
