"""The demo: what a newcomer runs first."""

import hashlib
from importlib.util import find_spec
from pathlib import Path

import pytest
from PIL import Image

from retrieval.commands import demo_gallery
from retrieval.commands.demo_gallery import make_gallery
from retrieval.common.errors import GalleryError
from tests.support.command import answer, retrieve
from tests.support.html_checker import Checker


def test_the_gallery_has_six_views_of_twelve_photographs_and_not_the_question(tmp_path: Path) -> None:
    pytest.importorskip("skimage")
    gallery, question = make_gallery(tmp_path)
    pictures = sorted(gallery.rglob("*.jpg"))
    assert len(pictures) == 72
    assert len({picture.parent for picture in pictures}) == 12
    hashes = {hashlib.sha256(picture.read_bytes()).digest() for picture in pictures}
    assert len(hashes) == 72
    assert hashlib.sha256(question.read_bytes()).digest() not in hashes
    sizes = set()
    for picture in pictures:
        with Image.open(picture) as image:
            assert image.mode == "RGB"
            assert max(image.size) <= 800
            sizes.add(image.size)
    assert len(sizes) > 12


def test_the_demo_finds_another_view_of_its_query(tmp_path: Path) -> None:
    pytest.importorskip("skimage")
    folder = tmp_path / "demo"
    done = retrieve("demo", "--out", folder)
    assert done.returncode == 0, done.stderr.decode()
    assert b"72 added" in done.stdout
    with Image.open(folder / "results" / "contact-sheet.png") as sheet:
        assert sheet.height > 1000  # five hits
    assert "How to read this" in Checker((folder / "results.html").read_text("utf-8")).text
    hits = answer("query", "question.jpg", "--no-explain", cwd=folder)["hits"]
    assert [hit["label"] for hit in hits[:3]] == ["coffee"] * 3
    assert hits[0]["verdict"] == "similar"
    again = retrieve("demo", "--out", folder)
    assert b"(0 embedded" in again.stdout


@pytest.mark.parametrize("package", ["skimage", "sklearn"])
def test_without_the_photographs_the_demo_says_what_to_install(
    package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demo_gallery, "find_spec", lambda name: None if name == package else find_spec(name))
    with pytest.raises(GalleryError, match=r"pip install '\.\[demo\]'"):
        make_gallery(tmp_path)


def test_a_demo_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    pytest.importorskip("skimage")
    (tmp_path / "file").touch()
    with pytest.raises(GalleryError, match=r"cannot be written .* choose another folder with --out"):
        make_gallery(tmp_path / "file")
