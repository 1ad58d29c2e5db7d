"""A Gaussian process over a picture's cells, fitted to sums over regions: Rasmussen and Williams (2006), chapter 2."""

from dataclasses import dataclass
from functools import cache
from typing import Self

import numpy as np
from numpy.typing import NDArray

CELLS = 28
"""The cells of a map on each side."""

_LENGTH = 3.0  # of the squared exponential kernel, in cells
_NOISE = 0.5  # variance of what no sum over cells explains, as a share of the values' own
_JITTER = 1e-6

Maps = NDArray[np.float64]
"""Values of cells, float64 (..., CELLS, CELLS)."""


def draw_prior(count: int, random: np.random.Generator) -> Maps:
    """Draw smooth random maps (count, CELLS, CELLS) of variance 1."""
    root = np.linalg.cholesky(_kernel() + _JITTER * np.eye(CELLS))
    return np.asarray(root @ random.standard_normal((count, CELLS, CELLS)) @ root.T)


@dataclass(frozen=True)
class Process:
    """The process once R series of values (R, M) are known of M regions, given by their share of each cell.

    A region's value is the sum of its cells' plus noise. The values have mean 0 and variance 1, more or less.
    """

    regions: NDArray[np.floating]  # (M, CELLS, CELLS)
    values: NDArray[np.float64]
    weights: NDArray[np.float64]  # (M, M): from what a map says wrongly of each region to its correction
    spread: float  # the mean variance of the regions' sums under the kernel

    @classmethod
    def fit(cls, regions: NDArray[np.floating], values: NDArray[np.float64]) -> Self:
        covariance = np.einsum("mij,nij->mn", regions, _smooth(regions), optimize=True)
        spread = float(np.trace(covariance)) / len(regions)
        return cls(regions, values, np.linalg.inv(covariance / spread + _NOISE * np.eye(len(regions))), spread)

    def mean(self) -> Maps:
        """Return the expected maps (R, CELLS, CELLS)."""
        return self._correct(self.values)

    def draw(self, count: int, random: np.random.Generator) -> Maps:
        """Draw maps (count, R, CELLS, CELLS) that agree with the values, by Matheron's rule."""
        prior = draw_prior(count, random) / np.sqrt(self.spread)
        noise = np.sqrt(_NOISE) * random.standard_normal((count, len(self.regions)))
        seen = np.einsum("nij,mij->nm", prior, self.regions, optimize=True) + noise
        return np.asarray(prior[:, None] + self._correct(self.values - seen[:, None]))

    def _correct(self, lacking: NDArray[np.float64]) -> Maps:
        """Return the smallest maps whose sums are what is lacking (..., M), as far as it is not noise."""
        return np.asarray(np.tensordot(lacking @ self.weights, _smooth(self.regions) / self.spread, 1))


@cache
def _kernel() -> Maps:
    """Return the kernel along one side; that of two cells is the product of both sides'."""
    places = np.arange(CELLS)
    return np.exp(-((places[:, None] - places) ** 2) / (2 * _LENGTH**2))


def _smooth(maps: NDArray[np.floating]) -> Maps:
    return np.asarray(_kernel() @ maps @ _kernel())
