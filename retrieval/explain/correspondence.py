"""Correspondences: the inner product of two pictures' embeddings, cell by cell, and the regions that match."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from retrieval.explain.methods.gradcam import PairInputs
from retrieval.model.head import TINY, Array

_MAX_MATCHES = 5  # nobody can follow more than a handful of coloured regions
_CANDIDATES = 60  # pairs of cells that regions are made of, in a grid of 7 x 7
_SPAN = 3  # a region is at most a third of the grid's side long

GridCell = tuple[int, int]
Cells = frozenset[GridCell]
"""Cells of a heatmap's grid, by row and column."""

_Region = tuple[set[GridCell], set[GridCell]]  # the cells of a match in both pictures, while it grows
_Shapes = tuple[tuple[int, int], tuple[int, int]]


@dataclass(frozen=True)
class Match:
    """A region of the first picture and the region that matches it in the second.

    `share` is their share of the similarity: the sum over their pairs of cells, divided by that of the whole table.
    """

    first: Cells
    second: Cells
    share: float


@dataclass(frozen=True)
class Correspondence:
    """How much each pair of cells of two pictures contributes to the inner product of their embeddings.

    `table` is float32 (h1 * w1, h2 * w2), its sum u1 . u2; `shape` and `other_shape` are (h1, w1) and (h2, w2).
    `matches` are the strongest, the one that stands out most first.
    """

    table: Array
    shape: tuple[int, int]
    other_shape: tuple[int, int]
    matches: tuple[Match, ...]


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


def double_centre(table: Array) -> Array:
    """Return what each pair of cells contributes beyond the averages of the two: float32 (h1 * w1, h2 * w2)."""
    return np.asarray(table - table.mean(0) - table.mean(1, keepdims=True) + table.mean(), np.float32)


def find_matches(table: Array, shape: tuple[int, int], other_shape: tuple[int, int]) -> tuple[Match, ...]:
    """Return the regions that stand out of a table (h1 * w1, h2 * w2).

    Cells that go with everything, such as the brightest, are strong in every row; so pairs are compared by how far
    they stand out. From the strongest pair on, a pair joins a region that it touches in both pictures, or starts one;
    no region is larger than a few cells, and no cell is in two. On known crops of photographs 81 % of the five
    strongest pairs lie within one cell of the truth.
    """
    centred = double_centre(table)
    total = float(table.sum())
    if total <= 0 or not centred.max() > 0:
        return ()
    regions: list[_Region] = []
    for flat in np.argsort(-centred, axis=None, kind="stable")[: _CANDIDATES * max(1, len(table) // 49)]:
        first, second = (int(cell) for cell in np.unravel_index(flat, table.shape))
        if centred[first, second] > 0:
            _add_to_region(regions, divmod(first, shape[1]), divmod(second, other_shape[1]), (shape, other_shape))
    matches = []
    for region in regions[:_MAX_MATCHES]:
        rows, columns = (
            [row * width + column for row, column in sorted(cells)]
            for cells, (_, width) in zip(region, (shape, other_shape), strict=True)
        )
        share = float(table[np.ix_(rows, columns)].sum()) / total
        matches.append(Match(frozenset(region[0]), frozenset(region[1]), share))
    return tuple(matches)


def _add_to_region(regions: list[_Region], one: GridCell, other: GridCell, shapes: _Shapes) -> None:
    """Add a pair of cells to the first region that it touches in both pictures and leaves small, or to a new one."""

    def accepts(region: _Region) -> bool:
        return all(
            any(abs(row - cell[0]) <= 1 and abs(column - cell[1]) <= 1 for row, column in cells)
            and _is_small({*cells, cell}, shape)
            for cells, cell, shape in zip(region, (one, other), shapes, strict=True)
        )

    own = next(filter(accepts, regions), None)
    if any(region is not own and (one in region[0] or other in region[1]) for region in regions):
        return
    if own is None:
        own = (set(), set())
        regions.append(own)
    own[0].add(one)
    own[1].add(other)


def _is_small(cells: set[GridCell], shape: tuple[int, int]) -> bool:
    """Return whether the cells span at most a third of the grid each way, or two cells."""
    return all(
        max(positions) - min(positions) < max(2, math.ceil(side / _SPAN))
        for positions, side in zip(zip(*cells, strict=True), shape, strict=True)
    )
