"""PNGs of every depth and kind of colour, with much metadata, chunks out of order and broken checksums."""

import io
import itertools
import os
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from retrieval.common.errors import PictureError
from retrieval.model.decoding.png import SIGNATURE
from retrieval.model.preprocessing import read_image

GREY, COLOUR, PALETTE, GREY_ALPHA, COLOUR_ALPHA = 0, 2, 3, 4, 6
CHANNELS = {GREY: 1, COLOUR: 3, PALETTE: 1, GREY_ALPHA: 2, COLOUR_ALPHA: 4}
DEPTHS = {GREY: (1, 2, 4, 8, 16), COLOUR: (8, 16), PALETTE: (1, 2, 4, 8), GREY_ALPHA: (8, 16), COLOUR_ALPHA: (8, 16)}
KINDS = [(colour, bits) for colour, depths in DEPTHS.items() for bits in depths]
COLOURS = np.random.default_rng(1).integers(0, 256, (256, 3), np.uint8)
HEIGHT, WIDTH = 11, 13
Chunks = list[tuple[bytes, bytes]]


def packed(samples: NDArray[Any], bits: int) -> bytes:
    """Return rows of samples (h, w, c) as a PNG has them, not filtered."""
    rows = samples.reshape(len(samples), -1)
    if bits == 16:
        lines = rows.astype(">u2").view(np.uint8)
    else:
        split = rows[..., None].astype(np.uint8) >> np.arange(bits - 1, -1, -1, dtype=np.uint8) & 1
        lines = np.packbits(split.reshape(len(rows), -1), axis=1)
    return b"".join(b"\0" + line.tobytes() for line in lines)


def interlaced(samples: NDArray[Any], bits: int) -> bytes:
    steps = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))
    passes = (samples[top::down, left::right] for top, left, down, right in steps)
    return b"".join(packed(each, bits) for each in passes if each.size)


def chunks(samples: NDArray[Any], colour: int, bits: int, adam7: bool = False, hole: bytes = b"") -> Chunks:
    header = struct.pack(">IIBBBBB", samples.shape[1], samples.shape[0], bits, colour, 0, 0, adam7)
    data = zlib.compress((interlaced if adam7 else packed)(samples, bits))
    parts = [(b"IHDR", header), (b"IDAT", data), (b"IEND", b"")]
    if hole:
        parts.insert(1, (b"tRNS", hole))
    if colour == PALETTE:
        parts.insert(1, (b"PLTE", COLOURS[: 1 << bits].tobytes()))
    return parts


def joined(parts: Chunks, broken: int | None = None) -> bytes:
    """Return a file of chunks; that at the place `broken` has a wrong checksum."""
    return SIGNATURE + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data) ^ (place == broken))
        for place, (kind, data) in enumerate(parts)
    )


def pixels(data: bytes) -> NDArray[np.uint8]:
    return np.asarray(read_image(data)[0])


def samples_of(colour: int, bits: int, most: int | None = None) -> NDArray[Any]:
    """Return samples (h, w, c) of slopes, with both ends; all of them are opaque if there is alpha."""
    most = 2**bits - 1 if most is None else most
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    slopes = [(x / (WIDTH - 1)), (y / (HEIGHT - 1)), (x + y) / (WIDTH + HEIGHT - 2)]
    shown = np.round(np.stack(slopes[: 1 if CHANNELS[colour] < 3 else 3], 2) * most)
    opaque = np.full((HEIGHT, WIDTH, 1), 2**bits - 1)
    return np.concatenate([shown, opaque], 2) if colour in (GREY_ALPHA, COLOUR_ALPHA) else shown


def expected(samples: NDArray[Any], colour: int, full: int) -> Any:
    if colour == PALETTE:
        return COLOURS[samples[..., 0].astype(int)]
    shown = samples[..., : 3 if colour in (COLOUR, COLOUR_ALPHA) else 1] * 255 / full
    return np.broadcast_to(shown, (HEIGHT, WIDTH, 3))


@pytest.mark.parametrize("adam7", [False, True])
@pytest.mark.parametrize(("colour", "bits"), KINDS)
def test_every_depth_and_kind_is_read(colour: int, bits: int, adam7: bool) -> None:
    samples = samples_of(colour, bits)
    actual = pixels(joined(chunks(samples, colour, bits, adam7)))
    assert np.abs(actual - expected(samples, colour, 2**bits - 1)).max() <= 1


@pytest.mark.parametrize("adam7", [False, True])
@pytest.mark.parametrize("depth", [8, 9, 10, 12, 14, 15])
@pytest.mark.parametrize("colour", [GREY, COLOUR, GREY_ALPHA, COLOUR_ALPHA])
def test_few_bits_in_sixteen_are_not_black(colour: int, depth: int, adam7: bool) -> None:
    samples = samples_of(colour, 16, 2**depth - 1)
    scale = next(scale for scale in (8, 10, 12, 14, 16) if depth <= scale)
    actual = pixels(joined(chunks(samples, colour, 16, adam7)))
    assert np.abs(actual - expected(samples, colour, 2**scale - 1)).max() <= 1


def test_many_rows_of_few_bits_are_read_in_strips() -> None:
    samples = np.random.default_rng(0).integers(0, 4096, (600, 5, 3))
    samples[599, 4] = 4095
    assert np.abs(pixels(joined(chunks(samples, COLOUR, 16))) - samples * 255 / 4095).max() <= 1


@pytest.mark.parametrize(("colour", "bits"), [(GREY, 1), (GREY, 2), (GREY, 4), (GREY, 8), (GREY, 16), (COLOUR, 8)])
def test_one_transparent_value_is_white_and_no_other_is(colour: int, bits: int) -> None:
    channels = CHANNELS[colour]
    most = 2**bits - 1
    samples = np.array([0, 1 if bits < 2 else most // 3, most])[None, :, None].repeat(channels, 2)
    for place in range(3):
        hole = struct.pack(f">{channels}H", *samples[0, place])
        actual = pixels(joined(chunks(samples, colour, bits, hole=hole)))
        shown = np.where((samples == samples[0, place]).all(2, keepdims=True), 255, samples * (255 / most))
        assert np.abs(actual - np.broadcast_to(shown, (1, 3, 3))).max() <= 1


def test_a_transparent_value_of_sixteen_bits_is_compared_in_all_of_them() -> None:
    for channels, colour in ((1, GREY), (3, COLOUR)):
        samples = np.array([40000, 40001, 65535])[None, :, None].repeat(channels, 2)
        hole = struct.pack(f">{channels}H", *samples[0, 0])
        actual = pixels(joined(chunks(samples, colour, 16, hole=hole)))
        assert np.abs(actual[0, :, 0].astype(int) - [255, 156, 255]).max() <= 1


def with_metadata(kind: str, image: Image.Image) -> bytes:
    info, profile = PngInfo(), None
    much = "{'node': 1}" * 120_000
    if kind == "iCCP":
        profile = os.urandom(1_600_000)
    elif kind == "iTXt":
        info.add_itxt("XML:com.adobe.xmp", much, zip=True)
    elif kind == "many":
        for number in range(80):
            info.add_text(f"part {number}", "x" * 2**20, zip=True)
    else:
        info.add_text("workflow", much, zip=kind == "zTXt")
    exif = Image.Exif()
    exif[0x0112] = 6
    out = io.BytesIO()
    image.save(out, "PNG", pnginfo=info, icc_profile=profile, exif=exif, compress_level=1)
    return out.getvalue()


@pytest.mark.parametrize("kind", ["tEXt", "zTXt", "iTXt", "iCCP", "many"])
def test_megabytes_of_metadata_cost_neither_pixels_nor_orientation(kind: str) -> None:
    image = Image.fromarray(samples_of(COLOUR, 8).astype(np.uint8))
    turned = np.asarray(image.transpose(Image.Transpose.ROTATE_270))
    np.testing.assert_array_equal(pixels(with_metadata(kind, image)), turned)


def test_metadata_after_the_pixels_is_no_obstacle_either() -> None:
    samples = samples_of(COLOUR, 8)
    parts = chunks(samples, COLOUR, 8)
    parts.insert(-1, (b"zTXt", b"workflow\0\0" + zlib.compress(bytes(3 * 2**20))))
    np.testing.assert_array_equal(pixels(joined(parts)), samples)


def test_an_orientation_in_a_small_text_counts_beside_a_large_one() -> None:
    samples = samples_of(COLOUR, 8)
    parts = chunks(samples, COLOUR, 8)
    xmp = b'XML:com.adobe.xmp\0\0\0\0\0<rdf:Description tiff:Orientation="3"/>'
    parts[1:1] = [(b"zTXt", b"a\0\0" + zlib.compress(bytes(2**21))), (b"iTXt", xmp)]
    np.testing.assert_array_equal(pixels(joined(parts)), samples[::-1, ::-1])


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_chunks_in_any_order_give_the_same_picture(data: st.DataObject) -> None:
    colour, bits = data.draw(st.sampled_from(KINDS))
    samples = samples_of(colour, bits)
    header, *palette, (_, coded), end = chunks(samples, colour, bits)
    cut = data.draw(st.integers(1, len(coded) - 1))
    others = [*palette, (b"tEXt", b"a\0b"), (b"IDAT", coded[:cut]), (b"gAMA", struct.pack(">I", 45455))]
    mixed = data.draw(st.permutations(others))
    mixed.insert(data.draw(st.integers(mixed.index(others[-2]) + 1, len(mixed))), (b"IDAT", coded[cut:]))
    actual = pixels(joined([header, *mixed, end]))
    assert np.abs(actual - expected(samples, colour, 2**bits - 1)).max() <= 1


@pytest.mark.parametrize("place", range(5))
def test_a_broken_checksum_is_no_obstacle_beside_the_pixels(place: int) -> None:
    samples = samples_of(PALETTE, 8)
    parts = chunks(samples, PALETTE, 8)
    parts[1:1] = [(b"tEXt", b"a\0b"), (b"pHYs", bytes(9))]
    data = joined(parts, broken=place)
    if parts[place][0] in (b"IHDR", b"PLTE"):
        with pytest.raises(PictureError, match=r"^is damaged or not a picture: broken PNG file"):
            read_image(data)
    else:
        np.testing.assert_array_equal(pixels(data), expected(samples, PALETTE, 255))


def test_a_png_that_lacks_what_it_needs_is_refused() -> None:
    whole = chunks(samples_of(PALETTE, 8), PALETTE, 8)
    for missing, before in itertools.product((b"IHDR", b"PLTE", b"IDAT"), (True, False)):
        parts = [part for part in whole if part[0] != missing]
        with pytest.raises(PictureError, match=r"^is damaged or not a picture: "):
            read_image(joined(parts if before else parts[:-1]))


@pytest.mark.parametrize("share", [0.3, 0.6, 0.9, 0.99])
@pytest.mark.parametrize(("colour", "bits"), [(GREY, 4), (COLOUR, 8), (COLOUR, 16), (PALETTE, 8)])
def test_a_cut_png_is_refused(colour: int, bits: int, share: float) -> None:
    samples = np.random.default_rng(0).integers(0, 2**bits, (40, 40, CHANNELS[colour]))
    data = joined(chunks(samples, colour, bits)[:-1])
    with pytest.raises(PictureError, match=r"^is damaged or not a picture: "):
        read_image(data[: int(len(data) * share)])
