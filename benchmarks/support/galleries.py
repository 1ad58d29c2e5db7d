"""The pictures that the benchmarks work on: a folder's, or generated ones, and larger and altered ones made of them."""

import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from retrieval.sources.files import is_picture_name
from support.machine import cores

GENERATED_CLASSES = 5
LARGE = (4000, 3000)
NOISE = 5.0  # with quality 90, files of a few MB, as of a phone
_QUALITY = 90
_SPOT = 16  # the side of what is altered


@contextmanager
def gallery(folder: Path | None, count: int) -> Iterator[Path]:
    """Yield the folder, or a temporary one with so many generated pictures."""
    if folder is not None:
        yield folder
        return
    with tempfile.TemporaryDirectory() as made:
        generate(Path(made), count)
        yield Path(made)


def pictures(folder: Path) -> list[Path]:
    """Return the picture files in and below a folder, by name."""
    return sorted(path for path in folder.rglob("*") if is_picture_name(path) and path.is_file())


def generate(folder: Path, count: int) -> None:
    """Noise of 40 x 30 cells around a colour of each class, as JPEGs of 320 x 240."""
    random = np.random.default_rng(0)
    colours = random.integers(40, 216, (GENERATED_CLASSES, 3))
    for number in range(count):
        code = number % GENERATED_CLASSES
        cells = np.clip(colours[code] + random.normal(0, 40, (30, 40, 3)), 0, 255).astype(np.uint8)
        (folder / str(code)).mkdir(exist_ok=True)
        picture = Image.fromarray(cells).resize((320, 240), Image.Resampling.BICUBIC)
        picture.save(folder / str(code) / f"{number}.jpg")


def make_large(sources: list[Path], folder: Path, count: int, noise: float = 0) -> None:
    """JPEGs of 12 megapixels: pictures enlarged, each with a spot of its own, and noise of this standard deviation."""
    width, height = LARGE
    grain = np.random.default_rng(0).standard_normal((height, width, 1), np.float32) * np.float32(noise)

    def make(number: int) -> None:
        picture = ImageOps.fit(_rgb(sources[number % len(sources)]), LARGE, Image.Resampling.BICUBIC)
        if noise:
            noisy = np.asarray(picture, np.float32) + np.roll(grain, 7 * number, axis=0)
            picture = Image.fromarray(np.clip(noisy, 0, 255).astype(np.uint8))
        _alter(picture, number)
        picture.save(folder / f"{number}.jpg", quality=_QUALITY)

    _each(make, folder, count)


def make_altered(sources: list[Path], folder: Path, count: int) -> None:
    """JPEGs that differ from pictures, and from each other, in a spot of noise: each is decoded and embedded."""

    def make(number: int) -> None:
        picture = _rgb(sources[number % len(sources)])
        _alter(picture, number)
        picture.save(folder / f"{number}.jpg", quality=_QUALITY)

    _each(make, folder, count)


def warm(folder: Path) -> int:
    """Read all files once, so that none comes from the disk later; how many bytes they are."""
    return sum(len(path.read_bytes()) for path in pictures(folder))


def _each(make: Callable[[int], None], folder: Path, count: int) -> None:
    folder.mkdir()
    with ThreadPoolExecutor(cores()) as threads:
        list(threads.map(make, range(count)))


def _alter(picture: Image.Image, number: int) -> None:
    """Paste a spot of noise that is this number's."""
    random = np.random.default_rng(number)
    spot = Image.fromarray(random.integers(0, 256, (_SPOT, _SPOT, 3), np.uint8))
    left, top = (int(random.integers(max(1, side - _SPOT))) for side in picture.size)
    picture.paste(spot, (left, top))


def _rgb(path: Path) -> Image.Image:
    with Image.open(path) as picture:
        return picture.convert("RGB")
