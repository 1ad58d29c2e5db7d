"""Verifications and correspondences in files, pages, tables and JSON."""

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from retrieval.commands.output.query import hits_table, pair_json, pair_lines
from retrieval.common.jsonable import to_json
from retrieval.common.settings import ExplainOptions, MethodName
from retrieval.explain.explanation import Explanation
from retrieval.explain.pair_explainer import PairExplainer
from retrieval.explain.verification import Support
from retrieval.model.bundle import Bundle
from retrieval.model.encoder import Encoder
from retrieval.rendering.html import render_hits_page
from retrieval.rendering.output_files import write_overlays, write_pair
from retrieval.rendering.presentation import PairFiles, ResultView, build_result_view
from retrieval.rendering.verification_text import describe_support, verification_rows
from tests.support.command import answer, retrieve_here
from tests.support.generated import blocks
from tests.support.hits import a_hit, beside, correspondence, explanation, verification, without_regions
from tests.support.store import Indexed


@pytest.fixture
def checked() -> Explanation:
    return replace(explanation(), verification=verification(), correspondence=correspondence())


@pytest.fixture
def both(picture: Path, checked: Explanation) -> ResultView:
    """Return a query with a hit that was checked and matched, and one that was not."""
    return build_result_view(picture, "query.png", [a_hit(1, picture, checked), a_hit(2, picture, explanation())])


@pytest.mark.parametrize(
    ("factual", "counterfactual", "support"),
    [(True, True, Support.faithful), (True, False, Support.weak), (False, False, Support.not_supported)],
)
def test_the_verdict_on_heatmaps_is_a_sentence(factual: bool, counterfactual: bool, support: Support) -> None:
    sentence = describe_support(verification(factual, counterfactual, 0.615))
    assert sentence.startswith(f"Heatmaps {support}: ")
    assert sentence.endswith(" Fidelity: 61.5 %.")


def test_each_region_has_a_row() -> None:
    found = verification_rows(verification(counterfactual=False), ("A", "B"))
    assert len(found) == 8
    assert found[0] == ("A, factual fifth blurred", "30.0 %", "60.0 %", "yes")
    assert found[7] == ("B, counterfactual fifth filled", "90.0 %", "60.0 %", "no")


def test_a_picture_without_a_heatmap_has_no_row() -> None:
    whole = verification()
    half = replace(whole, hidings={way: replace(check, query=None) for way, check in whole.hidings.items()})
    assert {row[0][0] for row in verification_rows(half, ("A", "B"))} == {"B"}


@pytest.mark.slow
def test_matches_are_written_beside_the_overlays_and_stale_ones_deleted(
    both: ResultView, picture: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "out"
    written = write_overlays(both, folder)
    assert written[1].matches == folder / "hit-01-correspondences.png"
    assert written[2].matches is None
    with Image.open(folder / "hit-01-correspondences.png") as drawn:
        assert len(np.unique(np.asarray(drawn.convert("RGB")).reshape(-1, 3), axis=0)) > 10
    write_overlays(build_result_view(picture, "query.png", [a_hit(1, picture, explanation())]), folder)
    assert not (folder / "hit-01-correspondences.png").exists()
    assert write_pair(picture, picture, both.hits[0].explanation or explanation(), folder).matches is not None
    assert (folder / "correspondences.png").exists()
    write_pair(picture, picture, explanation(), folder)
    assert not (folder / "correspondences.png").exists()


def test_the_page_shows_checks_and_matches_of_hits_that_have_them(both: ResultView) -> None:
    html = render_hits_page([both])
    assert html.count('<details class="checked faithful">') == html.count('class="matches"') == 1
    assert html.index("Heatmaps faithful") < html.index('<div class="pair">')  # above what it is about
    assert "<td>30.0 %</td><td>60.0 %</td><td>yes</td>" in html
    assert "<script" not in html


def test_the_table_has_a_column_only_if_something_was_checked(picture: Path, checked: Explanation) -> None:
    def printed(*hits: Explanation) -> str:
        console = Console(width=250, record=True)
        console.print(hits_table("query", [a_hit(rank, picture, hit) for rank, hit in enumerate(hits, 1)]))
        return console.export_text()

    assert "faithful" in printed(checked, explanation())
    assert re.search(r" 2 of 3 hold *\n", printed(checked, explanation()))
    assert not {"heatmaps", "matches"} & set(printed(explanation()).split())
    assert "heatmaps" in (words := printed(without_regions(), without_regions(verdict="different"), explanation()))
    assert re.search(r"match as wholes *\n.*differ as wholes *\n", words)
    one = replace(without_regions(hit=False), verification=verification(False, False))
    assert re.search(r" not supported, *\n +query as a whole *\n", printed(one))


@pytest.mark.parametrize("width", [40, 72, 80, 100, 120, 200])
def test_no_word_of_a_check_and_no_path_is_cut_in_a_narrow_terminal(width: int) -> None:
    failed = replace(without_regions(hit=False), verification=verification(False, False))
    none = replace(without_regions(verdict="different"), correspondence=replace(correspondence(0), matches=()))
    whys = [replace(explanation(), verification=verification(), correspondence=correspondence()), failed, none]
    console, path = Console(width=width, record=True), Path("gallery/motorcycles/a-long-name-of-a-photograph.jpg")
    hits = [replace(a_hit(rank, path, why), probability=1.0) for rank, why in enumerate(whys, 1)]
    console.print(hits_table("query", hits), crop=False)
    shown = console.export_text()
    assert shown.count("100.0 %") == shown.count(str(path)) == 3
    phrases = ("2 of 3 hold", "not supported, query as a whole", "differ as wholes", "none stands out")
    expected = phrases if width < 120 else ("2 of 3 hold", "not supported,", "differ as wholes", "none stands out")
    assert [each for each in expected if each not in shown] == []
    assert "…" not in shown


def test_a_pair_is_printed_with_its_regions(checked: Explanation) -> None:
    console = Console(width=80, record=True)
    console.print(pair_lines(checked, Path("why")))
    printed = console.export_text()
    assert "correspondences: 2 of 3 hold: why/correspondences.png" in printed
    assert "A, counterfactual fifth blurred   90.0 %            60.0 %      yes" in printed


def test_json_has_every_figure(checked: Explanation, tiny_bundle: Bundle) -> None:
    files = PairFiles(None, None, Path("c.png"))
    found = json.loads(to_json(pair_json(Path("a"), Path("b"), tiny_bundle, checked, files)))["explanation"]
    assert found["method"] == "occlusion"
    assert found["verification"]["support"] == "faithful"
    assert found["verification"]["fidelity"] == 0.7
    assert found["verification"]["hidings"].keys() == {"blurred", "filled"}
    for check in found["verification"]["hidings"].values():
        assert check["support"] == "faithful"
        assert check["hit"]["counterfactual"]["as_claimed"] is True
        assert len(check["query"]["factual"]["random"]) == 8
    assert found["correspondence"]["picture"] == "c.png"
    first, second, third = found["correspondence"]["matches"]
    check = {"margin": 2.0, "deviation": 0.5}
    assert second["checks"] == {"blurred": check}
    assert (second["number"], second["share"], second["query"], second["hit"]) == (2, 0.1, [[1, 1]], [[0, 1]])
    assert (first["holds"], third["holds"]) == (True, False)
    assert np.array(found["correspondence"]["table"]).shape == (49, 49)
    assert found["gradcam"] is None
    assert not found["as_wholes"]


def test_json_has_the_maps_of_both_methods(tiny_bundle: Bundle) -> None:
    why, name = beside(), Path("g.jpg")
    assert why.gradcam is not None
    why = replace(why, gradcam=replace(why.gradcam, verification=verification(False, False)))
    files = PairFiles(None, None, gradcam=PairFiles((name, name), None))
    found = json.loads(to_json(pair_json(Path("a"), Path("b"), tiny_bundle, why, files)))["explanation"]
    for maps, own in ((found, why), (found["gradcam"], why.gradcam)):
        for side in ("query", "hit"):
            heatmaps = getattr(own, side)
            assert maps[side]["magnitude"] == heatmaps.magnitude
            for kind in ("factual", "counterfactual"):
                np.testing.assert_allclose(maps[side]["values"][kind], getattr(heatmaps, kind), atol=5e-5)
    assert (found["query"]["factual"], found["gradcam"]["query"]["factual"]) == (None, "g.jpg")
    assert found["gradcam"]["verification"]["support"] == "not supported"
    assert found["verification"] is None


@pytest.mark.slow
def test_a_pair_explainer_checks_and_matches_on_request(tiny_bundle: Bundle) -> None:
    encoder = Encoder(tiny_bundle, "cpu")
    pictures = [encoder.decode(blocks(seed, 224, 224, cells=6)) for seed in (1, 1, 2)]
    explainer = PairExplainer(encoder, encoder.bundle.head)
    same, other = explainer.explain_query(
        pictures[0],
        pictures[1:],
        np.array([0.1, 0.6]),
        ExplainOptions(MethodName.ensemble, verify=True, correspond=True),
    )
    assert same.identical
    assert same.verification is None
    assert same.correspondence is None
    assert other.verification is not None
    assert other.correspondence is not None
    u = tiny_bundle.head.embed(encoder.activate(pictures).descriptors)
    assert other.correspondence.table.sum() == pytest.approx(float(u[0] @ u[2]), rel=1e-3)
    (plain,) = explainer.explain_query(pictures[0], pictures[2:], np.array([0.6]), ExplainOptions(MethodName.gradcam))
    assert (plain.verification, plain.correspondence, plain.method) == (None, None, MethodName.gradcam)


@pytest.mark.slow
def test_a_larger_picture_has_finer_maps(tiny_bundle: Bundle) -> None:
    encoder = Encoder(tiny_bundle, "cpu")
    found = PairExplainer(encoder, encoder.bundle.head).explain(
        blocks(1, 300, 300), blocks(2, 300, 300), ExplainOptions(MethodName.ensemble, size=320)
    )
    assert found.query.factual.shape == (10, 10)
    assert encoder.at_size(320) is encoder.at_size(320)
    assert encoder.at_size(224) is encoder.at_size(None) is encoder


@pytest.mark.slow
def test_the_commands(indexed: Indexed, tmp_path: Path) -> None:
    options = ["--verify", "--correspond", "--method", "gradcam"]
    found = answer("query", indexed.picture, "--store", indexed.store, "--top", "3", "--out", tmp_path, *options)
    checked = [hit["explanation"]["verification"] for hit in found["hits"]]
    assert checked[0] is None  # the picture itself
    assert {each["support"] for each in checked[1:]} <= set(Support)
    assert Path(found["hits"][1]["explanation"]["correspondence"]["picture"]).exists()
    pair = indexed.gallery / "boats" / "1.png"
    done = retrieve_here("explain", indexed.picture, pair, "--out", tmp_path / "why", *options)
    assert "A, factual fifth blurred" in done.stdout.decode()
    assert retrieve_here("query", indexed.picture, "--method", "none").returncode == 2
