"""One picture, one answer: by path, as bytes, as an open file and as a PIL picture."""

import io
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pillow_heif
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from retrieval.common.errors import PictureError
from retrieval.model.preprocessing import PictureInfo, Pixels, Source, read_at_size, read_image
from tests.support.photographs import photograph
from tests.support.tiffs import Kind, tiff

pillow_heif.register_heif_opener()
SIDE = 64
FORMATS: dict[str, dict[str, Any]] = {
    **{"JPEG": {}, "PNG": {}, "WEBP": {"lossless": True}, "TIFF": {}, "BMP": {}, "GIF": {}},
    **{"PPM": {}, "JPEG2000": {}, "MPO": {}, "AVIF": {}, "HEIF": {}},
}
SIZES = st.tuples(st.integers(1, 700), st.integers(1, 700))


@cache
def whole() -> Image.Image:
    return photograph(0, 700, 700)


def encoded(size: tuple[int, int], kind: str, orientation: int = 1, mode: str = "RGB") -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = whole().crop((0, 0, *size)).convert(mode)
    out = io.BytesIO()
    image.save(out, kind, **FORMATS[kind], **({"exif": exif} if kind not in ("BMP", "GIF", "PPM", "JPEG2000") else {}))
    return out.getvalue()


def answers(data: bytes, folder: Path) -> list[tuple[Pixels, PictureInfo]]:
    """Return what is read of a file in every way in that has the file."""
    path = folder / "picture"
    path.write_bytes(data)
    with open(path, "rb") as file, Image.open(path) as by_name:
        sources: list[Source | io.BufferedReader] = [path, str(path), data, file, by_name, Image.open(io.BytesIO(data))]
        return [read_at_size(source, SIDE) for source in sources]


@settings(deadline=None, max_examples=40)
@given(SIZES, st.sampled_from(sorted(FORMATS)), st.integers(1, 8), st.sampled_from(["RGB", "L"]))
def test_a_file_gives_the_same_pixels_in_every_way(
    tmp_path_factory: pytest.TempPathFactory, size: tuple[int, int], kind: str, orientation: int, mode: str
) -> None:
    (pixels, info), *others = answers(encoded(size, kind, orientation, mode), tmp_path_factory.getbasetemp())
    for other, its_info in others:
        np.testing.assert_array_equal(other, pixels)
        assert its_info == info


def test_odd_files_give_the_same_pixels_in_every_way_too(tmp_path: Path) -> None:
    preview = (np.full((10, 10, 3), 9), Kind(photometric=2, subfile=1))
    deep = (np.arange(4800).reshape(40, 40, 3), Kind(16, 2))
    jpeg = encoded((300, 200), "JPEG")
    for data in (tiff(preview, deep), tiff(deep), jpeg[:-2], jpeg + jpeg):
        (pixels, info), *others = answers(data, tmp_path)
        assert all((other == pixels).all() and its_info == info for other, its_info in others)


@settings(deadline=None, max_examples=25)
@given(SIZES, st.sampled_from([kind for kind in sorted(FORMATS) if kind not in ("JPEG", "MPO")]))
def test_a_loaded_picture_that_is_no_jpeg_gives_the_pixels_of_its_file(size: tuple[int, int], kind: str) -> None:
    data = encoded(size, kind)
    loaded = Image.open(io.BytesIO(data))
    loaded.load()
    np.testing.assert_array_equal(read_at_size(loaded, SIDE)[0], read_at_size(data, SIDE)[0])


@settings(deadline=None, max_examples=40)
@given(SIZES, st.integers(1, 8), st.sampled_from(["RGB", "L"]))
def test_a_loaded_jpeg_gives_nearly_the_pixels_of_its_file(size: tuple[int, int], orientation: int, mode: str) -> None:
    data = encoded(size, "JPEG", orientation, mode)
    expected = read_at_size(data, SIDE)[0].astype(int)
    loaded = Image.open(io.BytesIO(data))
    loaded.load()
    sources: list[Source] = [loaded, *([np.asarray(read_image(data)[0])] if orientation == 1 else [])]
    for actual in (read_at_size(source, SIDE)[0] for source in sources):
        assert np.abs(actual - expected).mean() <= 2
        assert np.abs(actual - expected).max() <= 16


def test_a_loaded_jpeg_of_a_file_gives_its_pixels_while_it_is_that_file(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(encoded((700, 500), "JPEG", 6))
    expected, info = read_at_size(path, SIDE)
    loaded = Image.open(path)
    loaded.load()
    pixels, its_info = read_at_size(loaded, SIDE)
    np.testing.assert_array_equal(pixels, expected)
    assert its_info == info
    loaded.paste((255, 0, 0), (0, 0, *loaded.size))
    assert (read_at_size(loaded, SIDE)[0] == (255, 0, 0)).all()
    path.write_bytes(encoded((700, 500), "PNG"))
    assert (read_at_size(loaded, SIDE)[0] == (255, 0, 0)).all()


def test_what_was_done_to_a_picture_counts() -> None:
    data = encoded((300, 200), "JPEG")
    drawn = Image.open(io.BytesIO(data))
    drawn.paste((255, 0, 0), (0, 0, 300, 200))
    assert (read_at_size(drawn, SIDE)[0] == (255, 0, 0)).all()
    drafted = Image.open(io.BytesIO(data))
    drafted.draft("L", (150, 100))
    assert read_image(drafted)[1].size == (150, 100)
    frames = [Image.new("RGB", (9, 9), colour) for colour in ("red", "lime")]
    out = io.BytesIO()
    frames[0].save(out, "TIFF", save_all=True, append_images=frames[1:])
    second = Image.open(out)
    second.seek(1)
    assert (np.asarray(read_image(second)[0]) == (0, 255, 0)).all()


def test_a_picture_stays_as_it_was_opened() -> None:
    data = encoded((300, 200), "JPEG")
    opened = Image.open(io.BytesIO(data))
    read_at_size(opened, 20)
    assert opened.size == (300, 200)
    np.testing.assert_array_equal(np.asarray(opened), np.asarray(Image.open(io.BytesIO(data))))


def test_a_closed_picture_is_refused() -> None:
    opened = Image.open(io.BytesIO(encoded((30, 20), "PNG")))
    opened.close()
    with pytest.raises(PictureError):
        read_image(opened)
