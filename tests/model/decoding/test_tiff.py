"""A matrix of TIFFs, each read as it was written or refused with the cause; and which page is the picture."""

import io
import itertools
import struct
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from retrieval.common.errors import PictureError
from retrieval.model.preprocessing import read_image
from tests.support.tiffs import DEFLATE, LZW, PACKBITS, RAW, Kind, Tags, tiff

Samples = Any
HEIGHT, WIDTH = 19, 23
WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, PALETTE, CMYK, YCBCR, LAB, ICC_LAB = CHANNELS = {
    **{0: 1, 1: 1, 2: 3, 3: 1},
    **{5: 4, 6: 3, 8: 3, 9: 3},
}
UNSIGNED, SIGNED, FLOAT = 1, 2, 3
COLOURS = np.random.default_rng(3).integers(0, 65536, (256, 3))


def shades(photometric: int) -> Samples:
    """Return a picture in [0, 1] of slopes in several directions: with both ends of each channel, if not of LAB."""
    y, x = np.mgrid[:HEIGHT, :WIDTH] / (HEIGHT - 1)
    slopes = (x, y, x + y, x * y)
    whole = np.stack([slope / slope.max() for slope in slopes[: CHANNELS[photometric]]], 2)
    if photometric in (LAB, ICC_LAB):  # colours that sRGB has
        return whole * [0.4, 0.05, 0.05] + ([0.3, 0, 0] if photometric == LAB else [0.3, 0.47, 0.47])
    return whole


def in_rgb(fractions: Samples, samples: Samples, photometric: int) -> Samples:
    """Return what samples show, in [0, 255]: worked out here, without a decoder."""
    if photometric == PALETTE:
        return COLOURS[samples[..., 0].astype(int)] >> 8
    if photometric == CMYK:
        return (1 - fractions[..., :3]) * (1 - fractions[..., 3:]) * 255
    if photometric == YCBCR:
        light, blue, red = np.moveaxis(np.round(fractions * 255), 2, 0) - np.array([[[0]], [[128]], [[128]]])
        mixed = (light + 1.402 * red, light - 0.344136 * blue - 0.714136 * red, light + 1.772 * blue)
        return np.clip(np.stack(mixed, 2), 0, 255)
    if photometric in (LAB, ICC_LAB):
        return from_lab(fractions, photometric)
    grey = np.broadcast_to(fractions, (HEIGHT, WIDTH, 3)) * 255
    return 255 - grey if photometric == WHITE_IS_ZERO else grey


def from_lab(fractions: Samples, photometric: int) -> Samples:
    """Return sRGB of L* a* b*, whose white is D50 (Lindbloom's matrix)."""
    stored = np.floor(fractions * 255)
    signed = stored[..., 1:] - 128 if photometric == ICC_LAB else (stored[..., 1:] + 128) % 256 - 128
    y = (stored[..., 0] / 2.55 + 16) / 116
    root = np.stack([y + signed[..., 0] / 500, y, y - signed[..., 1] / 200], 2)
    xyz = np.where(root > 6 / 29, root**3, 3 * (6 / 29) ** 2 * (root - 4 / 29)) * [0.96422, 1, 0.82521]
    matrix = [[3.1339, -1.6169, -0.4906], [-0.9788, 1.9161, 0.0335], [0.0719, -0.2290, 1.4052]]
    linear = np.clip(xyz @ np.array(matrix).T, 0, 1)
    return 255 * np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)


def written(fractions: Samples, kind: Kind) -> Samples:
    if kind.sample_format == FLOAT:
        return fractions
    depth = min(kind.bits, 16) - (kind.sample_format == SIGNED)
    return np.round(fractions * (2**depth - 1))


def cells() -> Iterator[Kind]:
    """Yield every depth with each colour, sign, order of planes and of bytes; each way to pack them with some."""
    depths = {UNSIGNED: (1, 2, 4, 8, 10, 12, 14, 16, 24, 32, 64), SIGNED: (8, 16), FLOAT: (16, 32, 64)}
    for (sample_format, some), photometric, planar, order in itertools.product(
        depths.items(), CHANNELS, (1, 2), ("<", ">")
    ):
        if planar == 2 and CHANNELS[photometric] == 1:
            continue
        for bits in some:
            plain = Kind(bits, photometric, sample_format, planar, order=order)
            yield plain
            if bits not in (1, 8, 12, 16, 32) or photometric not in (BLACK_IS_ZERO, RGB) or order == "<":
                continue
            yield from (plain._replace(compression=packed) for packed in (LZW, DEFLATE, PACKBITS))
            yield from (plain._replace(tile=16), plain._replace(fill_order=2))
            if bits in (8, 16, 32):
                yield plain._replace(compression=LZW, predictor=2, tile=16)
            if sample_format == FLOAT:
                yield plain._replace(compression=DEFLATE, predictor=3)


def is_read(kind: Kind) -> bool:
    """Return whether there are such pictures: the others are refused."""
    if kind.photometric == PALETTE:
        return kind.sample_format == UNSIGNED and kind.bits <= 8
    if kind.photometric == YCBCR:
        return kind.bits == 8 and kind.sample_format == UNSIGNED
    if kind.photometric in (LAB, ICC_LAB):
        return kind.bits in (8, 16) and kind.sample_format == UNSIGNED
    return True


def colour_map(kind: Kind) -> Tags:
    count = 1 << min(kind.bits, 8)
    return {320: (3, tuple(COLOURS[:count].T.ravel().tolist()))} if kind.photometric == PALETTE else {}


def test_each_tiff_is_read_as_it_was_written_or_refused_with_the_cause() -> None:
    wrong, counts = [], Counter[str]()
    for kind in cells():
        samples = written(fractions := shades(kind.photometric), kind)
        data = tiff((samples, kind), more=colour_map(kind))
        try:
            actual = np.asarray(read_image(data)[0]).astype(float)
        except PictureError as error:
            counts["refused"] += 1
            if is_read(kind) or not error.reason.startswith("is a TIFF that is not supported: its "):
                wrong.append((kind, error.reason))
            continue
        counts["read"] += 1
        if kind.sample_format != FLOAT and kind.photometric not in (LAB, ICC_LAB):
            fractions = samples / max(1, samples.max())
        off = np.abs(actual - in_rgb(fractions, samples, kind.photometric)).max()
        if not is_read(kind) or off > (6 if kind.photometric in (LAB, ICC_LAB) else 1.6):
            wrong.append((kind, f"off by {off}"))
    assert not wrong, (len(wrong), wrong[:5])
    assert counts == {"read": 382, "refused": 196}  # as docs/FORMATS.md says


def reason(data: bytes) -> str:
    with pytest.raises(PictureError) as raised:
        read_image(data)
    return raised.value.reason


def plain(grey: int, side: int = 20) -> Samples:
    return np.full((side, side, 3), grey)


def levels(data: bytes) -> tuple[int, tuple[int, int]]:
    """Return the grey of a plain picture, and its size."""
    image, info = read_image(data)
    assert image.size == info.size
    return int(np.asarray(image)[0, 0, 0]), info.size


COLOUR = Kind(photometric=RGB)
PREVIEW, PAGE, MASK = (COLOUR._replace(subfile=subfile) for subfile in (1, 2, 4))


def test_the_largest_page_that_is_no_preview_is_the_picture() -> None:
    small, large = plain(50, 10), plain(200, 40)
    for pages in (
        [(small, PREVIEW), (large, COLOUR)],
        [(small, COLOUR), (large, COLOUR)],  # nothing says that it is a preview
        [(large, COLOUR), (small, PREVIEW)],
        [(plain(9, 80), PREVIEW), (large, COLOUR)],
        [(plain(9, 80), MASK), (large, COLOUR)],
        [(small, PREVIEW), (large, PREVIEW)],
        [(large, COLOUR), (plain(9, 40), COLOUR)],  # the first of those of one size
        [(large, PAGE), (plain(9, 41), PAGE)],  # the first page of a document
    ):
        assert levels(tiff(*pages)) == (200, (40, 40))
        assert levels(tiff(*[(samples, kind._replace(order=">")) for samples, kind in pages])) == (200, (40, 40))


def test_a_page_within_a_page_may_be_the_picture() -> None:
    assert levels(tiff((plain(50, 10), PREVIEW), inside=(plain(200, 40), COLOUR))) == (200, (40, 40))
    assert levels(tiff((plain(200, 40), COLOUR), inside=(plain(50, 10), PREVIEW))) == (200, (40, 40))


def test_the_picture_behind_a_preview_is_read_from_a_file(tmp_path: Path) -> None:
    samples = np.random.default_rng(0).integers(0, 256, (64, 48, 3))
    for kind in (COLOUR, COLOUR._replace(compression=LZW), COLOUR._replace(planar=2), COLOUR._replace(bits=16)):
        (tmp_path / "a.tif").write_bytes(
            tiff((plain(50, 10), PREVIEW), (samples * (257 if kind.bits > 8 else 1), kind))
        )
        np.testing.assert_array_equal(np.asarray(read_image(tmp_path / "a.tif")[0]), samples)


def large_page(grey: int, side: int, at: int, subfile: int, inside: tuple[int, ...] = ()) -> bytes:
    """Return a page of grey pixels of a BigTIFF, to be put at an offset: its directory comes first."""
    tags = [(254, 4, 1, subfile), (256, 4, 1, side), (257, 4, 1, side), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1)]
    tags += [(277, 3, 1, 1), (278, 4, 1, side), (279, 4, 1, side * side), *((330, 18, 1, page) for page in inside)]
    tags.append((273, 16, 1, at + 8 + 20 * (len(tags) + 1) + 8))
    entries = b"".join(struct.pack("<HHQQ", *tag) for tag in sorted(tags))
    return struct.pack("<Q", len(tags)) + entries + bytes(8) + bytes([grey]) * side * side


def test_a_page_within_a_page_of_a_large_file_may_be_the_picture() -> None:
    header = b"II+\0" + struct.pack("<HHQ", 8, 0, 16)
    preview = large_page(50, 4, 16, 1, inside=(16 + len(large_page(50, 4, 16, 1, inside=(0,))),))
    assert levels(header + preview + large_page(200, 40, 16 + len(preview), 0)) == (200, (40, 40))
    assert reason(b"MM\0+" + bytes(99)).startswith("is a TIFF that is not supported: a BigTIFF")


def test_pages_that_go_round_in_circles_end() -> None:
    data = bytearray(tiff((plain(200), COLOUR)))
    data[-4:] = data[4:8]
    assert levels(bytes(data)) == (200, (20, 20))


def test_when_is_read_from_the_preview_too() -> None:
    exif = Image.Exif()
    exif[306], exif[254] = "2020:02:03 04:05:06", 1
    out = io.BytesIO()
    Image.new("RGB", (8, 8)).save(out, "TIFF", exif=exif, save_all=True, append_images=[Image.new("RGB", (40, 40))])
    _, info = read_image(out.getvalue())
    assert (info.size, info.taken_at) == ((40, 40), "2020-02-03T04:05:06")


@pytest.mark.parametrize("orientation", range(1, 9))
def test_pages_that_are_read_here_are_upright_as_those_of_pillow(orientation: int) -> None:
    turn: Tags = {274: (3, (orientation,))}
    samples = np.round(shades(RGB)[:, :11] * 255)
    by_pillow, its_info = read_image(tiff((samples, COLOUR), more=turn))
    here, info = read_image(tiff((samples, COLOUR._replace(planar=2)), more=turn))
    assert info == its_info
    assert info.size == here.size == ((11, 19) if orientation < 5 else (19, 11))
    np.testing.assert_array_equal(np.asarray(here), np.asarray(by_pillow))


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("planar", [1, 2])
@pytest.mark.parametrize("depth", [9, 10, 12, 14, 16])
def test_colours_of_few_bits_in_sixteen_are_not_black(order: str, planar: int, depth: int) -> None:
    values = np.round(shades(RGB) * (2**depth - 1))
    actual = np.asarray(read_image(tiff((values, Kind(16, RGB, planar=planar, order=order))))[0])
    scale = next(scale for scale in (10, 12, 14, 16) if depth <= scale)
    assert np.abs(actual - values * 255 / (2**scale - 1)).max() <= 1


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("planar", [1, 2])
@pytest.mark.parametrize("photometric", [BLACK_IS_ZERO, RGB])
def test_alpha_lies_on_white(bits: int, planar: int, photometric: int) -> None:
    full, channels = 2**bits - 1, CHANNELS[photometric] + 1
    samples = np.full((2, 2, channels), full // 2)
    samples[0, :, -1], samples[1, :, -1] = full, 0
    for extra, expected in {(2,): [127, 255], (0,): [127, 127], (): [127, 255]}.items():
        kind = Kind(bits, photometric, planar=planar, extra=extra)
        assert np.abs(np.asarray(read_image(tiff((samples, kind)))[0])[:, 0, 0] - np.array(expected)).max() <= 1
    samples[1] = 0  # colours that are multiplied by no alpha
    kind = Kind(bits, photometric, planar=planar, extra=(1,))
    assert np.abs(np.asarray(read_image(tiff((samples, kind)))[0])[:, 0, 0] - np.array([127, 255])).max() <= 1


@pytest.mark.parametrize(("bits", "planar"), [(8, 1), (8, 2), (16, 2)])
def test_a_fourth_sample_that_nothing_explains_is_no_alpha_where_it_is_empty(bits: int, planar: int) -> None:
    samples = np.full((4, 4, 4), 100 * 2 ** (bits - 8))
    samples[..., 3] = 0
    assert levels(tiff((samples, Kind(bits, RGB, planar=planar))))[0] == 100


def test_strips_whose_lengths_are_not_said_are_read() -> None:
    samples = np.round(shades(RGB) * 65535)
    for kind in (Kind(16, RGB, planar=2), Kind(16, RGB, planar=2, compression=DEFLATE)):
        data = tiff((samples, kind), more={279: (4, ())})
        assert np.abs(np.asarray(read_image(data)[0]) - samples * (255 / 65535)).max() <= 1


def test_a_palette_of_eight_bits_is_not_black() -> None:
    entries = (*range(4), *range(100, 104), *range(200, 204))
    data = tiff((np.full((2, 2, 1), 2), Kind(2, PALETTE)), more={320: (3, entries)})
    assert np.asarray(read_image(data)[0])[0, 0].tolist() == [2, 102, 202]


@pytest.mark.parametrize("across", [1, 2, 4])
@pytest.mark.parametrize("down", [1, 2])
def test_pixels_that_share_colours(across: int, down: int) -> None:
    y, x = np.mgrid[:8, :8]
    light = np.clip(y * 16 + x * 8 + 50, 0, 255).astype(np.uint8)
    units = light.reshape(8 // down, down, 8 // across, across).swapaxes(1, 2).reshape(8 // down, 8 // across, -1)
    colours = np.full((*units.shape[:2], 2), 128, np.uint8)
    strip = np.concatenate([units, colours], 2).tobytes()
    kind = Kind(photometric=YCBCR, rows=8)
    data = tiff((np.zeros((8, 8, 3)), kind), more={530: (3, (across, down))}, segments=[strip])
    np.testing.assert_array_equal(np.asarray(read_image(data)[0]), np.repeat(light[..., None], 3, 2))


def test_negative_values_are_stretched_together() -> None:
    samples = np.array([[[-100, 27, 155]]])
    assert np.asarray(read_image(tiff((samples, Kind(16, RGB, SIGNED))))[0]).tolist() == [[[0, 127, 255]]]


@pytest.mark.parametrize(
    ("bits", "sample_format", "nothing"), [(32, FLOAT, -3.4028234663852886e38), (16, SIGNED, -9999)]
)
def test_values_that_stand_for_nothing_are_black(bits: int, sample_format: int, nothing: float) -> None:
    samples = np.array([[[0], [250], [500], [1000], [nothing]]])
    text = f"{nothing}\0".encode()
    out = tiff((samples, Kind(bits, BLACK_IS_ZERO, sample_format)), more={42113: (2, tuple(text))})
    assert np.abs(np.asarray(read_image(out)[0])[0, :, 0] - np.array([0, 62, 125, 249, 0])).max() <= 1


REFUSED: list[tuple[bytes, str]] = [
    (tiff((np.zeros((2, 2, 1)), Kind(photometric=32803))), "its colours are of kind 32803"),
    (tiff((np.zeros((2, 2, 1)), Kind(32, 1, 5, order="<"))), "its samples are complex numbers or of no known format"),
    (tiff((np.zeros((2, 2, 1)), Kind(17, 1))), "its samples have 17 bits"),
    (tiff((np.zeros((2, 2, 2)), Kind(8, RGB))), "its pixels have 2 samples"),
    (tiff((np.zeros((2, 2, 3)), Kind(8, 1))), "its pixels have 3 samples"),
    (tiff((np.zeros((2, 2, 1)), Kind(4, PALETTE))), "its palette is missing"),
    (tiff((np.zeros((2, 2, 3)), Kind(8, RGB)), more={258: (3, (5, 6, 5))}), "its samples differ in depth"),
    (tiff((np.zeros((2, 2, 3)), Kind(8, RGB)), more={339: (3, (1, 2, 1))}), "its samples differ in format"),
    (tiff((np.zeros((2, 2, 3)), Kind(8, RGB)), more={259: (3, (34712,))}), "compression 34712"),
]


@pytest.mark.parametrize(("data", "cause"), REFUSED, ids=[cause for _, cause in REFUSED])
def test_what_cannot_be_read_is_refused_with_the_cause(data: bytes, cause: str) -> None:
    assert reason(data).startswith(f"is a TIFF that is not supported: {cause}")


@pytest.mark.parametrize("compression", [RAW, LZW, DEFLATE, PACKBITS])
@pytest.mark.parametrize("bits", [8, 12, 16])
def test_a_cut_tiff_is_refused(compression: int, bits: int) -> None:
    samples = np.random.default_rng(0).integers(0, 2**bits, (50, 50, 3))
    data = tiff((samples, Kind(bits, RGB, compression=compression, rows=50)))
    assert reason(data[:3000]).startswith("is damaged or not a picture: ")
    cut = tiff((samples, Kind(bits, RGB, compression=compression, rows=50)), segments=[data[8:3000]])
    assert reason(cut).startswith("is damaged or not a picture: ")
