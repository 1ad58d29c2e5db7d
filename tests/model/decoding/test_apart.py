"""A process apart, for files that may take minutes: the same picture, an end to what takes long, and failures told."""

import io
import struct
import sys
import time
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pillow_heif
import pytest
from PIL import Image

from retrieval.common.errors import PictureError, TransientPictureError
from retrieval.model.decoding import apart
from retrieval.model.preprocessing import read_at_size, read_image


def box(kind: bytes, *parts: bytes, version: int | None = None) -> bytes:
    content = (b"" if version is None else bytes([version, 0, 0, 0])) + b"".join(parts)
    return struct.pack(">I", len(content) + 8) + kind + content


def grid(tile: int, rows: int, columns: int, canvas: int) -> bytes:
    """Make a HEIC that shows the same tile in rows and columns."""
    pillow_heif.register_heif_opener()
    out = io.BytesIO()
    Image.new("RGB", (tile, tile), (200, 30, 40)).save(out, "HEIF", quality=50)
    coded, count = out.getvalue(), rows * columns
    starts = (coded.index(kind) - 4 for kind in (b"hvcC", b"mdat"))
    settings, data = (coded[at:][: int.from_bytes(coded[at : at + 4])] for at in starts)
    data = data[8:]
    shape = bytes([0, 0, rows - 1, columns - 1]) + struct.pack(">HH", canvas, canvas)
    items = (box(b"infe", struct.pack(">HH", n, 0), kind, b"\0", version=2) for n, kind in ((1, b"hvc1"), (2, b"grid")))
    properties = box(b"ipco", settings, *(box(b"ispe", struct.pack(">II", s, s), version=0) for s in (tile, canvas)))
    owners = struct.pack(">IHB", 2, 1, 2) + b"\x81\x02" + struct.pack(">HB", 2, 1) + b"\x03"
    head = (
        box(b"hdlr", b"\0\0\0\0pict", bytes(13), version=0) + box(b"pitm", struct.pack(">H", 2), version=0),
        box(b"iinf", struct.pack(">H", 2), *items, version=0),
        box(b"iref", box(b"dimg", struct.pack(">HH", 2, count), struct.pack(">H", 1) * count), version=0),
        box(b"iprp", properties, box(b"ipma", owners, version=0)) + box(b"idat", shape),
    )

    def build(start: int) -> bytes:
        places = struct.pack(">HHHHHII", 2, 1, 0, 0, 1, start, len(data)) + struct.pack(">HHHHII", 2, 1, 0, 1, 0, 8)
        meta = box(b"meta", *head, box(b"iloc", b"\x44\x00", places, version=1), version=0)
        return box(b"ftyp", b"heic\0\0\0\0mif1heic") + meta + box(b"mdat", data)

    return build(build(0).index(b"mdat") + 4)


def jpeg_2000(side: int, layers: int = 1) -> bytes:
    """Make a JPEG 2000 of small precincts, with a header of so many layers of quality."""
    pixels = np.random.default_rng(0).integers(0, 256, (side // 8, side // 8, 3), np.uint8)
    out = io.BytesIO()
    Image.fromarray(pixels.repeat(8, 0).repeat(8, 1)).save(out, "JPEG2000", precinct_size=(64, 64))
    content = bytearray(out.getvalue())
    at = content.index(b"\xff\x52")
    content[at + 6 : at + 8] = struct.pack(">H", layers)
    return bytes(content)


def test_a_picture_decoded_apart_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    for content, min_side in ((jpeg_2000(256), 224), (jpeg_2000(256), None)):
        image, info = read_image(content, min_side)
        with monkeypatch.context() as patch:
            patch.setattr(apart, "_is_apart", True)
            here, info_here = read_image(content, min_side)
        np.testing.assert_array_equal(np.asarray(image), np.asarray(here))
        assert (image.mode, info) == ("RGB", info_here)


def test_what_is_odd_is_decoded_apart() -> None:
    def is_odd(content: bytes) -> bool:
        file = io.BytesIO(content)
        with Image.open(file) as image:
            return apart.may_take_long(image, file)

    jpeg = io.BytesIO()
    Image.new("RGB", (9, 9)).save(jpeg, "JPEG")
    assert not is_odd(jpeg.getvalue())
    assert not is_odd(grid(128, 2, 2, 256))  # as a telephone makes
    assert is_odd(grid(2048, 16, 16, 64))
    assert is_odd(jpeg_2000(256))


def test_items_that_are_made_of_each_other_have_no_end() -> None:
    def references(*of: tuple[int, tuple[int, ...]]) -> bytes:
        size = box(b"ispe", struct.pack(">II", 10, 10), version=0)
        each = (box(b"dimg", struct.pack(f">HH{len(to)}H", item, len(to), *to)) for item, to in of)
        return size + box(b"iref", *each, version=0)

    assert apart._tiled_pixels(references((2, (1,) * 6))) == 600
    assert apart._tiled_pixels(references((2, (1,) * 6), (3, (2,) * 50))) == 30_000
    assert apart._tiled_pixels(references((2, (3,)), (3, (2,)))) == float("inf")
    assert apart._tiled_pixels(references(*((n, (n + 1,)) for n in range(1, 5000)))) == float("inf")
    assert apart._tiled_pixels(b"iref") == apart._tiled_pixels(b"\xff\xff\xff\xffiref\0\0\0\0\xff\xff\xff\xffdimg") == 0


def test_a_tile_that_is_shown_hundreds_of_times_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apart, "_SECONDS", 1)
    started = time.monotonic()
    with pytest.raises(PictureError, match="takes too long to decode: save it anew, as a plain JPEG"):
        read_at_size(grid(2048, 25, 32, 64), 224)
    assert time.monotonic() - started < 30


@pytest.mark.parametrize(("starts", "expected"), [("raise SystemExit(7)", "with code 7"), ("", "with code 0")])
def test_a_process_that_ends_is_the_picture_s_failure(
    monkeypatch: pytest.MonkeyPatch, starts: str, expected: str
) -> None:
    monkeypatch.setattr(apart, "_START", starts)
    with pytest.raises(PictureError, match=f"ends its decoder {expected}: save it anew") as raised:
        read_image(jpeg_2000(64))
    assert not isinstance(raised.value, TransientPictureError)


@pytest.mark.skipif(sys.platform != "linux", reason="needs the limits of Linux")
def test_a_process_takes_no_more_memory_than_it_may(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apart, "_START", apart._START.replace("{!r})", "2 ** 20)"))
    with pytest.raises(TransientPictureError, match="needs 92 MB of memory to be decoded, and 1 MB are free"):
        read_image(jpeg_2000(2048))
    monkeypatch.setattr(apart, "_START", "import os; os.kill(os.getpid(), 9)")
    with pytest.raises(TransientPictureError, match="needs more memory than is free"):
        read_image(jpeg_2000(64))


def test_what_is_wrong_with_the_picture_is_what_the_process_says(tmp_path: Path) -> None:
    file = tmp_path / "a.jp2"
    file.write_bytes(jpeg_2000(256)[:-20000])
    with pytest.raises(PictureError, match=f"{file} is damaged or not a picture: ") as raised:
        read_image(file)
    assert not isinstance(raised.value, TransientPictureError)


def test_without_a_process_it_is_decoded_here(monkeypatch: pytest.MonkeyPatch) -> None:
    expected, info = read_image(jpeg_2000(64))
    monkeypatch.setattr(sys, "executable", "/does/not/exist")
    here, info_here = read_image(jpeg_2000(64))
    assert expected.tobytes() == here.tobytes()
    assert asdict(info) == asdict(info_here)
