"""BMP, JPEG 2000 and PPM of all depths, read as they were written or refused with the cause."""

import base64
import io
import struct
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from retrieval.common.errors import PictureError
from retrieval.model.preprocessing import read_image

HEIGHT, WIDTH = 12, 16


def shades() -> NDArray[Any]:
    """Return a picture (H, W, 3) in [0, 1], with both ends of each channel."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    return np.stack([x / (WIDTH - 1), y / (HEIGHT - 1), (x + y) / (WIDTH + HEIGHT - 2)], 2)


def pixels(data: bytes) -> NDArray[np.uint8]:
    return np.asarray(read_image(data)[0])


def ppm(kind: str, values: NDArray[Any], most: int) -> bytes:
    if kind in ("P2", "P3"):
        body = " ".join(map(str, values.astype(int).ravel())).encode()
    else:
        body = values.astype("u1" if most < 256 else ">u2").tobytes()
    return f"{kind}\n# by hand\n{WIDTH} {HEIGHT}\n{most}\n".encode() + body


@pytest.mark.parametrize("most", [1, 2, 100, 255, 256, 1000, 4095, 30000, 65535])
@pytest.mark.parametrize("kind", ["P2", "P3", "P5", "P6"])
def test_ppm_of_any_full_scale(kind: str, most: int) -> None:
    values = np.round(shades()[..., : 3 if kind in ("P3", "P6") else 1] * most)
    assert np.abs(pixels(ppm(kind, values, most)) - values * 255 / most).max() <= 1


@pytest.mark.parametrize("depth", [8, 10, 12, 14])
@pytest.mark.parametrize("kind", ["P5", "P6"])
def test_ppm_of_few_bits_in_sixteen_is_not_black(kind: str, depth: int) -> None:
    values = np.round(shades()[..., : 3 if kind == "P6" else 1] * (2**depth - 1))
    assert np.abs(pixels(ppm(kind, values, 65535)) - values * 255 / (2**depth - 1)).max() <= 1


@pytest.mark.parametrize("kind", ["P5", "P6"])
def test_a_cut_ppm_is_refused(kind: str) -> None:
    data = ppm(kind, shades()[..., : 3 if kind == "P6" else 1] * 4095, 4095)
    with pytest.raises(PictureError, match="is damaged or not a picture: "):
        read_image(data[:-1])


def bmp(values: NDArray[np.uint8], masked: bool) -> bytes:
    """Return a BMP of (H, W, 4) red, green, blue, alpha; `masked`: its header says that there is alpha."""
    height, width = values.shape[:2]
    header = 108 if masked else 40
    info = struct.pack("<IiiHHIIiiII", header, width, height, 1, 32, 3 if masked else 0, 0, 0, 0, 0, 0)
    masks = struct.pack("<4I", 0xFF0000, 0xFF00, 0xFF, 0xFF000000) + bytes(52) if masked else b""
    body = values[::-1, :, [2, 1, 0, 3]].tobytes()
    start = 14 + len(info) + len(masks)
    return b"BM" + struct.pack("<IHHI", start + len(body), 0, 0, start) + info + masks + body


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("file_header", [0, 14])
def test_an_empty_alpha_of_bmp_hides_nothing(masked: bool, file_header: int) -> None:
    values = np.random.default_rng(0).integers(0, 256, (6, 5, 4), np.uint8)
    values[..., 3] = 0
    np.testing.assert_array_equal(pixels(bmp(values, masked)[file_header:]), values[..., :3])
    values[0, 0, 3] = 255
    if masked and not file_header:
        assert pixels(bmp(values, masked))[1, 1].tolist() == [255, 255, 255]


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA"])
def test_jpeg_2000_of_eight_bits_is_read(mode: str) -> None:
    image = Image.fromarray(np.round(shades() * 255).astype(np.uint8)).convert(mode)
    out = io.BytesIO()
    image.save(out, "JPEG2000", irreversible=False)
    np.testing.assert_array_equal(pixels(out.getvalue()), np.asarray(image.convert("RGB")))


def test_jpeg_2000_of_twelve_bits_of_grey_is_read() -> None:
    values = np.round(shades()[..., 0] * 4095)
    out = io.BytesIO()
    Image.fromarray(values.astype(np.uint16)).save(out, "JPEG2000", irreversible=False)
    assert np.abs(pixels(out.getvalue())[..., 0] - values * 255 / 4095).max() <= 1


# 32 x 32 pixels of 16 bits a colour, black above and white below, as OpenJPEG writes them.
DEEP = base64.b64decode(
    "/0//UQAvAAAAAAAgAAAAIAAAAAAAAAAAAAAAIAAAACAAAAAAAAAAAAADDwEBDwEBDwEB/1IADAAAAAEABQQEAAH/XAATQICIiJCI"
    "iJCIiJCIiJCIiJD/ZAAlAAFDcmVhdGVkIGJ5IE9wZW5KUEVHIHZlcnNpb24gMi41LjP/kAAKAAAAAAE6AAH/k8/8MAwG8ZfP/DAM"
    "BvGXz/wwDAbxl6f+JAYBbr+n/iQGAW6/p/4kBgFuv6P/BgSACaB2ZkTJEAAfo/8GBIAJoHZmRMkQAB+j/wYEgAmgdmZEyRAAH6f+"
    "JCQMeBHIdaQUknpysGyGJtZmZmen/iQkDHgRyHWkFJJ6crBshibWZmZnp/4kJAx4Ech1pBSSenKwbIYm1mZmZ6f+JEQA1MeL9wBw"
    "ISSYHrHrA849VRrnQ1zoa50Nc6GudDXOhrnPp/4kRADUx4v3AHAhJJgesesDzj1VGudDXOhrnQ1zoa50Nc6Guc+n/iREANTHi/cA"
    "cCEkmB6x6wPOPVUa50Nc6GudDXOhrnQ1zoa5z6P/BgOAZ2qq5T8Ef6P/BgOAZ2qq5T8Ef6P/BgOAZ2qq5T8Ef//Z"
)


def test_jpeg_2000_of_more_bits_in_colour_is_refused_where_white_may_be_black() -> None:
    with pytest.raises(PictureError) as raised:
        read_image(DEEP)
    expected = "is a JPEG 2000 of 16 bits in colour, which is not supported: save it as TIFF or PNG"
    assert raised.value.reason == expected
