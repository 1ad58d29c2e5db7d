"""Large pictures in strips: the same picture as at once, and no second copy of the full size."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from retrieval.model.decoding import colours, strips
from retrieval.model.preprocessing import read_image

MODES = ("RGB", "L", "LA", "RGBA", "P", "1", "CMYK", "YCbCr")


def drawn(mode: str, width: int, height: int) -> Image.Image:
    noise = np.random.default_rng(width * height).integers(0, 256, (height, width, 4), np.uint8)
    return Image.fromarray(noise, "RGBA").convert(mode if mode != "P" else "RGB").convert(mode)


@settings(deadline=None, max_examples=60)
@given(st.sampled_from(MODES), st.integers(1, 90), st.integers(1, 90), st.integers(1, 9), st.integers(10, 900))
def test_strips_are_the_picture_at_once(mode: str, width: int, height: int, min_side: int, strip: int) -> None:
    image = drawn(mode, width, height)
    whole = colours.convert(image)
    factor = max(1, min(width, height) // (4 * min_side))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(strips, "_STRIP", strip)
        full = strips.convert_large(image, colours.convert, None)
        small = strips.convert_large(image, colours.convert, min_side)
    assert full.mode == small.mode == "RGB"
    np.testing.assert_array_equal(np.asarray(full), np.asarray(whole))
    np.testing.assert_array_equal(np.asarray(small), np.asarray(whole.reduce(factor)))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_large_picture_is_upright_and_keeps_its_size(monkeypatch: pytest.MonkeyPatch, orientation: int) -> None:
    monkeypatch.setattr(colours, "LARGE", 1000)
    image = Image.fromarray(np.kron(np.arange(24, dtype=np.uint8).reshape(4, 6) * 10, np.ones((20, 20), np.uint8)))
    exif = Image.Exif()
    exif[0x0112] = orientation
    image.info["exif"] = exif.tobytes()
    upright, info = read_image(image)
    assert info.size == upright.size == ((80, 120) if orientation > 4 else (120, 80))
    corner = {1: 0, 2: 50, 3: 230, 4: 180, 5: 0, 6: 180, 7: 230, 8: 50}[orientation]
    assert upright.getpixel((0, 0)) == (corner,) * 3


@pytest.mark.parametrize("dtype", ["uint16", "int32", "float32"])
@pytest.mark.parametrize("strip", [50, 10**6])
def test_grey_of_many_bits_has_one_scale_in_all_strips(monkeypatch: pytest.MonkeyPatch, dtype: str, strip: int) -> None:
    values = np.arange(40 * 30, dtype=dtype).reshape(40, 30) * (10 if dtype == "uint16" else -7)
    expected = np.asarray(read_image(Image.fromarray(values))[0])
    assert expected[0].min() < 9 or expected[-1].min() < 9
    monkeypatch.setattr(strips, "_STRIP", strip)
    monkeypatch.setattr(colours, "LARGE", 100)
    np.testing.assert_array_equal(np.asarray(read_image(Image.fromarray(values))[0]), expected)
