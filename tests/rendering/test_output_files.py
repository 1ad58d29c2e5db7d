"""Output files: overlays, the contact sheet and the page, each written whole or not at all."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from retrieval.common.atomic_files import write_atomically
from retrieval.common.errors import RetrievalError
from retrieval.common.output_names import is_output
from retrieval.explain.illustrated import HEATMAP_KINDS
from retrieval.rendering.contact_sheet import draw_pair_sheet
from retrieval.rendering.output_files import write_overlays, write_pair
from retrieval.rendering.presentation import ResultView, build_pair_view, build_result_view
from tests.support.hits import a_hit, beside, explanation, same


def test_faint_evidence_is_drawn_faint(shown: ResultView, tmp_path: Path) -> None:
    written = write_overlays(shown, tmp_path / "out")

    def heat(rank: int) -> float:
        files = written[rank].query
        assert files is not None
        with Image.open(files[0]) as image:
            return float(np.asarray(image.convert("HSV"))[..., 1].max())

    assert heat(2) > 150
    assert heat(3) < 0.6 * heat(2)


def test_the_overlay_of_each_picture_has_its_own_hottest_place(shown: ResultView, tmp_path: Path) -> None:
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


def test_overlays_have_plain_names_and_their_picture_s_proportions(shown: ResultView, tmp_path: Path) -> None:
    folder = tmp_path / "new" / "out"
    written = write_overlays(shown, folder)
    names = [
        f"hit-{rank:02}-{side}-{kind}.jpg" for rank in (2, 3) for side in ("query", "hit") for kind in HEATMAP_KINDS
    ]
    assert sorted(path.name for path in folder.iterdir()) == sorted([*names, "contact-sheet.png"])
    assert (written[1].query, written[1].hit) == (None, None)
    with Image.open(folder / names[0]) as image:
        assert image.size == (300, 200)


def test_grad_cam_s_overlays_lie_beside_and_stale_ones_are_deleted(picture: Path, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    written = write_overlays(build_result_view(picture, "q", [a_hit(1, picture, beside())]), folder)[1]
    names = [(side, kind) for side in ("query", "hit") for kind in HEATMAP_KINDS]
    both = [f"hit-01-{side}-{part}{kind}.jpg" for part in ("", "gradcam-") for side, kind in names]
    assert [path.name for path in written.paths] == both
    assert {path.name for path in folder.iterdir()} == {*both, "contact-sheet.png"}
    assert all(map(is_output, both))
    assert written.gradcam is not None
    assert written.gradcam.query is not None
    with Image.open(written.gradcam.query[0]) as image:
        colour = np.asarray(image.convert("HSV").resize((7, 7), Image.Resampling.BOX))[..., 1]
    assert divmod(int(colour.argmax()), 7) == (1, 4)
    write_overlays(build_result_view(picture, "q", [a_hit(1, picture, explanation())]), folder)
    assert {path.name for path in folder.iterdir()} == {*both[:4], "contact-sheet.png"}
    pair = write_pair(picture, picture, beside(), folder).paths
    assert [path.name for path in pair[4:]] == [f"{side}-gradcam-{kind}.jpg" for side in "ab" for kind in HEATMAP_KINDS]
    write_pair(picture, picture, same(), folder)
    assert not any(path.exists() for path in pair)


def test_hits_that_cannot_be_drawn_have_no_overlays(picture: Path, tmp_path: Path) -> None:
    hits = [a_hit(1, picture, None), a_hit(2, tmp_path / "gone.jpg", explanation())]
    written = write_overlays(build_result_view(picture, "q", hits), tmp_path / "out")
    assert [written[rank].hit for rank in (1, 2)] == [None, None]
    assert written[1].query is None
    assert written[2].query is not None


def test_a_query_without_hits_has_a_sheet(picture: Path, tmp_path: Path) -> None:
    assert write_overlays(build_result_view(picture, "q", []), tmp_path / "out") == {}
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["contact-sheet.png"]


def test_two_pictures_have_their_own_sheet(picture: Path, tmp_path: Path) -> None:
    files = write_pair(picture, picture, explanation(), tmp_path / "why")
    assert files.query == (tmp_path / "why" / "a-factual.jpg", tmp_path / "why" / "a-counterfactual.jpg")
    assert files.hit == (tmp_path / "why" / "b-factual.jpg", tmp_path / "why" / "b-counterfactual.jpg")
    with Image.open(tmp_path / "why" / "contact-sheet.png") as sheet:
        assert sheet.size == draw_pair_sheet(build_pair_view(picture, "a", picture, "b", explanation())).size
    assert write_pair(picture, picture, same(), tmp_path / "same").hit is None


def test_an_error_of_writing_is_one_sentence(
    shown: ResultView, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
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
        write_atomically(old, "a newer page")
    assert old.read_text() == "an older page"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "grey.png", "page.html"]


def test_overlays_of_an_earlier_longer_query_are_deleted(shown: ResultView, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    write_overlays(shown, folder)
    others = {"hit-03-query-factual.jpeg", "hit-3-query-factual.jpg", "my hit-03-query-factual.jpg", "b-factual.jpg"}
    for name in others:
        (folder / name).touch()
    write_overlays(replace(shown, hits=shown.hits[:2]), folder)
    names = {f"hit-02-{side}-{kind}.jpg" for side in ("query", "hit") for kind in HEATMAP_KINDS}
    assert {path.name for path in folder.iterdir()} == names | others | {"contact-sheet.png"}
    write_overlays(replace(shown, hits=(replace(shown.hits[0], rank=2),)), folder)  # identical: nothing to draw
    assert {path.name for path in folder.iterdir()} == others | {"contact-sheet.png"}


def test_overlays_of_an_earlier_pair_are_deleted(picture: Path, tmp_path: Path) -> None:
    write_pair(picture, picture, explanation(), tmp_path / "why")
    (tmp_path / "why" / "hit-01-hit-factual.jpg").touch()
    write_pair(picture, picture, same(), tmp_path / "why")
    assert sorted(path.name for path in (tmp_path / "why").iterdir()) == ["contact-sheet.png", "hit-01-hit-factual.jpg"]
