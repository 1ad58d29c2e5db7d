"""Spellings of one path: links, steps, `~`, composed and decomposed accents, and systems that know no case."""

import os
import unicodedata
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from retrieval.sources.gallery import resolve_gallery
from retrieval.sources.spelling import identity, name_key, real_path, spelled_like, typed_path

NAMES = st.text(st.sampled_from("aZöÅñçЙ한が"), min_size=1, max_size=4)


def respelled(data: st.DataObject, name: str) -> str:
    """Return a name with its accents composed or taken apart."""
    return unicodedata.normalize("NFC" if data.draw(st.booleans()) else "NFD", name)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(names=st.lists(NAMES, min_size=1, max_size=3), data=st.data())
def test_every_spelling_of_a_folder_is_one_path(tmp_path: Path, names: list[str], data: st.DataObject) -> None:
    folder = tmp_path
    for name in names:
        there = {name_key(each): each for each in os.listdir(folder)}
        folder /= there.get(name_key(name), respelled(data, name))
        folder.mkdir(exist_ok=True)
    link = tmp_path / "a link"
    link.unlink(missing_ok=True)
    link.symlink_to(folder)
    parts = [respelled(data, name) for name in names]
    steps = (["."] if data.draw(st.booleans()) else []) + (["..", tmp_path.name] if data.draw(st.booleans()) else [])
    typed = Path(tmp_path, *steps, *parts)
    assert real_path(typed) == real_path(link) == str(folder)
    assert os.path.samefile(typed_path(str(typed)), folder)
    assert resolve_gallery(str(typed)) == resolve_gallery(link) == os.fsencode(folder)


class NoCase:
    """A file system that takes a name in any case and any composition, and lists it as it was made."""

    def __init__(self, *paths: str) -> None:
        self.listed = {self._key(path): path for path in paths}

    def _key(self, path: str) -> str:
        return unicodedata.normalize("NFC", path.rstrip("/") or "/").casefold()

    def stat(self, path: str | bytes) -> os.stat_result:
        key = self._key(os.fsdecode(path))
        if key not in self.listed:
            raise FileNotFoundError(path)
        return os.stat_result((0, 1 + list(self.listed).index(key), 1, 0, 0, 0, 0, 0, 0, 0))

    def listdir(self, path: str) -> list[str]:
        return [
            each.rpartition("/")[2]
            for each in self.listed.values()
            if self._key(os.path.dirname(each)) == self._key(path)
        ]


@settings(max_examples=60, deadline=None)
@given(names=st.lists(NAMES, min_size=1, max_size=3), data=st.data())
def test_a_system_that_knows_no_case_has_one_name_for_a_thing(names: list[str], data: st.DataObject) -> None:
    made = ["/", "/other", *("/" + "/".join(names[: end + 1]) for end in range(len(names)))]
    system = NoCase(*made)
    cases = [(name.upper(), name.lower(), name.swapcase(), name) for name in names]
    typed = "".join("/" + respelled(data, data.draw(st.sampled_from(each))) for each in cases)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "lstat", system.stat)
        patch.setattr(os, "stat", system.stat)
        patch.setattr(os, "listdir", system.listdir)
        patch.setattr(os.path, "realpath", os.fspath)
        found = real_path(typed)
        alike = spelled_like(os.fsencode(typed + "/new"), [b"/other", os.fsencode(made[-1])])
    assert found == made[-1]
    assert alike == os.fsencode(made[-1] + "/new")


def test_names_that_differ_only_by_case_are_two_where_the_disk_says_so(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    if os.path.exists(tmp_path / "A"):
        pytest.skip("this disk knows no case")
    (tmp_path / "A").mkdir()
    (tmp_path / "b.jpg").write_bytes(b"")
    os.link(tmp_path / "b.jpg", tmp_path / "B.jpg")
    for name in ("a", "A", "b.jpg", "B.jpg"):
        assert real_path(tmp_path / name) == str(tmp_path / name)
    assert identity(str(tmp_path / "a")) != identity(str(tmp_path / "A"))
    assert spelled_like(os.fsencode(tmp_path / "a"), [os.fsencode(tmp_path / "A")]) == os.fsencode(tmp_path / "a")


def test_the_home_folder_is_meant_by_a_tilde(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert typed_path("~/x") == str(tmp_path / "x")
    assert typed_path("~") == str(tmp_path)
    assert typed_path("a~") == "a~"
    Path("~odd").mkdir()
    assert typed_path("~odd") == "~odd"
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)
    with pytest.raises(ValueError, match="set HOME"):
        typed_path("~/x")
