"""A folder of pictures, each content once, with copies of some: renamed, resized, recompressed, cropped."""

import hashlib
import random
import shutil
from collections.abc import Callable
from pathlib import Path

from PIL import Image

from support.galleries import pictures

ORIGINALS = "originals"
_QUALITY, _POOR = 90, 40

Change = Callable[[Image.Image, random.Random], tuple[Image.Image, int]]
"""A picture and what draws numbers, to the copy and the quality that it is saved with."""


def _resized(picture: Image.Image, drawn: random.Random) -> tuple[Image.Image, int]:
    width, height = picture.size
    return picture.resize((width // 2, height // 2), Image.Resampling.LANCZOS), _QUALITY


def _recompressed(picture: Image.Image, drawn: random.Random) -> tuple[Image.Image, int]:
    return picture, _POOR


def _cropped(picture: Image.Image, drawn: random.Random) -> tuple[Image.Image, int]:
    return _cut(picture, (0.05, 0.05, 0.05, 0.05)), _QUALITY


def _cropped_unevenly(picture: Image.Image, drawn: random.Random) -> tuple[Image.Image, int]:
    return _cut(picture, tuple(drawn.uniform(0, 0.1) for _ in range(4))), _QUALITY


def _cropped_widely(picture: Image.Image, drawn: random.Random) -> tuple[Image.Image, int]:
    return _cut(picture, (0.1, 0.1, 0.1, 0.1)), _QUALITY


CHANGES: dict[str, Change] = {
    "resized to 50 %": _resized,
    f"recompressed at {_POOR}": _recompressed,
    "cropped by 5 % a side": _cropped,
    "cropped by 0 to 10 % a side": _cropped_unevenly,
    "cropped by 10 % a side": _cropped_widely,
}
RENAMED = "renamed"
KINDS = (RENAMED, *CHANGES)


def make_copies(source: Path, folder: Path, count: int, seed: int = 0) -> dict[str, Path]:
    """Fill a folder with the pictures of another and copies of `count` of them; the source of each number.

    A file is named after the number of its original, in a folder for its kind. Pictures of the same bytes are there
    once.
    """
    once = {hashlib.sha256(path.read_bytes()).digest(): path for path in reversed(pictures(source))}
    sources = {f"{number:06}": path for number, path in enumerate(sorted(once.values()))}
    for name in (ORIGINALS, *KINDS):
        (folder / name).mkdir(parents=True)
    for number, path in sources.items():
        shutil.copyfile(path, folder / ORIGINALS / f"{number}{path.suffix}")
    drawn = random.Random(seed)
    for number in drawn.sample(sorted(sources), min(count, len(sources))):
        path = sources[number]
        shutil.copyfile(path, folder / RENAMED / f"{number}{path.suffix}")
        with Image.open(path) as picture:
            opened = picture.convert("RGB")
        for kind, change in CHANGES.items():
            copy, quality = change(opened, drawn)
            copy.save(folder / kind / f"{number}.jpg", quality=quality)
    return sources


def _cut(picture: Image.Image, shares: tuple[float, ...]) -> Image.Image:
    """Less these shares of the left, the top, the right and the bottom."""
    width, height = picture.size
    left, top, right, bottom = shares
    return picture.crop(
        (round(left * width), round(top * height), width - round(right * width), height - round(bottom * height))
    )
