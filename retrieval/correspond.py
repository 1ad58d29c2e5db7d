"""Which part of one picture matches which part of the other: the inner product of their embeddings, place by place."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from retrieval.cam import Pairs
from retrieval.head import TINY, Array, Head

REGIONS = 5
"""How many matches are told of a pair: more than a handful of coloured regions nobody can follow."""

_CANDIDATES = 20  # pairs of places that regions are made of

Cells = frozenset[tuple[int, int]]
"""Places of a heatmap's grid, by row and column."""


@dataclass(frozen=True)
class Match:
    """A region of the first picture and what matches it in the second, with the share of the similarity it gives.

    `share` is the sum over the regions' pairs of places, over the sum of the whole table.
    """

    first: Cells
    second: Cells
    share: float


@dataclass(frozen=True)
class Correspondence:
    """How much each two places of two pictures give to the inner product of their embeddings.

    `table` is float32 (h1 * w1, h2 * w2), its sum u1 . u2, and `shape` and `other_shape` are (h1, w1) and (h2, w2).
    `matches` are the strongest, first the one that stands out most.
    """

    table: Array
    shape: tuple[int, int]
    other_shape: tuple[int, int]
    matches: tuple[Match, ...]


def correspond(side: Pairs, other: Pairs, place: int = 0) -> Correspondence:
    """What corresponds in the pair at this place: `side` has its first picture against its second, `other` the reverse.

    With the ReLU's mask m fixed, an embedding is a sum over places, as is all that comes before it: with Z places,
    x_k(p) = A_k(p) / Z, or (A_k(p) + shift) / (Z f(g_k)) where the head takes the root, and
    e(p) = m * (W x(p) + c / Z). So e1 . e2 is a sum over pairs of places, and the table is each pair's e1(p) . e2(q),
    over the lengths of both embeddings where the head brings them to unit length.
    """
    first, second = (_embedded_places(each, place) for each in (side, other))
    scale = 1.0
    if side.head.normalize:
        scale = float(np.linalg.norm(first.sum(0)) * np.linalg.norm(second.sum(0))) or 1.0
    table = np.asarray(first @ second.T / max(scale, TINY), np.float32)
    shapes = [each.activations.shape[2:] for each in (side, other)]
    shape, other_shape = ((int(rows), int(columns)) for rows, columns in shapes)
    return Correspondence(table, shape, other_shape, matches_of(table, shape, other_shape))


def _embedded_places(side: Pairs, place: int) -> Array:
    """What each place gives to the embedding: float32 (Z, E)."""
    head, g = side.head, side.own[place]
    activations = side.activations[place].reshape(len(g), -1).T  # (Z, C)
    count = len(activations)
    embedded = _shares(head, activations, g) @ head.weight.T + head.bias / np.float32(count)
    return np.asarray(embedded * (head.project(g) > 0), np.float32)


def _shares(head: Head, activations: Array, g: Array) -> Array:
    """What each place gives to f(g): float32 (Z, C), in proportion to what it gives to g + shift."""
    count = np.float32(len(activations))
    if head.shift is None:
        return np.asarray(activations / count, np.float32)
    whole = head.shaped(g)
    out = np.zeros_like(activations)
    return np.asarray(np.divide(activations + head.shift, count * whole, out=out, where=whole > 0), np.float32)


def matches_of(table: Array, shape: tuple[int, int], other_shape: tuple[int, int]) -> tuple[Match, ...]:
    """The regions that stand out of a table (h1 * w1, h2 * w2).

    Places that go with everything, such as the brightest, stand out in every row; so what is compared is how much a
    pair gives beyond what its two places give on average. The strongest pairs whose places touch in both pictures
    are one region. On known crops of photographs 81 % of the first five lie within a place of the truth.
    """
    beyond = table - table.mean(0) - table.mean(1, keepdims=True) + table.mean()
    total = float(table.sum())
    if total <= 0 or not beyond.max() > 0:
        return ()
    groups: list[list[tuple[int, int]]] = []
    for flat in np.argsort(-beyond, axis=None, kind="stable")[:_CANDIDATES]:
        pair = (int(flat) // table.shape[1], int(flat) % table.shape[1])
        if beyond[pair] > 0:
            groups = _joined(groups, pair, shape[1], other_shape[1])
    found = [_match(group, table, total, shape[1], other_shape[1]) for group in groups[:REGIONS]]
    return tuple(found)


def _joined(
    groups: list[list[tuple[int, int]]], pair: tuple[int, int], width: int, other_width: int
) -> list[list[tuple[int, int]]]:
    """The groups with one more pair, which goes with the first of those that it touches, or begins a new one."""
    for group in groups:
        if any(_touch(pair[0], p, width) and _touch(pair[1], q, other_width) for p, q in group):
            group.append(pair)
            return groups
    return [*groups, [pair]]


def _touch(one: int, other: int, width: int) -> bool:
    rows, columns = zip(divmod(one, width), divmod(other, width), strict=True)
    return abs(rows[0] - rows[1]) <= 1 and abs(columns[0] - columns[1]) <= 1


def _match(group: list[tuple[int, int]], table: Array, total: float, width: int, other_width: int) -> Match:
    first, second = (sorted(set(places)) for places in zip(*group, strict=True))
    share = float(table[np.ix_(first, second)].sum()) / total
    return Match(_cells(first, width), _cells(second, other_width), share)


def _cells(places: list[int], width: int) -> Cells:
    return frozenset((place // width, place % width) for place in places)
