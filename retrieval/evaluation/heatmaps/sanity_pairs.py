"""Random pairs of pictures of a folder, with or without class folders."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from retrieval.common.errors import GalleryError, PictureError
from retrieval.common.progress import SILENT, Progress
from retrieval.datasets.class_folders import LeftOut, read_ahead
from retrieval.datasets.pair_sampling import Codes, balanced_pairs, can_make_pairs
from retrieval.model.preprocessing import Pixels, read_at_size
from retrieval.sources.entries import Unreadable
from retrieval.sources.local import walk


@dataclass(frozen=True)
class PicturePairs:
    """P pairs: the pixels of their first pictures and of their second ones, each uint8 (size, size, 3).

    `similar` is the number of pairs of one class, None without class folders. `left_out` are drawn files that cannot be
    read, and unusable entries of the folder; pairs with such a file are left out too.
    """

    first: list[Pixels]
    second: list[Pixels]
    similar: int | None
    left_out: LeftOut


def read_random_pairs(folder: Path, size: int, count: int, seed: int = 0, progress: Progress = SILENT) -> PicturePairs:
    """Read `count` random pairs of pictures below a folder; with class folders, half of one class and half of two.

    A picture's class is its folder. Raises GalleryError if no two pictures can be read.
    """
    paths, left_out = _find_pictures(folder)
    if len(paths) < 2:
        raise _nothing(folder, left_out)
    codes = np.unique([os.fsencode(path.parent) for path in paths], return_inverse=True)[1]
    first, second, similar = _draw_pairs(codes, count, np.random.default_rng(seed))
    places = np.unique(np.concatenate([first, second]))
    read: dict[int, Pixels] = {}
    pictures = read_ahead(lambda place: read_at_size(paths[place], size)[0], places.tolist())
    with progress.stage("Reading", len(places)) as stage:
        for place, picture in stage.track(zip(places.tolist(), pictures, strict=True)):
            if isinstance(picture, PictureError):
                left_out.append((paths[place], picture.reason))
            else:
                read[place] = picture
    whole = [place for place in range(count) if int(first[place]) in read and int(second[place]) in read]
    if not whole:
        raise _nothing(folder, left_out)
    return PicturePairs(
        [read[int(first[place])] for place in whole],
        [read[int(second[place])] for place in whole],
        None if similar is None else sum(place < similar for place in whole),
        tuple(left_out),
    )


def _find_pictures(folder: Path) -> tuple[list[Path], list[tuple[Path, str]]]:
    """Return the pictures below a folder, and the unreadable entries with the reason."""
    if not folder.is_dir():
        raise GalleryError(f"{folder} is not a folder: give a folder of pictures")
    paths: list[Path] = []
    left_out: list[tuple[Path, str]] = []
    for entry in walk(os.fsencode(os.path.abspath(folder))):
        path = Path(os.fsdecode(entry.path))
        if isinstance(entry, Unreadable):
            left_out.append((path, entry.reason))
        else:
            paths.append(path)
    return paths, left_out


def _draw_pairs(codes: Codes, count: int, random: np.random.Generator) -> tuple[Codes, Codes, int | None]:
    """Draw first and second rows (count,); also return how many pairs, the first ones, are of one class."""
    if can_make_pairs(codes):
        similar = (count + 1) // 2
        first, second, _ = balanced_pairs(codes, similar, random)
        return first[:count], second[:count], similar
    pairs = np.array([random.choice(len(codes), 2, replace=False) for _ in range(count)], np.int64)
    return pairs[:, 0], pairs[:, 1], None


def _nothing(folder: Path, left_out: list[tuple[Path, str]]) -> GalleryError:
    first = f" ({left_out[0][0].name} {left_out[0][1]})" if left_out else ""
    return GalleryError(f"{folder} holds no two pictures that can be compared{first}: give a folder of pictures")
