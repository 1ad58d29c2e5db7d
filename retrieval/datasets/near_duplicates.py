"""Pictures of a data set that look the same."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from retrieval.common.grouping import Indices, leader_groups
from retrieval.model.preprocessing import Pixels

_ROWS, _COLUMNS = 16, 17  # of the grey picture whose neighbouring cells are compared
_NEAR_BITS, _NEAR_LEVELS = 16, 32


def near_duplicates(pixels: Pixels) -> Indices:
    """Group pictures that look the same, such as one saved anew, resized or slightly cropped; returns groups (N,).

    Two are near if a difference hash of 256 bits (is a cell brighter than its left neighbour?) differs in at most 16,
    and no cell of 17 x 16 by more than 32 of 255 grey levels: the hash alone says nothing of plain backgrounds. A
    group's number is the row of its first picture, which all others are near to. The time grows with the square of N.
    """
    return grey_near_duplicates(np.stack([small_grey(picture) for picture in pixels]))


def grey_near_duplicates(grey: NDArray[np.int16]) -> Indices:
    """Group pictures given as `small_grey` makes them, (N, 16, 17), in the same way."""
    import faiss

    hashes = np.packbits((grey[:, :, 1:] > grey[:, :, :-1]).reshape(len(grey), -1), axis=1)  # (N, 32)
    index = faiss.IndexBinaryFlat(hashes.shape[1] * 8)
    index.add(hashes)

    def near(one: int, is_free: NDArray[np.bool_]) -> Indices:
        rows: Indices = index.range_search(hashes[one : one + 1], _NEAR_BITS + 1)[2]  # those of fewer bits
        rows = rows[is_free[rows]]
        is_near: NDArray[np.bool_] = np.abs(grey[rows] - grey[one]).max(axis=(1, 2)) <= _NEAR_LEVELS
        return rows[is_near]

    return leader_groups(len(grey), near)


def small_grey(picture: Pixels) -> NDArray[np.int16]:
    """Return the grey levels by which near-duplicates are recognised: from 0 to 255, (16, 17)."""
    small = Image.fromarray(picture).convert("L").resize((_COLUMNS, _ROWS), Image.Resampling.BOX)
    return np.asarray(small).astype(np.int16)
