"""The check of hits: shares by hand, and a method beside random heatmaps."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from retrieval.commands.output.faithfulness import _hits_lines
from retrieval.common.settings import MethodName
from retrieval.datasets.class_folders import find_samples
from retrieval.evaluation.heatmaps.hit_checks import BOTH, CheckedHits, _summarise, check_hits
from retrieval.explain.hiding import HIDINGS
from retrieval.model.bundle import Bundle
from retrieval.model.encoder import Encoder
from tests.support.generated import blocks
from tests.support.hits import verification


def test_shares_by_hand() -> None:
    good, part, bad = verification(fidelity=1), verification(True, False, 0.5), verification(False, False, 0)
    found = _summarise([[good, part], [bad, None]], seed=0)
    for way in (*HIDINGS, BOTH):
        assert {kind: share.mean for kind, share in found.support[way].items()} == {
            "faithful": 0.25,
            "weak": 0.25,
            "not supported": 0.25,
        }
    for claims in found.claims.values():
        assert {kind: share.mean for kind, share in claims.items()} == {"factual": 0.5, "counterfactual": 0.25}
    assert found.fidelity.mean == 0.375
    assert found.as_wholes.mean == 0.25
    console = Console(width=80, record=True)
    console.print(*_hits_lines(CheckedHits(2, 4, {"Integrated Grad-CAM": found})), sep="\n")
    printed = console.export_text()
    assert "Integrated Grad-CAM" in printed
    assert "25.0 % of the hits match or differ as wholes" in printed
    assert "…" not in printed


@pytest.mark.slow
def test_the_hits_of_a_query_are_checked_for_each_method(tiny_bundle: Bundle, tmp_path: Path) -> None:
    for label in ("a", "b"):
        (tmp_path / label).mkdir()
        pixels = np.full((224, 224, 3), 120, np.uint8)
        pixels[20:116, 60:156] = blocks(ord(label), 96, 96, cells=8)
        Image.fromarray(pixels).save(tmp_path / label / "0.png")
    found = check_hits(find_samples(tmp_path), Encoder(tiny_bundle, "cpu"), [MethodName.occlusion], 1)
    assert (found.queries, found.hits) == (1, 1)
    occlusion, random = found.methods["Occlusion"], found.methods["Random"]
    for shares in occlusion.support.values():
        assert sum(each.mean for each in shares.values()) + occlusion.as_wholes.mean == pytest.approx(1)
    assert occlusion.fidelity.mean > random.fidelity.mean
