"""What people see: names that cannot harm, sheets that are aligned, a page that is whole in itself."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from retrieval.errors import RetrievalError
from retrieval.explain import Explanation, Heatmaps, Verdict
from retrieval.names import percent, safe_name
from retrieval.report import (
    IDENTICAL,
    KINDS,
    NO_HITS,
    Shown,
    contact_sheet,
    page,
    pair_sheet,
    prepare,
    prepare_pair,
    write_overlays,
    write_page,
    write_pair,
)
from retrieval.search import Hit

VOID = {"meta", "img", "br", "link", "hr"}


def heatmaps(row: int, column: int, magnitude: float) -> Heatmaps:
    """All evidence for the verdict in one place, a little against it in the opposite one."""
    factual, counterfactual = np.zeros((7, 7), np.float32), np.zeros((7, 7), np.float32)
    factual[row, column] = 1
    counterfactual[6 - row, 6 - column] = 0.5
    return Heatmaps(factual, counterfactual, magnitude)


def explanation(magnitude: float = 1.0, verdict: Verdict = "similar") -> Explanation:
    distance = 0.2 if verdict == "similar" else 0.8
    return Explanation(heatmaps(1, 1, magnitude), heatmaps(5, 4, magnitude / 2), distance, verdict, identical=False)


def same() -> Explanation:
    empty = Heatmaps(np.zeros((7, 7), np.float32), np.zeros((7, 7), np.float32), 0.0)
    return Explanation(empty, empty, 0.0001, "similar", identical=True)


def a_hit(rank: int, path: Path, why: Explanation | None, note: str | None = None) -> Hit:
    distance = why.distance if why else 0.3
    verdict = why.verdict if why else "similar"
    return Hit(rank, path, "rooms", 1 - distance, distance, verdict, rank + 3, 0.2, 300, 200, why, note)


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "grey.png"
    Image.new("RGB", (300, 200), (120, 120, 120)).save(path)
    return path


@pytest.fixture
def shown(picture: Path) -> Shown:
    hits = [a_hit(1, picture, same()), a_hit(2, picture, explanation()), a_hit(3, picture, explanation(0.1))]
    return prepare(picture, "query.png", hits)


class Checker(HTMLParser):
    """Every element closed in its order; what a person reads, and the pictures' addresses."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.words: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str, str | None]] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, name, value) for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.words.append(data)

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", "".join(self.words))


@pytest.mark.parametrize(
    ("name", "safe"),
    [
        ("Küche 漢字 (1).jpg", "Küche 漢字 (1).jpg"),
        ("a\nb\x1b[31m\x7f", "a\\x0ab\\x1b[31m\\x7f"),
        ("\udcff\udc80.jpg", "\\xff\\x80.jpg"),
        (b"\xff\n.jpg", "\\xff\\x0a.jpg"),
        (Path("x/\u202egpj.exe"), "x/\\u202egpj.exe"),
        ("\x85\u2028", "\\u0085\\u2028"),
        ("\ud800", "\\ud800"),
        ("👩\u200d🔬.png", "👩\u200d🔬.png"),
    ],
)
def test_names_are_safe_to_show(name: str | bytes | Path, safe: str) -> None:
    assert safe_name(name) == safe
    safe_name(name).encode("utf-8")


@pytest.mark.parametrize(("share", "text"), [(0.7943, "79.4 %"), (0.9998, "99.9 %"), (1.0, "100.0 %"), (0.0, "0.0 %")])
def test_percent(share: float, text: str) -> None:
    assert percent(share) == text


def test_the_scale_is_the_largest_magnitude_of_all_hits(shown: Shown) -> None:
    assert shown.scale == 1.0
    assert [hit.rank for hit in shown.hits] == [1, 2, 3]


def test_faint_evidence_is_drawn_faint(shown: Shown, tmp_path: Path) -> None:
    written = write_overlays(shown, tmp_path / "out")

    def heat(rank: int) -> float:
        files = written[rank].query
        assert files is not None
        with Image.open(files[0]) as image:
            return float(np.asarray(image.convert("HSV"))[..., 1].max())

    assert heat(2) > 150
    assert heat(3) < 0.6 * heat(2)


def test_the_overlay_of_each_picture_has_its_own_hottest_place(shown: Shown, tmp_path: Path) -> None:
    files = write_overlays(shown, tmp_path)[2]
    assert files.query is not None
    assert files.hit is not None
    for path, row, column in (
        (files.query[0], 1, 1),
        (files.query[1], 5, 5),
        (files.hit[0], 5, 4),
        (files.hit[1], 1, 2),
    ):
        with Image.open(path) as image:
            colour = np.asarray(image.convert("HSV").resize((7, 7), Image.Resampling.BOX))[..., 1]
        assert divmod(int(colour.argmax()), 7) == (row, column)


def test_overlays_have_plain_names_and_their_picture_s_proportions(shown: Shown, tmp_path: Path) -> None:
    folder = tmp_path / "new" / "out"
    written = write_overlays(shown, folder)
    names = [f"hit-{rank:02}-{side}-{kind}.jpg" for rank in (2, 3) for side in ("query", "hit") for kind in KINDS]
    assert sorted(path.name for path in folder.iterdir()) == sorted([*names, "contact-sheet.png"])
    assert (written[1].query, written[1].hit) == (None, None)
    with Image.open(folder / names[0]) as image:
        assert image.size == (300, 200)


def test_the_contact_sheet_has_a_row_a_hit(shown: Shown) -> None:
    one, two, three = (contact_sheet(replace(shown, hits=shown.hits[:count])) for count in (1, 2, 3))
    assert one.width == two.width == three.width
    assert three.height - two.height == two.height - one.height > 149  # the pictures' height in cells of 224
    assert three.mode == "RGB"


def test_the_sheet_s_heat_is_where_the_heatmap_has_it(picture: Path) -> None:
    sheet = contact_sheet(prepare(picture, "q", [a_hit(1, picture, explanation())]))
    colour = np.asarray(sheet.convert("HSV"))[220:, :, 1].astype(int)  # below legend and captions
    warm_cell = colour[:, 276:500]  # the second column: the query's factual overlay
    row, column = np.unravel_index(int(warm_cell.argmax()), warm_cell.shape)
    assert 224 / 7 <= column < 2 * 224 / 7
    assert row < warm_cell.shape[0] / 2


def test_a_sheet_of_odd_names_and_shapes_can_be_drawn(tmp_path: Path) -> None:
    strip = tmp_path / "strip.png"
    Image.new("RGB", (9000, 2), "red").save(strip)
    gone = tmp_path / ("\udcff\x1b Ü漢字 " + 60 * "long ")
    hits = [
        a_hit(1, strip, explanation(verdict="different")),
        a_hit(2, gone, None, "cannot be explained: it does not exist " + 40 * "and so on "),
        a_hit(3, gone, explanation()),
        a_hit(4, strip, None),
    ]
    sheet = contact_sheet(prepare(strip, str(gone), hits))
    assert sheet.width == contact_sheet(prepare(strip, "q", [])).width


def test_two_pictures_have_their_own_sheet(picture: Path, tmp_path: Path) -> None:
    files = write_pair(picture, picture, explanation(), tmp_path / "why")
    assert files.query == (tmp_path / "why" / "a-factual.jpg", tmp_path / "why" / "a-counterfactual.jpg")
    assert files.hit == (tmp_path / "why" / "b-factual.jpg", tmp_path / "why" / "b-counterfactual.jpg")
    with Image.open(tmp_path / "why" / "contact-sheet.png") as sheet:
        assert sheet.size == pair_sheet(prepare_pair(picture, "a", picture, "b", explanation())).size
    assert write_pair(picture, picture, same(), tmp_path / "same").hit is None


def test_the_page_is_whole_in_itself(shown: Shown) -> None:
    text = page([shown, shown])
    checked = Checker(text)
    assert not re.search(r"https?:|//[a-z]", re.sub(r"data:image/\w+;base64,[\w+/=]+", "", text))
    assert "script" not in checked.tags
    sources = [value for tag, name, value in checked.attributes if name == "src"]
    assert len(sources) == 2 + 2 * (2 + 6 + 6)  # the legend, and as many for each of two queries
    assert all(value and value.startswith("data:image/") for value in sources)
    assert sum(tag == "img" for tag in checked.tags) == sum(name == "alt" for _, name, _ in checked.attributes)
    assert "default-src 'none'" in text


def test_the_page_says_what_the_sheet_says(shown: Shown) -> None:
    words = Checker(page([shown])).text
    for said in (
        IDENTICAL,
        "80.0 %",
        "similar",
        "for “similar”: strong",
        "for “similar”: faint",
        "rank 5 in the index",
    ):
        assert said in words
    assert "7 × 7 places" in words


def test_the_captions_follow_the_verdict(picture: Path) -> None:
    words = Checker(page([prepare(picture, "q", [a_hit(1, picture, explanation(verdict="different"))])])).text
    assert "for “different”" in words
    assert "against “different”" in words


def test_names_cannot_harm_the_page(picture: Path) -> None:
    evil = '"><img onerror=alert(1)>\udcff'
    hit = replace(a_hit(1, Path(f"/x/{evil}/{evil}"), None, f"note {evil}"), label=evil)
    text = page([prepare(picture, evil, [hit])])
    checked = Checker(text)
    assert not any(name == "onerror" for _, name, _ in checked.attributes)
    assert "<img onerror=alert(1)>\\xff" in checked.text
    text.encode("utf-8")


def test_hits_without_an_explanation_are_listed(picture: Path, tmp_path: Path) -> None:
    hits = [
        a_hit(1, picture, None),
        a_hit(2, tmp_path / "gone.jpg", None, "cannot be explained: it does not exist"),
        a_hit(3, tmp_path / "gone.jpg", explanation()),
    ]
    shown = prepare(picture, "q", hits)
    words = Checker(page([shown])).text
    assert "no explanation" in words
    assert "cannot be explained: it does not exist" in words
    assert "cannot be shown: it does not exist" in words
    assert all(files.hit is None for files in write_overlays(shown, tmp_path / "out").values())


def test_no_hits_are_said(picture: Path, tmp_path: Path) -> None:
    shown = prepare(picture, "q", [])
    assert NO_HITS in Checker(page([shown])).text
    assert write_overlays(shown, tmp_path / "out") == {}
    assert (tmp_path / "out" / "contact-sheet.png").exists()


def test_a_query_that_cannot_be_read_again_still_has_its_page(picture: Path, tmp_path: Path) -> None:
    shown = prepare(tmp_path / "gone.jpg", "gone.jpg", [a_hit(1, picture, explanation())])
    Checker(page([shown]))
    assert contact_sheet(shown).height > 200


def test_what_cannot_be_written_is_one_sentence(shown: Shown, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(RetrievalError, match=r"hit-02-query-factual.jpg cannot be written .* choose a place"):
        write_overlays(shown, tmp_path / "file")

    def full(self: Path, data: bytes) -> int:
        with self.open("wb") as file:
            file.write(data[:10])
        raise OSError(28, "No space left on device")

    old = tmp_path / "page.html"
    old.write_text("an older page")
    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(RetrievalError, match=r"page.html cannot be written \(No space left on device\)"):
        write_page([shown], old)
    assert old.read_text() == "an older page"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "grey.png", "page.html"]
