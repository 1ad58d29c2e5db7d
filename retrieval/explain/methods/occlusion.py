"""Occlusion: regions are really hidden, the network says what that changes, and a map is fitted to its answers.

In a first round random regions are hidden, each in one of three ways, and a Gaussian process over the picture's cells
is fitted to the changes of the log-odds. In a second round candidates compete: the highest and the lowest fifths of
maps drawn from that process. All are hidden in the first way, the best also in the second, the best of these also in
the third. The map is fitted to all answers; its highest fifth is the best candidate for that, as is its lowest.
"""

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from itertools import cycle, repeat

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from threadpoolctl import threadpool_limits

from retrieval.explain.hiding import HIDDEN_SHARE, PixelMask, blur, cover_with_mean, cover_with_noise, hide, top_mask
from retrieval.explain.methods.gaussian_process import CELLS, Maps, Process, draw_prior
from retrieval.explain.methods.gradcam import PairInputs, PixelAccess, require_pixels, split_signs
from retrieval.model.head import TINY, Array, Head
from retrieval.model.preprocessing import Pixels

_FIRST_REGIONS = 36  # of the first round: a third of them is hidden in each way
_MAPS = 20  # drawn for a picture with one pair; each gives a candidate for the highest region and one for the lowest
_FEWEST_MAPS = 6  # drawn for each pair of a picture with several, which share their candidates
_BEST = (6, 3)  # candidates of either kind that are also hidden in the second way, and in the third
_PICTURES_AT_ONCE = 2  # so that the network works for one while the other's answers are weighed
_HIDINGS = (blur, cover_with_mean, cover_with_noise)
_CHANCE = 1.0  # standard errors by which candidates for the highest region must surpass those for the lowest

Values = NDArray[np.float64]


def occlusion(pairs: PairInputs) -> Array:
    """Find the regions whose hiding lowers the log-odds most, and those whose hiding lowers them least or raises them.

    A cell's value is its part in what hiding a region takes from the log-odds beyond what hiding as much elsewhere
    does. The hidden versions of a picture are described once for all its pairs: about a hundred forward passes a
    picture. A picture in which no region matters beyond chance has an empty map. float32 (2, N, 28, 28).
    """
    access, (firsts, which) = require_pixels(pairs), pairs.distinct
    maps = np.empty((len(pairs.own), CELLS, CELLS), np.float32)

    def find_out(number: int) -> None:
        picture, rows = access.pixels[firsts[number]], np.flatnonzero(which == number)
        covered = [hiding(picture) for hiding in _HIDINGS]
        maps[rows] = _find_out(_Witness(pairs.head, access, picture, covered, pairs.head.embed(pairs.other[rows])))

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


def _find_out(witness: _Witness) -> Maps:
    """Run both rounds on one picture; return a map (R, CELLS, CELLS) for each pair."""
    size, pairs, ways = len(witness.picture), np.arange(len(witness.others)), len(_HIDINGS)
    first = _first_regions(size)
    answers = witness.ask(first, cycle(range(ways))).reshape(len(pairs), -1, ways)
    mean, deviation = answers.mean(1), np.maximum(answers.std(1), TINY)  # (R, ways)
    values = ((answers - mean[:, None]) / deviation[:, None]).reshape(len(pairs), -1)
    regions = _to_cells(first)

    drawn = _draw_maps(Process.fit(regions, values))
    candidates = [region for each in drawn for region in _extreme_fifths(each, size)]
    cells = _to_cells(candidates)
    scores, alive = np.zeros((len(pairs), len(candidates))), np.arange(len(candidates))
    for way, best in enumerate((len(candidates), *_BEST)):
        ranked = alive[np.argsort(scores[:, alive], axis=1)]
        alive = np.unique(np.concatenate([ranked[:, :best], ranked[:, -best:]], axis=1))
        answers = witness.ask([candidates[each] for each in alive], repeat(way))
        changes = (answers - mean[:, way, None]) / deviation[:, way, None]
        values, regions = np.concatenate([values, changes], axis=1), np.concatenate([regions, cells[alive]])
        scores[:, alive] += changes / ways
        if way == 0:
            matters = _surpass_chance(scores)

    fitted = Process.fit(regions, values).mean()
    likely = scores[:, alive] + np.einsum("rij,mij->rm", fitted, cells[alive])  # one tempers the other's chance
    highest, lowest = alive[likely.argmax(1)], alive[likely.argmin(1)]
    measured = scores[pairs, highest] - scores[pairs, lowest]
    maps = [_settle(*each) for each in zip(fitted, cells[highest], cells[lowest], measured, strict=True)]
    return np.asarray(np.stack(maps) * (deviation.mean(1) * matters)[:, None, None])


def _draw_maps(process: Process) -> Maps:
    """Return the expected maps of R pairs and others that may be true, halfway to the expected, (R * maps, h, w)."""
    expected = process.mean()
    count = max(_FEWEST_MAPS, _MAPS // len(expected))
    drawn = process.draw(count - 1, np.random.default_rng(0))
    return np.concatenate([expected[None], (expected + drawn) / 2]).swapaxes(0, 1).reshape(-1, CELLS, CELLS)


def _surpass_chance(scores: Values) -> NDArray[np.bool_]:
    """Return for each pair (R,) whether its own candidates for the highest region surpass those for the lowest."""
    pairs = np.arange(len(scores))
    high, low = np.moveaxis(scores.reshape(len(pairs), len(pairs), -1, 2)[pairs, pairs], 2, 0)
    error = np.sqrt((high.var(1, ddof=1) + low.var(1, ddof=1)) / high.shape[1])
    return np.asarray(high.mean(1) - low.mean(1) > _CHANCE * error)


def _settle(fitted: Maps, high: Maps, low: Maps, measured: float) -> Maps:
    """Return a fitted map with the best regions (CELLS, CELLS) as its highest and lowest fifths.

    It is scaled to what was measured: how much more is lost if the one is hidden than if the other is.
    """
    settled = fitted / max(float(np.abs(fitted).max()), TINY) + high - low
    contrast = float((settled * (high - low)).sum())  # 0 if no candidate is better than another
    return np.asarray(settled * (max(measured, 0.0) / max(contrast, TINY)))


@lru_cache(4)
def _first_regions(size: int) -> list[PixelMask]:
    """Return the random regions of the first round, masks (size, size)."""
    return [_extreme_fifths(each, size)[0] for each in draw_prior(_FIRST_REGIONS, np.random.default_rng(0))]


def _extreme_fifths(map_: Maps, size: int) -> list[PixelMask]:
    """Return the masks (size, size) of a map's highest fifth and of its lowest."""
    high, low = split_signs(np.asarray(map_, np.float32))
    return [top_mask(high, low, size, HIDDEN_SHARE), top_mask(low, high, size, HIDDEN_SHARE)]


def _to_cells(masks: Sequence[PixelMask]) -> Maps:
    """Return the share of each cell that masks (M, size, size) cover, (M, CELLS, CELLS)."""
    side = (CELLS, CELLS)
    return (
        np.array([Image.fromarray(np.uint8(255) * mask).resize(side, Image.Resampling.BOX) for mask in masks]) / 255.0
    )
