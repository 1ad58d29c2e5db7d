"""Explanations of two pictures: files that differ where the model does not see are not called identical."""

from pathlib import Path

import pytest
from PIL import Image, ImageDraw

from retrieval.explain.pair_explainer import PairExplainer
from retrieval.model.bundle import Bundle
from retrieval.model.encoder import Encoder
from retrieval.rendering.presentation import IDENTICAL, UNSEEN, missing_evidence
from tests.support.photographs import photograph


@pytest.fixture
def explainer(tiny_bundle: Bundle) -> PairExplainer:
    return PairExplainer(Encoder(tiny_bundle), tiny_bundle.head)


def white_logo(path: Path, box: tuple[int, int, int, int]) -> Path:
    """Save a white shape on nothing: on white nothing of it is seen."""
    image = Image.new("RGBA", (90, 90))
    ImageDraw.Draw(image).rectangle(box, fill="white")
    image.save(path)
    return path


def moving(path: Path, seed: int) -> Path:
    """Save an animation that begins in black."""
    Image.new("RGB", (60, 45)).save(path, save_all=True, append_images=[photograph(seed, 60, 45)] * 2)
    return path


def test_what_is_not_seen_is_not_called_identical(explainer: PairExplainer, tmp_path: Path) -> None:
    logos = [white_logo(tmp_path / f"{side}.png", (5, 5, side, side)) for side in (40, 70)]
    animations = [moving(tmp_path / f"{seed}.gif", seed) for seed in (1, 2)]
    for one, other in (logos, animations):
        for same in (explainer.explain(one, one), explainer.explain(one, one.read_bytes())):
            assert missing_evidence(same, same.query) == IDENTICAL
        unseen = explainer.explain(one, other)
        assert unseen.identical
        assert missing_evidence(unseen, unseen.query) == UNSEEN
