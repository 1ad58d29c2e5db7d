"""Pictures of a data set that look the same."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from retrieval.model.preprocessing import Pixels

Groups = NDArray[np.int64]

_ROWS, _COLUMNS = 16, 17  # of the grey picture whose neighbours are compared
_NEAR_BITS, _NEAR_LEVELS = 16, 32


def near_duplicates(pixels: Pixels) -> Groups:
    """Groups (N,) of pictures that look the same: one saved anew, resized or slightly cropped.

    Two are near where a difference hash of 256 bits (is a cell brighter than its left neighbour?) differs in at most
    16, and no cell of 17 x 16 by more than 32 of 255 grey levels: the hash alone says nothing of plain backgrounds.
    Equal numbers are one group: a picture, whose place names it, and later ones that look like it. The time grows with
    the square of N.
    """
    return grey_near_duplicates(np.stack([small_grey(picture) for picture in pixels]))


def grey_near_duplicates(grey: NDArray[np.int16]) -> Groups:
    """The same of pictures as `small_grey` gives them, (N, 16, 17)."""
    hashes = np.packbits((grey[:, :, 1:] > grey[:, :, :-1]).reshape(len(grey), -1), axis=1).view(np.uint64)  # (N, 4)
    groups = np.arange(len(grey))
    for one in range(len(grey)):
        if groups[one] == one:
            differing = np.bitwise_count(hashes[one + 1 :] ^ hashes[one]).sum(axis=1)
            near = one + 1 + np.flatnonzero(differing <= _NEAR_BITS)
            near = near[(groups[near] == near) & (np.abs(grey[near] - grey[one]).max(axis=(1, 2)) <= _NEAR_LEVELS)]
            groups[near] = one
    return groups


def small_grey(picture: Pixels) -> NDArray[np.int16]:
    """What near duplicates are told by: grey levels from 0 to 255, (16, 17)."""
    small = Image.fromarray(picture).convert("L").resize((_COLUMNS, _ROWS), Image.Resampling.BOX)
    return np.asarray(small).astype(np.int16)
