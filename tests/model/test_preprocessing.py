"""Decoding of every format and mode, upright and in RGB, and refusal of broken files with the reason."""

import hashlib
import io
import struct
import subprocess
import sys
import tracemalloc
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pillow_heif
import pytest
from numpy.typing import NDArray
from PIL import Image, TiffImagePlugin

from retrieval.common.errors import PictureError, SettingError
from retrieval.common.settings import Preprocessing
from retrieval.model.decoding import colours
from retrieval.model.preprocessing import Pixels, Source, input_box, normalise, read_at_size, read_image, to_pixels
from retrieval.sources.files import content_hash, is_picture_name, open_file
from tests.support.command import PROJECT
from tests.support.unprivileged import require_binding_permissions, run_unprivileged

RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)
NEARLY = 6  # tolerance for lossy formats in the middle of a plain area


def corners(width: int = 64, height: int = 48) -> Pixels:
    """Four quarters: red and green above, blue and white below."""
    pixels = np.empty((height, width, 3), np.uint8)
    pixels[: height // 2, : width // 2], pixels[: height // 2, width // 2 :] = RED, GREEN
    pixels[height // 2 :, : width // 2], pixels[height // 2 :, width // 2 :] = BLUE, WHITE
    return pixels


def written(image: Image.Image | NDArray[Any], kind: str, **options: Any) -> bytes:
    """Encode a picture as a file of this format."""
    if not isinstance(image, Image.Image):
        image = Image.fromarray(image)
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def pixels_of(source: Source, least_side: int | None = None) -> Pixels:
    image, _ = read_image(source, least_side)
    assert image.mode == "RGB"
    return np.asarray(image)


def quarters(pixels: Pixels) -> list[tuple[int, ...]]:
    """Return the colours in the middle of the four quarters, row by row."""
    height, width = pixels.shape[:2]
    middles = [(y, x) for y in (height // 4, 3 * height // 4) for x in (width // 4, 3 * width // 4)]
    return [tuple(map(int, pixels[middle])) for middle in middles]


def assert_quarters(pixels: Pixels, expected: list[tuple[int, int, int]], tolerance: int = NEARLY) -> None:
    np.testing.assert_allclose(quarters(pixels), expected, atol=tolerance)


def reason(source: Source) -> str:
    with pytest.raises(PictureError) as raised:
        read_image(source)
    return raised.value.reason


# --- formats


LOSSLESS: list[tuple[str, dict[str, Any]]] = [
    *(("PNG", {}), ("BMP", {}), ("PPM", {}), ("TIFF", {}), ("DIB", {})),
    *(("TIFF", {"compression": "tiff_lzw"}), ("WEBP", {"lossless": True}), ("JPEG2000", {"irreversible": False})),
]


@pytest.mark.parametrize(("kind", "options"), LOSSLESS)
def test_lossless_formats_keep_every_pixel(kind: str, options: dict[str, Any]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (33, 47, 3), np.uint8)
    actual, info = read_image(written(pixels, kind, **options))
    np.testing.assert_array_equal(np.asarray(actual), pixels)
    assert (info.width, info.height) == (47, 33)


LOSSY: list[tuple[str, dict[str, Any]]] = [
    ("JPEG", {"quality": 95}),
    ("JPEG", {"quality": 95, "progressive": True}),
    ("WEBP", {"quality": 95}),
    ("AVIF", {"quality": 95}),
    ("HEIF", {"quality": 95}),
    ("GIF", {}),
    ("MPO", {"quality": 95}),
]


@pytest.mark.parametrize(("kind", "options"), LOSSY)
def test_lossy_formats_keep_the_colours(kind: str, options: dict[str, Any]) -> None:
    pillow_heif.register_heif_opener()
    assert_quarters(pixels_of(written(corners(), kind, **options)), [RED, GREEN, BLUE, WHITE])


def test_a_grey_jpeg_is_grey() -> None:
    pixels = pixels_of(written(np.full((8, 8), 77, np.uint8), "JPEG", quality=100))
    np.testing.assert_allclose(pixels, 77, atol=1)


@pytest.mark.parametrize("least_side", [None, 8])
def test_cmyk_jpeg(least_side: int | None) -> None:
    # Red, green, blue, white as cyan, magenta, yellow without black.
    inks = 255 - corners(64, 64)
    cmyk = Image.fromarray(np.concatenate([inks, np.zeros((64, 64, 1), np.uint8)], 2), "CMYK")
    assert_quarters(pixels_of(written(cmyk, "JPEG", quality=95), least_side), [RED, GREEN, BLUE, WHITE], 12)


def test_the_first_frame_of_an_animation_is_read() -> None:
    frames = [Image.new("RGB", (16, 16), colour) for colour in ("red", "lime", "blue")]
    for kind in ("GIF", "WEBP", "PNG", "TIFF"):
        options = {"lossless": True} if kind == "WEBP" else {}
        data = written(frames[0], kind, save_all=True, append_images=frames[1:], **options)
        assert_quarters(pixels_of(data), [RED] * 4, 2)


# --- modes


def test_one_bit_is_black_and_white() -> None:
    bits = np.array([[True, False], [False, True]])
    for kind in ("PNG", "TIFF", "BMP", "PPM"):
        assert pixels_of(written(Image.fromarray(bits), kind))[..., 0].tolist() == [[255, 0], [0, 255]]


def test_eight_bit_grey_stays_as_it_is() -> None:
    grey = np.arange(256, dtype=np.uint8).reshape(16, 16)
    pixels = pixels_of(written(grey, "PNG"))
    assert all((pixels[..., channel] == grey).all() for channel in range(3))


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
@pytest.mark.parametrize(("scale", "most"), [(65535, 65535), (4095, 4095), (1023, 1000), (255, 255), (255, 200)])
def test_sixteen_bit_grey_spans_the_bits_that_it_uses(kind: str, scale: int, most: int) -> None:
    values = np.array([[0, most // 4], [most // 2, most]], np.uint16)
    expected = np.round(values * (255 / scale))
    actual = pixels_of(written(values, kind))
    np.testing.assert_array_equal(actual, np.repeat(expected[..., None], 3, 2))


def tiff(values: NDArray[Any], sample_format: int = 1) -> bytes:
    """Make an uncompressed little-endian TIFF of (H, W, C) samples, which Pillow cannot write for colour."""
    height, width, channels = values.shape
    bits = values.dtype.itemsize * 8
    data = np.ascontiguousarray(values).tobytes()
    count = 10
    after = 8 + 2 + 12 * count + 4
    shorts = struct.pack(f"<{channels}H", *[bits] * channels)
    tags = [
        (256, 3, 1, width),
        (257, 3, 1, height),
        (258, 3, channels, after if channels > 2 else bits),
        (259, 3, 1, 1),
        (262, 3, 1, 2 if channels == 3 else 1),
        (273, 4, 1, after + len(shorts)),
        (277, 3, 1, channels),
        (278, 3, 1, height),
        (279, 4, 1, len(data)),
        (339, 3, 1, sample_format),
    ]
    entries = b"".join(struct.pack("<HHII", *tag) for tag in tags)
    return b"II*\0" + struct.pack("<IH", 8, count) + entries + struct.pack("<I", 0) + shorts + data


def test_sixteen_bit_colour_tiff_keeps_the_upper_bits() -> None:
    values = np.array([[[65535, 0, 256], [0, 32768, 65280]]], np.uint16)
    assert pixels_of(tiff(values)).tolist() == [[[255, 0, 1], [0, 128, 255]]]


def test_sixteen_bit_colour_png_keeps_the_upper_bits() -> None:
    values = np.array([[[65535, 0, 256], [0, 32768, 65280]]], ">u2")
    assert pixels_of(png((2, 1), 16, 2, b"\0" + values.tobytes())).tolist() == [[[255, 0, 1], [0, 128, 255]]]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0.0, 0.5, 1.0], [0, 128, 255]),  # fractions
        ([0.0, 0.25, 0.5], [0, 64, 128]),
        ([0.0, 100.0, 255.0], [0, 100, 255]),
        ([-1.0, 0.0, 1.0], [0, 128, 255]),  # stretched
        ([0.0, 5e5, 1e6], [0, 128, 255]),
        ([-5.0, -5.0, -5.0], [0, 0, 0]),
        ([0.0, 0.0, 0.0], [0, 0, 0]),
        ([1e9, 1e9, 1e9], [0, 0, 0]),
        ([float("nan"), 0.5, 1.0], [0, 128, 255]),
        ([float("inf"), float("-inf"), 1.0], [0, 0, 255]),
    ],
)
def test_float_tiff(values: list[float], expected: list[int]) -> None:
    actual = pixels_of(written(np.array([values], np.float32), "TIFF"))
    assert actual[0, :, 0].tolist() == expected


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0, 100, 255], [0, 100, 255]),
        ([-50, 0, 150], [0, 64, 255]),
        ([10, 10**6 + 10], [0, 255]),
        ([7, 7, 7], [7, 7, 7]),
    ],
)
def test_thirty_two_bit_integers(values: list[int], expected: list[int]) -> None:
    assert pixels_of(written(np.array([values], np.int32), "TIFF"))[0, :, 0].tolist() == expected


@pytest.mark.parametrize("kind", ["uint16", "int32", "float32", "negative", "fractions"])
def test_many_bits_are_converted_in_strips(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    values: NDArray[Any] = np.random.default_rng(0).uniform(0, 1 if kind == "fractions" else 60_000, (19, 13))
    values = (values - 1000 * (kind == "negative")).astype(kind if kind in ("uint16", "int32") else "float32")
    values[3, 4] = 0
    whole = pixels_of(Image.fromarray(values))
    monkeypatch.setattr(colours, "_STRIP", 10)
    np.testing.assert_array_equal(pixels_of(Image.fromarray(values)), whole)
    assert len(np.unique(whole)) > 90


def test_many_bits_need_little_more_memory_than_they_hold() -> None:
    values = np.full((2000, 3000), 1000, np.uint16)
    tracemalloc.start()
    colours.to_eight_bits(values)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < values.size + 40e6


def test_transparency_lies_on_white() -> None:
    rgba = np.array([[[255, 0, 0, 255], [0, 0, 0, 0], [0, 0, 0, 51]]], np.uint8)
    expected = [[[255, 0, 0], [255, 255, 255], [204, 204, 204]]]
    for kind in ("PNG", "TIFF"):
        assert pixels_of(written(rgba, kind)).tolist() == expected
    assert pixels_of(written(rgba, "WEBP", lossless=True, exact=True)).tolist() == expected


def test_grey_with_transparency_lies_on_white() -> None:
    la = Image.fromarray(np.array([[[10, 255], [10, 0], [0, 51]]], np.uint8), "LA")
    assert pixels_of(written(la, "PNG"))[0, :, 0].tolist() == [10, 255, 204]


def palette() -> Image.Image:
    image = Image.new("P", (3, 1))
    image.putpalette([*RED, *GREEN, *BLUE])
    image.putdata([0, 1, 2])
    return image


def test_palettes_give_their_colours() -> None:
    for kind in ("PNG", "GIF", "TIFF", "BMP"):
        assert pixels_of(written(palette(), kind)).tolist() == [[list(RED), list(GREEN), list(BLUE)]]


def test_a_palettes_transparent_colour_is_white() -> None:
    for kind in ("PNG", "GIF"):
        actual = pixels_of(written(palette(), kind, transparency=1))
        assert actual.tolist() == [[list(RED), list(WHITE), list(BLUE)]]


def test_a_palette_with_levels_of_transparency() -> None:
    actual = pixels_of(written(palette(), "PNG", transparency=bytes([255, 0, 51])))
    assert actual.tolist() == [[list(RED), list(WHITE), [204, 204, 255]]]


def test_a_transparent_grey_or_colour_of_png_is_white() -> None:
    grey = written(np.array([[10, 20]], np.uint8), "PNG", transparency=20)
    assert pixels_of(grey)[0, :, 0].tolist() == [10, 255]
    colour = written(np.array([[RED, GREEN]], np.uint8), "PNG", transparency=GREEN)
    assert pixels_of(colour).tolist() == [[list(RED), list(WHITE)]]


def test_lab_tiff_is_converted() -> None:
    # L 255 is white and L 0 black; a and b of 0 are neutral.
    lab = Image.frombytes("LAB", (2, 1), bytes([255, 0, 0, 0, 0, 0]))
    np.testing.assert_allclose(pixels_of(written(lab, "TIFF")), [[[255] * 3, [0] * 3]], atol=2)


# --- sources


def test_every_source_gives_the_same_pixels(tmp_path: Path) -> None:
    data = written(corners(), "PNG")
    (tmp_path / "a.png").write_bytes(data)
    image = Image.open(io.BytesIO(data))
    sources: list[Source] = [tmp_path / "a.png", str(tmp_path / "a.png"), data, image, corners()]
    for source in sources:
        np.testing.assert_array_equal(pixels_of(source), corners())
        assert (read_image(source)[1].width, read_image(source)[1].height) == (64, 48)


def test_an_open_file_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(written(corners(), "PNG"))
    with open_file(tmp_path / "a.png") as file:
        np.testing.assert_array_equal(np.asarray(read_image(file)[0]), corners())


def test_an_array_may_be_a_view() -> None:
    np.testing.assert_array_equal(pixels_of(corners()[::-1, ::2]), corners()[::-1, ::2])


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((4, 4, 3), np.float32),
        np.zeros((4, 4), np.uint8),
        np.zeros((4, 4, 4), np.uint8),
        np.zeros((3, 4, 4), np.uint8),
        np.zeros((0, 4, 3), np.uint8),
        np.zeros((1, 4, 4, 3), np.uint8),
    ],
)
def test_arrays_of_another_kind_are_refused(array: NDArray[Any]) -> None:
    assert reason(array) == f"must be an (H, W, 3) uint8 array, not {array.shape} {array.dtype}"


def test_pil_images_of_any_mode_are_taken_and_left_as_they_are() -> None:
    for mode in (
        "1",
        "L",
        "P",
        "RGB",
        "RGBA",
        "LA",
        "CMYK",
        "YCbCr",
        "HSV",
        "I",
        "F",
        "I;16",
        "RGBX",
        "PA",
        "La",
        "RGBa",
    ):
        image = Image.new(mode, (5, 4))
        assert pixels_of(image).shape == (4, 5, 3)
        assert (image.mode, image.size) == (mode, (5, 4))


# --- EXIF


# What is stored for each orientation, so that it is upright once turned: rows of letters.
STORED = {1: "RG BW", 2: "GR WB", 3: "WB GR", 4: "BW RG", 5: "RB GW", 6: "GW RB", 7: "WG BR", 8: "BR WG"}
LETTERS = {"R": RED, "G": GREEN, "B": BLUE, "W": WHITE}


def turned(orientation: int, side: int = 32) -> Image.Image:
    """Return the stored picture whose upright form has the colours of `corners`, 2 side wide and side high."""
    rows = STORED[orientation].split()
    small = np.array([[LETTERS[letter] for letter in row] for row in rows], np.uint8)
    size = (2 * side, side) if orientation < 5 else (side, 2 * side)
    return Image.fromarray(small).resize(size, Image.Resampling.NEAREST)


def with_orientation(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP", "JPEG"])
def test_orientation_is_undone(orientation: int, kind: str) -> None:
    options = {"lossless": True} if kind == "WEBP" else {}
    data = written(turned(orientation), kind, exif=with_orientation(orientation), **options)
    image, info = read_image(data)
    assert image.size == (info.width, info.height) == (64, 32)
    assert_quarters(np.asarray(image), [RED, GREEN, BLUE, WHITE])


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_undone_when_decoded_small(orientation: int) -> None:
    data = written(turned(orientation, 512), "JPEG", exif=with_orientation(orientation))
    image, info = read_image(data, min_side=100)
    assert (info.width, info.height) == (1024, 512)
    assert image.size == (256, 128)
    assert_quarters(np.asarray(image), [RED, GREEN, BLUE, WHITE])


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_orientations_of_no_meaning_are_left_alone(orientation: int) -> None:
    image, info = read_image(written(corners(), "PNG", exif=with_orientation(orientation)))
    assert image.size == (info.width, info.height) == (64, 48)
    np.testing.assert_array_equal(np.asarray(image), corners())


def with_exif(tags: dict[int, Any] | None = None, gps: dict[int, Any] | None = None, changed: Any = None) -> bytes:
    exif = Image.Exif()
    if tags:
        exif.get_ifd(0x8769).update(tags)
    if gps:
        exif.get_ifd(0x8825).update(gps)
    if changed is not None:
        exif[306] = changed
    return written(corners(), "JPEG", exif=exif)


def test_time_and_place_are_read() -> None:
    gps = {1: "S", 2: (33.0, 51.0, 36.0), 3: "E", 4: (151.0, 12.0, 30.0)}
    info = read_image(with_exif({36867: "2021:02:03 04:05:06"}, gps))[1]
    assert info.taken_at == "2021-02-03T04:05:06"
    assert datetime.fromisoformat(info.taken_at) == datetime(2021, 2, 3, 4, 5, 6)
    assert info.latitude == pytest.approx(-33.86)
    assert info.longitude == pytest.approx(151 + 12.5 / 60)


def test_the_time_of_digitising_or_of_change_is_used_instead() -> None:
    assert read_image(with_exif({36868: "2020:01:01 00:00:00"}))[1].taken_at == "2020-01-01T00:00:00"
    assert read_image(with_exif(changed="2019:12:31 23:59:59"))[1].taken_at == "2019-12-31T23:59:59"
    both = with_exif({36868: "2020:01:01 00:00:00", 36867: "2018:01:01 00:00:00"})
    assert read_image(both)[1].taken_at == "2018-01-01T00:00:00"


@pytest.mark.parametrize(
    "time", ["", "0000:00:00 00:00:00", "    :  :     :  :  ", "2021-02-03", "2021:13:01 00:00:00", "x"]
)
def test_nonsense_times_are_none(time: str) -> None:
    assert read_image(with_exif({36867: time}))[1].taken_at is None


@pytest.mark.parametrize(
    "gps",
    [
        {1: "N", 2: (91.0, 0.0, 0.0), 3: "E", 4: (0.0, 0.0, 0.0)},
        {1: "N", 2: (0.0, 0.0, 0.0), 3: "W", 4: (180.0, 0.0, 1.0)},
        {1: "N", 2: (1.0, 2.0, 3.0)},
        {2: (1.0, 2.0, 3.0), 4: (1.0, 2.0, 3.0)},
        {1: "N", 2: (1.0, 2.0), 3: "E", 4: (1.0, 2.0, 3.0)},
        {1: "N", 2: (TiffImagePlugin.IFDRational(0, 0),) * 3, 3: "E", 4: (1.0, 2.0, 3.0)},
    ],
)
def test_nonsense_places_are_none(gps: dict[int, Any]) -> None:
    info = read_image(with_exif(gps=gps))[1]
    assert (info.latitude, info.longitude) == (None, None)


@pytest.mark.parametrize(
    "exif", [b"Exif\0\0" + b"\xff" * 40, b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0", b"nothing"]
)
def test_broken_exif_does_not_cost_the_picture(exif: bytes) -> None:
    image, info = read_image(written(corners(), "JPEG", quality=95, exif=exif))
    assert_quarters(np.asarray(image), [RED, GREEN, BLUE, WHITE])
    assert (info.width, info.height, info.taken_at, info.latitude) == (64, 48, None, None)


# --- size


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(size: tuple[int, int], bits: int = 8, kind: int = 2, rows: bytes = b"") -> bytes:
    """Make a PNG whose header claims this size, with these filtered rows."""
    header = struct.pack(">IIBBBBB", *size, bits, kind, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def test_a_header_that_claims_too_many_pixels_is_refused_before_decoding(monkeypatch: pytest.MonkeyPatch) -> None:
    def decoded(image: Image.Image) -> None:
        raise AssertionError("was decoded")

    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", decoded)
    assert reason(png((100_000, 100_000))) == (
        "has 10,000 megapixels, more than the limit of 200 (raise it with RETRIEVE_MAX_MEGAPIXELS)"
    )


def test_pillows_own_limit_stays_the_hosts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for kind in ("PNG", "JPEG", "GIF", "BMP", "PPM", "JPEG2000", "AVIF", "HEIF"):
            assert pixels_of(written(corners(), kind)).shape == (48, 64, 3)
        assert (
            reason(written(corners(), "TIFF")) == "has more pixels than Pillow allows for this format: raise its limit"
        )
    assert Image.MAX_IMAGE_PIXELS == 100
    code = "from PIL import Image; a = Image.MAX_IMAGE_PIXELS; import retrieval, retrieval.model.preprocessing, cli;"
    code += "assert Image.MAX_IMAGE_PIXELS == a"
    subprocess.run([sys.executable, "-c", code], cwd=PROJECT, check=True)


def test_pictures_between_pillows_limit_and_ours_are_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A header of 190 megapixels is not refused for its size; its decoding is stopped as it would take seconds."""

    def decoded(image: Image.Image) -> None:
        raise OSError("was decoded")

    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", decoded)
    with ThreadPoolExecutor(4) as threads:
        reasons = set(threads.map(reason, [png((19_000, 10_000))] * 40))
    assert reasons == {"is damaged or not a picture: was decoded"}


def test_the_limit_is_that_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    data = written(np.zeros((1000, 1001, 3), np.uint8), "PNG")
    monkeypatch.setenv("RETRIEVE_MAX_MEGAPIXELS", "1.002")
    assert pixels_of(data).shape == (1000, 1001, 3)
    monkeypatch.setenv("RETRIEVE_MAX_MEGAPIXELS", "1")
    assert reason(data).startswith("has 1 megapixels, more than the limit of 1 ")
    assert reason(np.zeros((1000, 1001, 3), np.uint8)).startswith("has 1 megapixels")


@pytest.mark.parametrize("value", ["many", "", "nan", "inf"])
def test_a_limit_that_is_no_number_is_refused(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("RETRIEVE_MAX_MEGAPIXELS", value)
    with pytest.raises(SettingError, match="RETRIEVE_MAX_MEGAPIXELS"):
        read_image(corners())


def test_a_panorama_is_squashed_whole() -> None:
    pixels = np.zeros((2, 30000, 3), np.uint8)
    pixels[:, :15000], pixels[:, 15000:] = RED, BLUE
    for kind in ("PNG", "JPEG"):
        squashed, info = read_at_size(io.BytesIO(written(pixels, kind)), 224)
        assert (info.width, info.height, squashed.shape) == (30000, 2, (224, 224, 3))
        assert_quarters(squashed, [RED, BLUE, RED, BLUE])


def test_one_pixel_fills_the_square() -> None:
    squashed, info = read_at_size(io.BytesIO(written(np.array([[[1, 2, 3]]], np.uint8), "PNG")), 8)
    assert (info.width, info.height) == (1, 1)
    assert (squashed == [1, 2, 3]).all()


@pytest.mark.parametrize(
    ("size", "least_side", "expected"),
    [
        ((800, 600), 100, (200, 150)),  # a quarter; an eighth would be 100 x 75
        ((800, 800), 100, (100, 100)),
        ((800, 800), 101, (200, 200)),
        ((800, 800), 1, (100, 100)),
        ((800, 600), 700, (800, 600)),
        ((800, 600), None, (800, 600)),
    ],
)
def test_jpegs_are_decoded_small_and_never_too_small(
    size: tuple[int, int], least_side: int | None, expected: tuple[int, int]
) -> None:
    image, info = read_image(written(corners(*size), "JPEG"), least_side)
    assert image.size == expected
    assert (info.width, info.height) == size
    assert_quarters(np.asarray(image), [RED, GREEN, BLUE, WHITE])


# --- what is no picture


def test_an_empty_file() -> None:
    assert reason(b"") == "is empty"


@pytest.mark.parametrize("data", [b"x", b"this is text, not a picture", b"\0" * 100, b"<svg></svg>", b"%PDF-1.4"])
def test_what_is_no_picture(data: bytes) -> None:
    assert reason(data) == "is not a picture in a known format"


def test_formats_beyond_the_list_are_not_opened() -> None:
    for kind in ("ICO", "TGA", "PCX", "PDF", "EPS"):
        assert reason(written(corners(), kind)) == "is not a picture in a known format"


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF", "HEIF", "JPEG2000", "BMP", "PPM"])
@pytest.mark.parametrize("share", [0.02, 0.5, 0.9])
def test_truncated_pictures_are_refused(kind: str, share: float) -> None:
    pillow_heif.register_heif_opener()
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    data = written(noise, kind)
    assert reason(data[: int(len(data) * share)]).startswith(("is damaged or not a picture", "is not a picture"))


def test_broken_compressed_data_of_png_is_refused() -> None:
    data = bytearray(written(corners(), "PNG"))
    start = data.index(b"IDAT") + 4
    data[start : start + 8] = b"\xff" * 8
    assert reason(bytes(data)).startswith("is damaged or not a picture: ")


def test_damaged_data_in_the_middle_of_a_png_is_refused() -> None:
    data = bytearray(written(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8), "PNG"))
    data[len(data) // 2] ^= 0xFF
    assert reason(bytes(data)).startswith("is damaged or not a picture: ")


def test_a_broken_checksum_of_png_costs_nothing_where_the_pixels_are_whole() -> None:
    data = bytearray(written(corners(), "PNG"))
    data[data.index(b"IEND") - 5] ^= 0xFF  # the last byte of the checksum of the pixels
    np.testing.assert_array_equal(pixels_of(bytes(data)), corners())


def read_or_reason(data: bytes) -> str:
    """Return the mode of a decoded picture, or why it cannot be decoded."""
    try:
        return read_image(data)[0].mode
    except PictureError as error:
        return error.reason


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "GIF", "BMP", "PPM", "JPEG2000", "AVIF"])
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_damaged_bytes_give_a_picture_or_a_reason(kind: str) -> None:
    random = np.random.default_rng(5)
    good = written(corners(), kind)
    for _ in range(10):
        data = bytearray(good)
        for position in random.integers(0, len(data), 12):
            data[position] = int(random.integers(0, 256))
        actual = read_or_reason(bytes(data))
        assert actual == "RGB" or actual.startswith(("is damaged", "is not a picture", "is a TIFF", "has "))


# --- files


def test_a_missing_file_and_a_dangling_link(tmp_path: Path) -> None:
    (tmp_path / "link.jpg").symlink_to("nothing")
    assert reason(tmp_path / "nothing.jpg") == "does not exist"
    assert reason(tmp_path / "link.jpg") == "is a link to nothing"


def test_a_folder_is_not_a_regular_file(tmp_path: Path) -> None:
    assert reason(tmp_path) == "is not a regular file"
    assert reason("/dev/null") == "is not a regular file"


def test_an_error_names_the_path(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").touch()
    with pytest.raises(PictureError) as raised:
        read_image(tmp_path / "a.jpg")
    assert str(raised.value) == f"{tmp_path / 'a.jpg'} is empty"


def test_a_file_without_permission(tmp_path: Path) -> None:
    require_binding_permissions(tmp_path)
    file = tmp_path / "a.png"
    file.write_bytes(written(corners(), "PNG"))
    file.chmod(0)
    done = run_unprivileged(
        "import sys\nfrom retrieval.model.preprocessing import read_image\nread_image(sys.argv[1])", file
    )
    assert done.stderr.splitlines()[-1].endswith(f"{file} cannot be read: Permission denied")


def test_a_content_hash_is_that_of_all_bytes(tmp_path: Path) -> None:
    data = np.random.default_rng(0).bytes(300_000)
    (tmp_path / "a").write_bytes(data)
    with open_file(tmp_path / "a") as file:
        assert content_hash(file) == hashlib.sha256(data).digest()
        assert file.read(4) == data[:4]


@pytest.mark.parametrize("name", ["a.jpg", "a.JPEG", "b/c.HeIc", "x.tif", "a.b.png", "-.webp"])
def test_names_of_pictures(name: str) -> None:
    assert is_picture_name(name)
    assert is_picture_name(Path(name))


@pytest.mark.parametrize("name", ["a.txt", "jpg", ".jpg", "a.jpg~", "a.jpg.part", "a.svg", "a", "a.jpg "])
def test_names_of_other_things(name: str) -> None:
    assert not is_picture_name(name)


# --- to the network


@pytest.mark.parametrize(
    ("size", "box"),
    [
        ((100, 100), (0, 0, 100, 100)),
        ((400, 100), (100, 0, 300, 100)),  # the root of 400 x 100 is 200
        ((100, 400), (0, 100, 100, 300)),
        ((30000, 2), (14877, 0, 15122, 2)),  # the root of 60000 is 244.9
        ((3, 1), (0, 0, 2, 1)),
        ((1, 1), (0, 0, 1, 1)),
    ],
)
def test_the_longer_side_is_cropped_to_the_root_of_the_area(
    size: tuple[int, int], box: tuple[int, int, int, int]
) -> None:
    assert input_box(*size) == box


def test_what_is_beyond_the_box_is_not_seen() -> None:
    pixels = np.zeros((100, 400, 3), np.uint8)
    pixels[:, 100:300] = GREEN
    seen = to_pixels(Image.fromarray(pixels), 32)
    assert (seen[:, 1:-1] == GREEN).all()  # the outermost columns may mix with their neighbours


def test_normalise_by_hand() -> None:
    pixels = np.array([[[10, 20, 30], [110, 120, 130]]], np.uint8)  # (1, 2, 3)
    actual = normalise(pixels, Preprocessing(2, (10.0, 10.0, 30.0), (100.0, 10.0, 50.0)))
    assert actual.tolist() == [[[0.0, 1.0]], [[1.0, 11.0]], [[0.0, 2.0]]]
    assert (str(actual.dtype), actual.shape, actual.flags.c_contiguous) == ("float32", (3, 1, 2), True)


def test_what_is_seen_is_squashed_to_a_square() -> None:
    squashed = to_pixels(Image.fromarray(corners(300, 40)), 64)
    assert (squashed.shape, str(squashed.dtype)) == ((64, 64, 3), "uint8")
    assert_quarters(squashed, [RED, GREEN, BLUE, WHITE])


@pytest.mark.parametrize("source", [None, 3, ["a.jpg"]])
def test_other_sources_are_refused(source: Any) -> None:
    assert reason(source).startswith("a picture must be a path, bytes, a PIL image or an (H, W, 3) uint8 array, not ")


def test_a_name_that_no_file_can_have() -> None:
    assert reason("a\0b") == "has a name that no file can have"
