"""Occlusion: regions are really hidden, the network says what that changes, and a map is fitted to its answers.

In a first round random regions are hidden, each in one of three ways, and a Gaussian process over the picture's cells
is fitted to the changes of the log-odds. In each further round candidates are hidden in the first way: the highest and
the lowest fifths of maps drawn from the process as it is then. The best candidates of all rounds are hidden also in
the second way, the best of these also in the third. The best candidates by all answers become the map's highest and
lowest fifths, within which Integrated Grad-CAM says where.
"""

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import cycle, repeat
from typing import Self

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from PIL import Image
from threadpoolctl import threadpool_limits

from retrieval.explain.hiding import (
    PixelMask,
    blur,
    cover_cells,
    cover_with_mean,
    cover_with_noise,
    draw_regions,
    extreme_fifths,
    hide,
)
from retrieval.explain.methods.cam_variants import integrated_cam
from retrieval.explain.methods.gaussian_process import CELLS, Maps, Process
from retrieval.explain.methods.gradcam import PairInputs, PixelAccess, require_pixels, split_signs
from retrieval.model.head import TINY, Array, Head
from retrieval.model.preprocessing import Pixels

_FIRST_REGIONS = 45  # of the first round: a third of them is hidden in each way
_MAPS = (7, 7, 6)  # of each further round; each gives a candidate for the highest region and one for the lowest
_MAPS_IF_SHARED = 2  # of each pair, if a picture has several pairs, which share their candidates
_BEST = (6, 3)  # candidates of either kind that are also hidden in the second way, and in the third
_PICTURES_AT_ONCE = 2  # so that the network works for one while the other's answers are weighed
_SEED = 0
_SHAPE = (CELLS, CELLS)
_HIDINGS = (blur, cover_with_mean, cover_with_noise)
_FLOOR = 0.003  # the least evidence within the best regions, beside the most there
_LEAST_SUM = 5  # of the evidence within a region, beside the most in the picture by the closed form
_SPREAD = 32.0  # the usual sum of a region's evidence, beside the most there: so that sums are log-odds
_REST = 0.1  # the most evidence elsewhere, beside that
_CHANCE = 2.0  # standard errors by which candidates for the highest region must surpass those for the lowest

Values = NDArray[np.float64]


def occlusion(pairs: PairInputs) -> Array:
    """Find the regions whose hiding lowers the log-odds most, and those whose hiding lowers them least or raises them.

    A cell's value is its part in what hiding a region takes from the log-odds beyond what hiding as much elsewhere
    does. The hidden versions of a picture are described once for all its pairs: about a hundred forward passes a
    picture. A picture in which no region matters beyond chance has an empty map. float32 (2, N, 28, 28).
    """
    access, (firsts, which) = require_pixels(pairs), pairs.distinct
    maps = np.empty((len(pairs.own), CELLS, CELLS), np.float32)
    closed_form = _enlarge(integrated_cam(pairs))

    def find_out(number: int) -> None:
        picture, rows = access.pixels[firsts[number]], np.flatnonzero(which == number)
        covered = [hiding(picture) for hiding in _HIDINGS]
        witness = _Witness(pairs.head, access, picture, covered, pairs.head.embed(pairs.other[rows]))
        maps[rows] = _find_out(witness, closed_form[:, rows])

    # Threads of the matrix products would wait for the next one by spinning, and keep the network from the cores.
    with threadpool_limits(1, "blas"), ThreadPoolExecutor(_PICTURES_AT_ONCE) as threads:
        list(threads.map(find_out, range(len(firsts))))
    return split_signs(maps)


@dataclass(frozen=True)
class _Witness:
    """Says what hiding regions of one picture takes from its log-odds against R others, by their embeddings (R, E)."""

    head: Head
    access: PixelAccess
    picture: Pixels
    covered: Sequence[Pixels]  # the picture hidden in each way
    others: Array

    def ask(self, regions: Iterable[PixelMask], ways: Iterable[int]) -> Values:
        """Return minus the log-odds (R, M) with each region hidden in one of the ways, but for a constant."""
        hidden = [hide(self.picture, self.covered[way], region) for region, way in zip(regions, ways, strict=False)]
        u = self.head.embed(self.access.describe(hidden))
        return np.asarray(-self.head.slope * self.head.separation(self.others[:, None], u[None]))


@dataclass
class _Search:
    """The regions hidden so far, and a process fitted to their changes: of each way to hide, mean 0 and variance 1.

    The mean and the deviation (R, ways) of the answers are those of the first round.
    """

    witness: _Witness
    mean: Values
    deviation: Values
    process: Process

    @classmethod
    def begin(cls, witness: _Witness) -> Self:
        """Run the first round."""
        ways = len(_HIDINGS)
        regions = draw_regions(_FIRST_REGIONS, len(witness.picture), _SEED)
        answers = witness.ask(regions, cycle(range(ways))).reshape(len(witness.others), -1, ways)
        mean, deviation = answers.mean(1), np.maximum(answers.std(1), TINY)
        changes = (answers - mean[:, None]) / deviation[:, None]
        process = Process.fit(cover_cells(regions, _SHAPE), changes.reshape(len(changes), -1))
        return cls(witness, mean, deviation, process)

    def hide(self, regions: Sequence[PixelMask], way: int) -> Values:
        """Return the changes (R, M) by hiding regions in one way, having fitted the process to them too."""
        changes = (self.witness.ask(regions, repeat(way)) - self.mean[:, way, None]) / self.deviation[:, way, None]
        cells, values = self.process.regions, self.process.values
        self.process = Process.fit(
            np.concatenate([cells, cover_cells(regions, _SHAPE)]), np.concatenate([values, changes], axis=1)
        )
        return np.asarray(changes)

    def foretell(self, cells: NDArray[np.floating]) -> Values:
        """Return what is expected of regions (R, M), given by their share of each cell."""
        return np.asarray(np.einsum("rij,mij->rm", self.process.mean(), cells))

    def draw_candidates(self, count: int, random: np.random.Generator) -> list[PixelMask]:
        """Return for each pair the highest and the lowest fifths of its expected map and others that may be true."""
        expected = self.process.mean()
        drawn = self.process.draw(count - 1, random)
        maps = np.concatenate([expected[None], (expected + drawn) / 2]).swapaxes(0, 1).reshape(-1, *_SHAPE)
        return [region for each in maps for region in extreme_fifths(each, len(self.witness.picture))]


def _enlarge(maps: Array) -> Array:
    """Interpolate maps (2, N, h, w) to (2, N, CELLS, CELLS)."""
    large = np.empty((*maps.shape[:2], CELLS, CELLS), np.float32)
    for place in np.ndindex(*maps.shape[:2]):
        large[place] = Image.fromarray(maps[place]).resize(_SHAPE, Image.Resampling.BILINEAR)
    return large


def _find_out(witness: _Witness, closed_form: Array) -> Maps:
    """Return a map (R, CELLS, CELLS) of one picture for each pair, by the maps (2, R, CELLS, CELLS) in closed form."""
    pairs, ways, random = np.arange(len(witness.others)), len(_HIDINGS), np.random.default_rng(_SEED + 1)
    search = _Search.begin(witness)
    candidates: list[PixelMask] = []
    found, own = [], []
    for count in _MAPS:
        regions = search.draw_candidates(count if len(pairs) == 1 else _MAPS_IF_SHARED, random)
        changes = search.hide(regions, 0)
        candidates += regions
        found.append(changes / ways)
        own.append(changes.reshape(len(pairs), len(pairs), -1, 2)[pairs, pairs])

    scores, alive = np.concatenate(found, axis=1), np.arange(len(candidates))
    cells = search.process.regions[-len(candidates) :]  # what was hidden last
    for way, best in enumerate(_BEST, 1):
        ranked = alive[np.argsort((scores + search.foretell(cells))[:, alive], axis=1)]
        alive = np.unique(np.concatenate([ranked[:, :best], ranked[:, -best:]], axis=1))
        scores[:, alive] += search.hide([candidates[each] for each in alive], way) / ways

    likely = (scores + search.foretell(cells))[:, alive]  # what was measured and what was foretold temper each other
    highest, lowest = alive[likely.argmax(1)], alive[likely.argmin(1)]
    measured = np.stack([scores[pairs, highest], -scores[pairs, lowest]], axis=1)
    chosen = np.stack([cells[highest], cells[lowest]], axis=1)
    fitted, closed_form = search.process.mean(), closed_form.swapaxes(0, 1)
    maps = [_settle(fitted[pair], chosen[pair], closed_form[pair], measured[pair]) for pair in pairs]
    matters = _surpass_chance(np.concatenate(own, axis=1))
    return np.asarray(np.stack(maps) * (search.deviation.mean(1) * matters)[:, None, None])


def _surpass_chance(changes: Values) -> NDArray[np.bool_]:
    """Return whether hiding a pair's candidates for the highest region changes more than for the lowest, (R, M, 2)."""
    high, low = np.moveaxis(changes, 2, 0)
    error = np.sqrt((high.var(1, ddof=1) + low.var(1, ddof=1)) / high.shape[1])
    return np.asarray(high.mean(1) - low.mean(1) > _CHANCE * error)


def _settle(fitted: Maps, regions: NDArray[np.floating], closed_form: Array, measured: Values) -> Array:
    """Return a map (CELLS, CELLS) with the best regions (2, CELLS, CELLS) as its highest and its lowest fifths.

    Within them, the maps in closed form (2, CELLS, CELLS) say where, as far as they have evidence there. The most is in
    proportion to what was `measured` (2,) of hiding them. Beyond them, both maps together order what is left.
    """
    padded = np.pad(regions, ((0, 0), (1, 1), (1, 1)), mode="edge")
    inner = sliding_window_view(padded, (3, 3), (1, 2)).min((3, 4))  # else strong cells spread beyond the edge
    inside = inner * _scale(closed_form)
    lacking = (_LEAST_SUM - inside.sum((1, 2))) / np.maximum(regions.sum((1, 2)), 1)
    floor = np.maximum(lacking, _FLOOR)[:, None, None]
    order = _standardise(fitted) + _standardise(closed_form[0] - closed_form[1])
    rest = _REST * _FLOOR * _scale(split_signs(np.asarray(order, np.float32)))
    parts = _scale(floor * regions + inside) + rest
    high, low = parts * (np.maximum(measured, TINY) / _SPREAD)[:, None, None]
    return np.asarray(high - low)


def _standardise(map_: NDArray[np.floating]) -> NDArray[np.floating]:
    """Bring a map to mean 0 and deviation 1."""
    return np.asarray((map_ - map_.mean()) / max(float(map_.std()), TINY))


def _scale(maps: Array) -> Array:
    """Scale maps (..., h, w), at least 0, to a maximum of 1 each."""
    return np.asarray(maps / np.maximum(maps.max((-2, -1), keepdims=True), TINY))
