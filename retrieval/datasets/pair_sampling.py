"""Random pairs of pictures as in section 4 of the paper, and batches all of whose pairs are used.

Classes are given as codes (N,), numbers from 0. All draws are determined by a seed.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from retrieval.common.errors import GalleryError
from retrieval.common.parallel import batched

Codes = NDArray[np.int64]
Flags = NDArray[np.bool_]


def random_pairs(codes: Codes, seed: int, count: int | None = None) -> tuple[Codes, Codes, Flags]:
    """Pair each picture with one of its class and one of another, at random, as the paper does.

    Returns the rows of the first and second pictures, and whether they are similar. Pictures alone in their class are
    left out. With `count`, returns that many similar and that many different pairs, chosen at random. Raises
    GalleryError if there are fewer.
    """
    random = np.random.default_rng(seed)
    first: list[int] = []
    second: list[int] = []
    members = class_members(codes)
    for row, code in enumerate(codes):
        same = members[code][members[code] != row]
        outside = len(codes) - len(members[code])
        if len(same) and outside:
            first += [row, row]
            second += [int(random.choice(same)), _nth_outside(members[code], int(random.integers(outside)))]
    rows = np.arange(len(first))  # similar pairs have even numbers, different ones odd
    if count is not None:
        if count > len(first) // 2:
            raise GalleryError(
                f"{count} similar and {count} different pairs are not possible, as only {len(first) // 2} pictures have"
                f" another of their class: ask for at most {len(first) // 2}"
            )
        rows = np.concatenate([random.choice(kind, count, replace=False) for kind in (rows[::2], rows[1::2])])
    return np.array(first, np.int64)[rows], np.array(second, np.int64)[rows], rows % 2 == 0


def most_pairs(codes: Codes) -> int:
    """Return how many pairs of each kind `random_pairs` can draw."""
    sizes = np.bincount(codes)
    return int(sizes[(sizes > 1) & (sizes < len(codes))].sum())


def class_members(codes: Codes) -> list[Codes]:
    """Return the rows of each class's pictures, by its code."""
    return [np.flatnonzero(codes == code) for code in range(int(codes.max(initial=-1)) + 1)]


def can_make_pairs(codes: Codes) -> bool:
    """Return whether there are pairs of both kinds: two classes, and two pictures in one of them."""
    sizes = np.bincount(codes)
    return bool(np.sum(sizes > 0) > 1 and sizes.max() > 1)


def require_pairs(codes: Codes, name: object) -> None:
    """Raise GalleryError if there are no pairs of one class and of two among classes `codes` (N,)."""
    if not can_make_pairs(codes):
        sizes = np.bincount(codes)
        raise GalleryError(
            f"{name} has {np.sum(sizes > 0)} class folders and at most {sizes.max(initial=0)} pictures in one: give at"
            " least two classes, one of them with two pictures"
        )


def _nth_outside(members: Codes, n: int) -> int:
    """Return the n-th row, from 0, that is not among the members (in ascending order)."""
    return n + int(np.searchsorted(members - np.arange(len(members)), n, side="right"))


def balanced_pairs(codes: Codes, count: int, random: np.random.Generator) -> tuple[Codes, Codes, Flags]:
    """Draw `count` pairs of one class and as many of two, classes evenly: first, second, whether different."""
    members = class_members(codes)
    several = [code for code, rows in enumerate(members) if len(rows) > 1]
    same = [random.choice(members[code], 2, replace=False) for code in random.choice(several, count)]
    drawn = (random.choice(len(members), 2, replace=False) for _ in range(count))
    apart = [(random.choice(members[one]), random.choice(members[other])) for one, other in drawn]
    pairs = np.array([*same, *apart], np.int64)
    return pairs[:, 0], pairs[:, 1], np.arange(2 * count) >= count


def class_batches(codes: Codes, per_class: int, size: int, random: np.random.Generator) -> Iterator[Codes]:
    """Yield an epoch of batches of at most `size` rows, made of chunks of `per_class` pictures of one class.

    Every row comes once; the last chunk of a class is filled up with others of it, so that each chunk makes pairs.
    The chunks of a class are spread evenly over the epoch, so that a batch holds many classes.
    """
    chunks: list[tuple[float, Codes]] = []
    for members in class_members(codes):
        count = -(-len(members) // per_class)
        filled = np.resize(random.permutation(members), count * per_class).reshape(count, per_class)
        positions = (np.arange(count) + random.random(count)) / max(count, 1)
        chunks += list(zip(positions, filled, strict=True))
    order = [chunk for _, chunk in sorted(chunks, key=lambda each: each[0])]
    for chunks_of_batch in batched(order, max(size // per_class, 2)):
        yield np.concatenate(chunks_of_batch)


def random_batches(codes: Codes, size: int, random: np.random.Generator) -> Iterator[tuple[Codes, Codes, Codes]]:
    """Yield an epoch of section 4's pairs: each picture, in random order, with one of its class and one of another.

    Yields the rows of a batch's pictures, each once, and the pairs by their positions in the batch, which has
    `size` // 3 anchors. A picture alone in its class has no pair of one class.
    """
    first, second, _ = random_pairs(codes, int(random.integers(2**31)))
    starts = np.flatnonzero(np.diff(first, prepend=-1))
    order = random.permutation(len(starts))
    for anchors in batched(order, max(size // 3, 1)):
        pairs = np.concatenate([(2 * anchor, 2 * anchor + 1) for anchor in anchors])
        rows, positions = np.unique(np.concatenate([first[pairs], second[pairs]]), return_inverse=True)
        yield rows, positions[: len(pairs)], positions[len(pairs) :]


def all_pairs(count: int) -> tuple[Codes, Codes]:
    """Return every two of `count` pictures once, by their rows (P,) and (P,)."""
    return np.triu_indices(count, 1)


def half_of_classes(codes: Codes, random: np.random.Generator) -> NDArray[np.bool_]:
    """Mark every other class (K,) in a random order, those of several pictures first, so that both halves have some."""
    order = random.permutation(codes.max() + 1)
    order = order[np.argsort(np.bincount(codes)[order] < 2, kind="stable")]
    half = np.zeros(len(order), np.bool_)
    half[order[::2]] = True
    return half
