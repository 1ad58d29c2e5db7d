"""Close looks at a store's pictures, each decoded once while it is compared."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from indexes.arrays import Ids
from retrieval.common.errors import PictureError
from retrieval.model.decoding.colours import to_rgb
from retrieval.model.decoding.limits import ROOM, decoded_bytes
from retrieval.model.decoding.opening import open_image
from retrieval.model.head import Array
from retrieval.model.preprocessing import read_image
from retrieval.sources.files import open_file
from retrieval.sources.location import PictureLocation
from retrieval.store.duplicates.candidates import ContentPairs
from retrieval.store.duplicates.close_look import SIDE, Closeup, shows_the_same
from retrieval.store.duplicates.true_detail import has_more_detail

_KEPT = 256  # pictures in memory, of at most 1 MB
_THREADS = 2
_LATER_SIDE = 384  # of frames beyond the first
_MOVING = ("GIF", "PNG", "WEBP", "TIFF", "AVIF")  # formats whose frames are pictures; a JPEG's others are previews


class CloseLooks:
    """Looks at contents by their numbers; `path_of` gives a content's file."""

    def __init__(self, path_of: Callable[[int], PictureLocation]) -> None:
        self._path_of = path_of
        self._known: dict[tuple[int, int], bool] = {}
        self._read = lru_cache(_KEPT)(lambda number: _try_closeup(path_of(number)))

    def show_the_same(self, pairs: ContentPairs, fits: Array) -> NDArray[np.bool_]:
        """Return whether each pair (P, 2) of contents has the same details, by fits (P, 4)."""

        def judge(pair: tuple[int, int], fit: Array) -> bool:
            if pair not in self._known:
                first, second = (self._read(number) for number in pair)
                self._known[pair] = bool(first and second and shows_the_same(first, second, fit))
            return self._known[pair]

        with ThreadPoolExecutor(_THREADS) as judges:
            return np.fromiter(judges.map(judge, map(tuple, pairs.tolist()), fits), np.bool_, len(pairs))

    def crowded(self, least: int) -> Ids:
        """Return the contents that differ closely from so many that they resemble."""
        differing = [number for pair, same in list(self._known.items()) if not same for number in pair]
        numbers, counts = np.unique(np.array(differing, np.int64), return_counts=True)
        return numbers[counts >= least]

    def is_better(self, number: int, other: int, fit: Array) -> bool:
        """Return whether a content is more worth keeping than another, by more frames, transparency or detail."""
        first, second = self._read(number), self._read(other)
        if first is None or second is None:
            return False
        if first.extras != second.extras:
            return first.extras > second.extras
        with suppress(PictureError):
            one, two = (read_image(self._path_of(each))[0].convert("L") for each in (number, other))
            return has_more_detail(one, two, fit) is True
        return False


def _try_closeup(path: PictureLocation) -> Closeup | None:
    with suppress(PictureError):
        return read_closeup(path)
    return None


def read_closeup(path: PictureLocation) -> Closeup:
    """Read a picture to look at it closely. Raises PictureError."""
    picture = _reduced(read_image(path, SIDE)[0], SIDE)
    with open_file(path) as file, suppress(Exception):  # what is damaged behind the first frame does not matter
        opened, file = open_image(file)
        if opened.format in _MOVING or opened.has_transparency_data:
            with ROOM.hold(2 * decoded_bytes(opened, opened.width * opened.height)):
                return replace(_extras(opened), picture=picture)
    return Closeup(picture)


def _extras(opened: Image.Image) -> Closeup:
    """Return the picture on black if parts of it are transparent, and its later frames if it has some."""
    on_black = _on_black(opened) if opened.has_transparency_data else None
    frames = getattr(opened, "n_frames", 1) if opened.format in _MOVING else 1
    later = tuple(_frame(opened, place) for place in (frames // 2, frames - 1) if frames > 1)
    return Closeup(opened, on_black, frames, later)


def _frame(opened: Image.Image, place: int) -> Image.Image:
    opened.seek(place)
    return _reduced(to_rgb(opened), _LATER_SIDE)


def _on_black(opened: Image.Image) -> Image.Image | None:
    layers = ImageOps.exif_transpose(opened).convert("RGBA")
    if layers.getchannel("A").getextrema()[0] == 255:
        return None
    return _reduced(Image.alpha_composite(Image.new("RGBA", layers.size, "black"), layers), SIDE)


def _reduced(picture: Image.Image, side: int) -> Image.Image:
    grey = picture.convert("L")
    grey.thumbnail((side, side), Image.Resampling.BICUBIC, reducing_gap=3.0)
    return grey
