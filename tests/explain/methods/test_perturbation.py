"""SBSM against the public xaitk-saliency package."""

from collections.abc import Sequence
from itertools import product

import numpy as np
import pytest

from retrieval.explain.methods.gradcam import PairInputs, PixelAccess
from retrieval.explain.methods.perturbation import sbsm
from retrieval.model.head import Array, Head
from retrieval.model.preprocessing import Pixels
from tests.support.generated import blocks

SIZE = 32  # as many pixels as the map has cells
STARTS = range(0, 25, 3)  # of windows with a side of 8
HEAD = Head(np.eye(3, dtype=np.float32), np.zeros(3, np.float32), slope=2.0, intercept=0.0, normalize=False)


def contrasts(pictures: Sequence[Pixels]) -> Array:
    """Return the contrast of three parts of each picture: blurring makes it less, or leaves it."""
    parts = (np.s_[:10, :], np.s_[10:24, 16:], np.s_[20:, :12])
    return np.array([[each[part].astype(np.float32).std() / 64 for part in parts] for each in pictures], np.float32)


def test_sbsm_is_that_of_the_package() -> None:
    scoring = pytest.importorskip("xaitk_saliency.impls.gen_descriptor_sim_sal.similarity_scoring")
    picture = blocks(3, SIZE, SIZE, cells=8)
    hidden: list[Pixels] = []

    def describe(pictures: Sequence[Pixels]) -> Array:
        hidden.extend(pictures)
        return contrasts(list(np.rint(pictures).astype(np.uint8)))

    own = contrasts([picture])
    other = own + np.float32(1)  # so that less contrast is always further away
    access = PixelAccess([picture], (0.0, 0.0, 0.0), describe)
    activations = np.ones((1, 3, 7, 7), np.float32)
    raises, lowers = sbsm(PairInputs(HEAD, activations, own, other, access))
    assert not raises.any()
    masks = np.ones((81, SIZE, SIZE))
    for mask, (row, column) in zip(masks, product(STARTS, STARTS), strict=True):
        mask[row : row + 8, column : column + 8] = 0
    windows = contrasts(list(np.rint(hidden[1:]).astype(np.uint8)))
    theirs = scoring.SimilarityScoring().generate(own[0], other, windows, masks)[0]
    np.testing.assert_allclose(lowers[0] / lowers.max(), theirs, atol=1e-4)
