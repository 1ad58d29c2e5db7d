"""The process against the formulas written out, and against Banzhaf values."""

import numpy as np
import pytest

from retrieval.explain.methods import gaussian_process
from retrieval.explain.methods.gaussian_process import CELLS, Process, draw_prior

RANDOM = np.random.default_rng(0)
REGIONS = (draw_prior(20, RANDOM) > 1).astype(float)
VALUES = RANDOM.standard_normal((2, 20))


def kernel() -> np.ndarray:
    """Return the covariance of all pairs of cells."""
    places = np.stack(np.divmod(np.arange(CELLS**2), CELLS), 1)
    squares = ((places[:, None] - places) ** 2).sum(2)
    return np.asarray(np.exp(-squares / (2 * 3.0**2)))


def test_the_mean_is_that_of_the_formula() -> None:
    flat = REGIONS.reshape(20, -1)
    covariance = flat @ kernel() @ flat.T
    spread = covariance.diagonal().mean()
    noisy = covariance / spread + 0.5 * np.eye(20)
    expected = (kernel() @ flat.T / spread) @ np.linalg.solve(noisy, VALUES.T)
    np.testing.assert_allclose(Process.fit(REGIONS, VALUES).mean().reshape(2, -1).T, expected, atol=1e-9)


def test_draws_scatter_around_the_mean_and_less_than_before_anything_was_known() -> None:
    process = Process.fit(REGIONS, VALUES)
    drawn = process.draw(4000, np.random.default_rng(1))
    prior = draw_prior(4000, np.random.default_rng(1)) / np.sqrt(process.spread)
    np.testing.assert_allclose(drawn.mean(0), process.mean(), atol=6 * prior.std(0).max() / np.sqrt(4000))
    sums, before = (np.einsum("n...ij,ij->n...", each, REGIONS[0]).std(0) for each in (drawn, prior))
    assert (sums < 0.8 * before).all()


def test_draws_vary_together_as_far_as_the_kernel_says() -> None:
    drawn = draw_prior(4000, np.random.default_rng(2))
    near, far = (np.corrcoef(drawn[:, 10, 10], drawn[:, 10, 10 + apart])[0, 1] for apart in (3, 15))
    assert near == pytest.approx(np.exp(-0.5), abs=0.05)
    assert far == pytest.approx(0, abs=0.06)


def test_without_noise_and_with_all_unions_of_four_quarters_it_finds_banzhaf_values(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shapiq = pytest.importorskip("shapiq")
    monkeypatch.setattr(gaussian_process, "_NOISE", 1e-6)
    quarters = np.zeros((4, CELLS, CELLS))
    for number, quarter in enumerate(quarters):
        row, column = divmod(number, 2)
        quarter[14 * row : 14 * row + 14, 14 * column : 14 * column + 14] = 1
    unions = np.array([[member >> player & 1 for player in range(4)] for member in range(16)], bool)
    worth = np.random.default_rng(3).standard_normal(16)  # not additive
    fitted = Process.fit(np.einsum("mp,pij->mij", unions - 0.5, quarters), (worth - worth.mean())[None]).mean()[0]
    sums = np.einsum("pij,ij->p", quarters, fitted)
    lookup = {tuple(union): value for union, value in zip(unions.tolist(), worth, strict=True)}
    computer = shapiq.ExactComputer(lambda masks: np.array([lookup[tuple(mask)] for mask in masks.tolist()]), 4)
    banzhaf = computer("BV", order=1)
    np.testing.assert_allclose(sums, [banzhaf[(player,)] for player in range(4)], atol=1e-3)
