"""Which pictures meet: random pairs as in section 4 of the paper, and batches whose pairs are all used.

Classes are given as codes (N,), numbers from 0. Whatever is drawn is decided by a seed.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

Codes = NDArray[np.int64]
Flags = NDArray[np.bool_]


def random_pairs(codes: Codes, seed: int) -> tuple[Codes, Codes, Flags]:
    """Pairs as the paper makes them: each picture with one of its class and one of another, at random.

    Gives places of the first and second pictures and whether they are similar. Pictures alone in their class are
    left out.
    """
    random = np.random.default_rng(seed)
    first, second, similar = [], [], []
    members = [np.flatnonzero(codes == code) for code in range(int(codes.max(initial=-1)) + 1)]
    for place, code in enumerate(codes):
        same = members[code][members[code] != place]
        outside = len(codes) - len(members[code])
        if len(same) and outside:
            first += [place, place]
            second += [int(random.choice(same)), _nth_outside(members[code], int(random.integers(outside)))]
            similar += [True, False]
    return np.array(first, np.int64), np.array(second, np.int64), np.array(similar, np.bool_)


def _nth_outside(members: Codes, n: int) -> int:
    """The n-th place, from 0, that is none of the members (in ascending order)."""
    return n + int(np.searchsorted(members - np.arange(len(members)), n, side="right"))


def balanced_pairs(codes: Codes, count: int, random: np.random.Generator) -> tuple[Codes, Codes, Flags]:
    """`count` pairs of one class and as many of two, classes drawn evenly: first, second, whether different."""
    members = [np.flatnonzero(codes == code) for code in range(codes.max() + 1)]
    several = [code for code, places in enumerate(members) if len(places) > 1]
    same = [random.choice(members[code], 2, replace=False) for code in random.choice(several, count)]
    drawn = (random.choice(len(members), 2, replace=False) for _ in range(count))
    apart = [(random.choice(members[one]), random.choice(members[other])) for one, other in drawn]
    pairs = np.array([*same, *apart], np.int64)
    return pairs[:, 0], pairs[:, 1], np.arange(2 * count) >= count


def class_batches(codes: Codes, pictures: int, size: int, random: np.random.Generator) -> Iterator[Codes]:
    """An epoch of batches of at most `size` places, made of chunks of `pictures` pictures of one class.

    Every place comes once; the last chunk of a class is filled up with others of it, so that each chunk makes pairs.
    The chunks of a class are spread evenly over the epoch, so that a batch holds many classes.
    """
    chunks: list[tuple[float, Codes]] = []
    for code in range(int(codes.max(initial=-1)) + 1):
        members = random.permutation(np.flatnonzero(codes == code))
        count = -(-len(members) // pictures)
        filled = np.resize(members, count * pictures).reshape(count, pictures)
        positions = (np.arange(count) + random.random(count)) / max(count, 1)
        chunks += list(zip(positions, filled, strict=True))
    order = [chunk for _, chunk in sorted(chunks, key=lambda each: each[0])]
    a_batch = max(size // pictures, 2)
    for start in range(0, len(order), a_batch):
        yield np.concatenate(order[start : start + a_batch])
