"""Correspondences: the inner product of two pictures' embeddings, cell by cell, and the regions that match."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from retrieval.explain.hiding import HIDINGS, PixelMask
from retrieval.explain.methods.gradcam import PairInputs
from retrieval.model.head import TINY, Array, Head
from retrieval.model.preprocessing import Pixels

_MAX_MATCHES = 5  # nobody can follow more than a handful of coloured regions
_SIDE = 2 / 7  # of a region, as a share of the grid's side
_DEVIATIONS = 2.0  # by which a match has to surpass the pairings of regions that do not match
_FEWEST = 4  # matches, so that there are enough such pairings

GridCell = tuple[int, int]
Cells = frozenset[GridCell]
"""Cells of a heatmap's grid, by row and column."""

_Region = tuple[int, Cells]  # of the picture with this number


@dataclass(frozen=True)
class MatchCheck:
    """How much less hiding one region of a match takes from the log-odds of "similar" if the other is hidden already.

    `margin` is by how much that exceeds the same for pairings of regions that do not match, whose standard deviation
    is `deviation`.
    """

    margin: float
    deviation: float

    @property
    def holds(self) -> bool:
        """Whether it exceeds them by two standard deviations."""
        return self.margin > _DEVIATIONS * self.deviation


@dataclass(frozen=True)
class Match:
    """A region of the first picture and the region that matches it in the second, of the same size.

    `share` is their share of the similarity: the sum over their pairs of cells, divided by that of the whole table.
    `checks` are those by each way of hiding; there are none if there were too few matches to compare.
    """

    first: Cells
    second: Cells
    share: float
    checks: Mapping[str, MatchCheck] = field(default_factory=dict)

    @property
    def holds(self) -> bool:
        """Whether the match holds however it is hidden."""
        return bool(self.checks) and all(check.holds for check in self.checks.values())


@dataclass(frozen=True)
class Correspondence:
    """How much each pair of cells of two pictures contributes to the inner product of their embeddings.

    `table` is float32 (h1 * w1, h2 * w2), its sum u1 . u2; `shape` and `other_shape` are (h1, w1) and (h2, w2).
    `matches` are at most five: first those that hold, and of either the one that stands out most. Only those that hold
    are drawn.
    """

    table: Array
    shape: tuple[int, int]
    other_shape: tuple[int, int]
    matches: tuple[Match, ...]

    @property
    def held(self) -> int:
        """The number of matches that hold."""
        return sum(match.holds for match in self.matches)


def correspond(side: PairInputs, other: PairInputs, rows: Sequence[int]) -> list[Correspondence]:
    """Return the correspondences of these pairs: `side` has first pictures against second, `other` the reverse.

    With the ReLU's mask m fixed, an embedding is a sum over cells, as is all that comes before it: with Z cells,
    x_k(p) = A_k(p) / Z, or (A_k(p) + shift) / (Z f(g_k)) if the head takes the root, and
    e(p) = m * (W x(p) + c / Z). So e1 . e2 is a sum over pairs of cells, and the table is each pair's e1(p) . e2(q),
    divided by the lengths of both embeddings if the head scales them to unit length.
    """
    shape, other_shape = ((height, width) for *_, height, width in (each.activations.shape for each in (side, other)))
    embedded = [_embed_cells(each, rows) for each in (side, other)]
    correspondences = []
    for first, second in zip(*embedded, strict=True):
        lengths = (np.linalg.norm(each.sum(0)) for each in (first, second))
        scale = math.prod(map(float, lengths)) if side.head.normalize else 1.0
        table = np.asarray(first @ second.T / max(scale, TINY), np.float32)
        correspondences.append(Correspondence(table, shape, other_shape, find_matches(table, shape, other_shape)))
    return correspondences


def _embed_cells(side: PairInputs, rows: Sequence[int]) -> list[Array]:
    """Return what each cell of these pictures contributes to their embeddings, float32 (Z, E), once per picture."""
    firsts, pictures = side.distinct
    of_rows = pictures[list(rows)].tolist()
    embedded = {picture: _embed_cells_of(side, int(firsts[picture])) for picture in dict.fromkeys(of_rows)}
    return [embedded[picture] for picture in of_rows]


def _embed_cells_of(side: PairInputs, row: int) -> Array:
    """Return what each cell contributes to the embedding: float32 (Z, E)."""
    head, g = side.head, side.own[row]
    activations = side.activations[row].reshape(len(g), -1).T  # (Z, C)
    count = np.float32(len(activations))
    shares = activations / count  # of f(g)
    if head.shift is not None:  # in proportion to the cell's part of g + shift
        whole = head.apply_root(g)
        shares = np.divide(activations + head.shift, count * whole, out=np.zeros_like(shares), where=whole > 0)
    embedded = shares @ head.weight.T + head.bias / count
    return np.asarray(embedded * (head.project(g) > 0), np.float32)


def double_centre(table: NDArray[np.floating]) -> Array:
    """Return what each pair contributes beyond the averages of its row and its column: float32, of the same shape."""
    return np.asarray(table - table.mean(0) - table.mean(1, keepdims=True) + table.mean(), np.float32)


def find_matches(table: Array, shape: tuple[int, int], other_shape: tuple[int, int]) -> tuple[Match, ...]:
    """Return the pairs of regions that stand out of a table (h1 * w1, h2 * w2); they are not checked.

    A region is a window of two sevenths of the grid's sides, and no cell is in two. Cells that go with everything, such
    as the brightest, are strong in every row; so pairs are compared by how far they stand out.
    """
    windows, others = _windows(shape), _windows(other_shape)
    sums, total = windows @ table @ others.T, float(table.sum())
    left = double_centre(sums)
    matches: list[Match] = []
    while len(matches) < _MAX_MATCHES and total > 0 and left.max() > 0:
        first, second = np.unravel_index(np.argmax(left), left.shape)
        regions = (_to_cells(windows[first], shape), _to_cells(others[second], other_shape))
        matches.append(Match(*regions, float(sums[first, second]) / total))
        left[windows @ windows[first] > 0] = 0  # what overlaps it
        left[:, others @ others[second] > 0] = 0
    return tuple(matches)


def _windows(shape: tuple[int, int]) -> Array:
    """Return all windows of a grid (h, w): float32 (M, h * w), 1 inside and 0 outside."""
    return np.kron(*map(_runs, shape))


def _runs(side: int) -> Array:
    length, cells = max(1, round(_SIDE * side)), np.arange(side)
    starts = np.arange(side - length + 1)[:, None]
    return ((starts <= cells) & (cells < starts + length)).astype(np.float32)


def _to_cells(window: Array, shape: tuple[int, int]) -> Cells:
    return frozenset((row, column) for row, column in np.argwhere(window.reshape(shape)).tolist())


def check_matches(
    head: Head,
    describe: Callable[[Sequence[Pixels]], Array],
    pixels: Sequence[Pixels],
    pairs: Sequence[tuple[int, int]],
    found: Sequence[Correspondence],
) -> list[Correspondence]:
    """Return the correspondences of P pairs, given by rows of `pixels` (size, size, 3), with their matches checked.

    If two regions match, hiding the second takes less where the first is hidden already. So the regions of all M
    matches are hidden in both pictures, one at a time, and the log-odds of all M x M pairings are compared, without
    what each region takes in every pairing. A hidden region is described once for all pairs of its picture.
    """
    masks: dict[_Region, PixelMask] = {}
    for (first, second), each in zip(pairs, found, strict=True):
        for match in each.matches:
            masks[first, match.first] = _to_mask(match.first, each.shape, len(pixels[first]))
            masks[second, match.second] = _to_mask(match.second, each.other_shape, len(pixels[second]))
    hidden: dict[str, dict[_Region, Array]] = {}
    for way, hiding in HIDINGS.items() if masks else ():
        hiders = {picture: hiding(pixels[picture]) for picture in {picture for picture, _ in masks}}
        u = head.embed(describe([hiders[picture](mask) for (picture, _), mask in masks.items()]))
        hidden[way] = dict(zip(masks, u, strict=True))
    return [
        replace(each, matches=_check(head, pair, each.matches, hidden)) for pair, each in zip(pairs, found, strict=True)
    ]


def _check(
    head: Head, pair: tuple[int, int], matches: tuple[Match, ...], hidden: Mapping[str, Mapping[_Region, Array]]
) -> tuple[Match, ...]:
    """Return the matches of a pair with their checks, those that hold first; `hidden` are the embeddings by way."""
    if len(matches) < _FEWEST:
        return matches
    checks: list[dict[str, MatchCheck]] = [{} for _ in matches]
    for way, u in hidden.items():
        first, second = (
            np.array([u[pair[0], match.first] for match in matches]),
            np.array([u[pair[1], match.second] for match in matches]),
        )
        beyond = double_centre(-head.slope * head.separation(first[:, None], second[None]))
        for own, check in enumerate(checks):
            unmatched = np.concatenate([np.delete(beyond[own], own), np.delete(beyond[:, own], own)])
            check[way] = MatchCheck(float(beyond[own, own] - unmatched.mean()), float(unmatched.std(ddof=1)))
    checked = (replace(match, checks=check) for match, check in zip(matches, checks, strict=True))
    return tuple(sorted(checked, key=lambda match: not match.holds))


def _to_mask(cells: Cells, shape: tuple[int, int], size: int) -> PixelMask:
    grid = np.zeros(shape, np.bool_)
    grid[tuple(zip(*cells, strict=True))] = True
    return np.asarray(Image.fromarray(grid).resize((size, size), Image.Resampling.NEAREST))
