"""Samples of a TIFF's page, of any depth, sign, order of planes and lossless compression, as a picture.

Pillow reads 8 bits well; it takes some other kinds for what they are not, and refuses the rest.
"""

import io
import math
import struct
import zlib
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, TiffImagePlugin

from retrieval.common.errors import PictureError
from retrieval.model.decoding.colours import Scale, bounds
from retrieval.model.decoding.limits import within_time

Samples = NDArray[Any]
Tags = TiffImagePlugin.ImageFileDirectory_v2
_COLOURS = {0: 1, 1: 1, 2: 3, 3: 1, 5: 4, 6: 3, 8: 3, 9: 3}  # samples of a pixel, by photometric interpretation
_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _PALETTE, _CMYK, _YCBCR, _LAB, _ICC_LAB = _COLOURS
_RAW, _DEFLATES, _BY_LIBTIFF = 1, (8, 32946), (5, 32773, 34925, 50000)  # LZW, PackBits, LZMA, Zstandard
_UNSIGNED, _SIGNED, _FLOAT, _VOID = 1, 2, 3, 4
_DEPTHS = {_UNSIGNED: (*range(1, 17), 24, 32, 64), _SIGNED: (8, 16, 32, 64), _FLOAT: (16, 32, 64)}
_MULTIPLIED = 1  # of ExtraSamples: colours are multiplied by it
_REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))
_BITS_AT_ONCE = 2**22


def numbers(tags: Tags, tag: int, default: tuple[int, ...] = ()) -> tuple[int, ...]:
    """Return a tag's values. Raises TypeError and ValueError if they are no numbers."""
    values = tags.get(tag, default)
    return tuple(int(value) for value in (values if isinstance(values, tuple) else (values,)))


def is_left_to_pillow(tags: Tags) -> bool:
    """Return whether Pillow reads the page right: compressed by JPEG or fax, or of plain samples."""
    photometric, (compression,) = numbers(tags, 262, (0,))[0], numbers(tags, 259, (1,))
    shared = photometric == _YCBCR and numbers(tags, 530, (1, 1)) != (1, 1)  # pixels share colours
    if compression not in (_RAW, *_DEFLATES, *_BY_LIBTIFF) or (shared and compression != _RAW):
        return True
    depths, formats = numbers(tags, 258, (1,)), set(numbers(tags, 339, (1,)))
    channels = numbers(tags, 277, (len(depths),))[0]
    if (
        formats != {_UNSIGNED}
        or numbers(tags, 266, (1,)) != (1,)
        or (channels > 1 and numbers(tags, 284, (1,)) != (1,))
    ):
        return False
    deepest = 8 if photometric in (_WHITE_IS_ZERO, _PALETTE, _CMYK, _LAB) else 16
    old_palette = photometric == _PALETTE and max(numbers(tags, 320, (0,))) < 256
    key = (tags.prefix, photometric, (1,), 1, depths * (channels // len(depths)))
    known = (*key, numbers(tags, 338)) in TiffImagePlugin.OPEN_INFO
    return known and max(depths) <= deepest and depths[0] != 12 and photometric != _YCBCR and not old_palette


class SampleLayout(NamedTuple):
    """How the samples of a page lie in its file."""

    width: int
    height: int
    photometric: int
    bits: int
    sample_format: int
    channels: int
    alpha: int | None  # the kind of ExtraSamples, 0 if it is not said; None: there is no alpha
    is_planar: bool
    compression: int
    predictor: int
    is_reversed: bool
    order: str
    palette: tuple[int, ...]
    nothing: float | None  # the value of pixels that have none, as GDAL writes it
    subsampling: tuple[int, ...]
    is_tiled: bool
    segment: tuple[int, int]  # width and height of a strip or a tile
    places: tuple[tuple[int, int], ...]  # where each begins, and its length

    @property
    def colours(self) -> int:
        """The samples of a pixel that make its colour."""
        return _COLOURS[self.photometric]

    @property
    def dtype(self) -> np.dtype[Any]:
        """The type of a sample in memory."""
        kind = {_UNSIGNED: "u", _SIGNED: "i", _FLOAT: "f"}[self.sample_format]
        return np.dtype(f"{kind}{next(size for size in (1, 2, 4, 8) if 8 * size >= self.bits)}")


def layout_of(tags: Tags) -> SampleLayout:
    """Return the layout of a page. Raises PictureError, naming the cause, if such samples cannot be read."""
    (width,), (height,) = numbers(tags, 256), numbers(tags, 257)
    photometric, compression = numbers(tags, 262, (0,))[0], numbers(tags, 259, (1,))[0]
    depths, formats = numbers(tags, 258, (1,)), numbers(tags, 339, (1,))
    channels, extra = numbers(tags, 277, (len(depths),))[0], numbers(tags, 338)
    sample_format = _UNSIGNED if formats[0] == _VOID else formats[0]
    beyond = channels - _COLOURS.get(photometric, channels)
    tiled = 324 in tags
    starts = numbers(tags, 324 if tiled else 273)
    layout = SampleLayout(
        width=width,
        height=height,
        photometric=photometric,
        bits=depths[0],
        sample_format=sample_format,
        channels=channels,
        alpha=_alpha_of(photometric, extra, beyond),
        is_planar=channels > 1 and numbers(tags, 284, (1,))[0] == 2,
        compression=compression,
        predictor=1 if compression in (_RAW, 32773) else numbers(tags, 317, (1,))[0],
        is_reversed=numbers(tags, 266, (1,))[0] == 2,
        order="<" if tags.prefix == b"II" else ">",
        palette=numbers(tags, 320),
        nothing=_nothing(tags),
        subsampling=numbers(tags, 530, (2, 2)),
        is_tiled=tiled,
        segment=(numbers(tags, 322)[0], numbers(tags, 323)[0])
        if tiled
        else (width, min(height, numbers(tags, 278, (height,))[0])),
        places=tuple(zip(starts, numbers(tags, 325 if tiled else 279) or (-1,) * len(starts), strict=False)),
    )
    if fault := _fault(layout, set(depths), set(formats), beyond):
        raise PictureError(f"is a TIFF that is not supported: {fault}")
    return layout


def _nothing(tags: Tags) -> float | None:
    with suppress(ValueError):
        return float(str(tags.get(42113)).strip("\0 "))
    return None


def _alpha_of(photometric: int, extra: tuple[int, ...], beyond: int) -> int | None:
    if photometric not in (_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB):
        return None
    return (extra[0] or None) if extra else 0 if beyond == 1 else None


def _fault(layout: SampleLayout, depths: set[int], formats: set[int], beyond: int) -> str | None:
    """Return why a page cannot be read here, or None if it can."""
    bits, photometric, predictor = layout.bits, layout.photometric, layout.predictor
    many = photometric in (_WHITE_IS_ZERO, _BLACK_IS_ZERO, _PALETTE) and beyond > 1 and layout.alpha is None
    faults = {
        f"its colours are of kind {photometric}": photometric not in _COLOURS,
        "its samples differ in depth": len(depths) > 1,
        "its samples differ in format": len(formats) > 1,
        "its samples are complex numbers or of no known format": layout.sample_format not in _DEPTHS,
        f"its samples have {bits} bits": bits not in _DEPTHS.get(layout.sample_format, (bits,)),
        f"its pixels have {layout.channels} samples": beyond < 0 or many,
        "its samples are not whole numbers without a sign": photometric in (_PALETTE, _YCBCR, _LAB, _ICC_LAB)
        and layout.sample_format != _UNSIGNED,
        f"its YCbCr colours have {bits} bits": photometric == _YCBCR and bits != 8,
        f"its LAB colours have {bits} bits": photometric in (_LAB, _ICC_LAB) and bits not in (8, 16),
        "its palette is missing": photometric == _PALETTE and (bits > 16 or len(layout.palette) < 3 << bits),
        f"its predictor is {predictor}": predictor not in (1, 2, 3)
        or (predictor == 2 and bits not in (8, 16, 32, 64))
        or (predictor == 3 and layout.sample_format != _FLOAT),
        "its tiles are far larger than it": math.prod(layout.segment) > max(2**24, 4 * layout.width * layout.height),
        "it does not say where its samples are": not layout.places or min(layout.segment) < 1,
    }
    return next((fault for fault, is_so in faults.items() if is_so), None)


def read_picture(file: Any, layout: SampleLayout) -> Image.Image:
    """Read a page as a picture of 8 bits. Raises PictureError."""
    needed = layout.colours + (layout.alpha is not None)
    pixels = np.zeros((layout.height, layout.width, 3 if layout.photometric == _PALETTE else needed), np.uint8)
    colour, alpha = _scales(file, layout)
    for (rows, columns, first), values in _segments(file, layout):
        if layout.photometric == _PALETTE:
            pixels[rows, columns] = _palette(layout)[values[..., 0]]
            continue
        for band in range(min(values.shape[2], needed - first)):
            scale = colour if first + band < layout.colours else alpha
            pixels[rows, columns, first + band] = scale.apply(values[..., band])
    return _to_image(pixels, layout)


def _palette(layout: SampleLayout) -> NDArray[np.uint8]:
    """Return the palette (N, 3); some programs write its colours in 8 bits, not in 16."""
    colours = np.array(layout.palette[: 3 << layout.bits], np.uint16).reshape(3, -1).T
    return (colours >> (8 if colours.max() > 255 else 0)).astype(np.uint8)


def _scales(file: Any, layout: SampleLayout) -> tuple[Scale, Scale]:
    """Return the scales of colours and alpha: that of the bits or, from 16 bits, of the values."""
    if layout.photometric in (_LAB, _ICC_LAB):
        return (Scale(0.0, 255.0 if layout.bits == 8 else 65535.0),) * 2
    if layout.photometric == _PALETTE or (layout.sample_format == _UNSIGNED and layout.bits < 16):
        return (Scale(0.0, float((1 << layout.bits) - 1)),) * 2
    found: tuple[list[float], list[float]] = ([], [])
    for (_, _, first), values in _segments(file, layout):
        for kind, part in zip(found, np.split(values, [max(0, layout.colours - first)], 2), strict=True):
            kind += bounds(part) if part.size else ()
    colour, alpha = (Scale.of(min(kind or [0.0]), max(kind or [0.0]), layout.dtype) for kind in found)
    return colour, alpha


def _to_image(pixels: NDArray[np.uint8], layout: SampleLayout) -> Image.Image:
    """Return the picture in the mode of its colours, with its alpha if it is not zero everywhere by accident."""
    if layout.photometric == _WHITE_IS_ZERO:
        pixels[..., 0] = 255 - pixels[..., 0]
    if layout.alpha == 0 and not pixels[..., -1].any():
        pixels = pixels[..., : layout.colours]
    if layout.photometric == _ICC_LAB:
        pixels[..., 1:] ^= 128
    grey = pixels.shape[2] < 3
    modes = {_CMYK: "CMYK", _YCBCR: "YCbCr", _LAB: "LAB", _ICC_LAB: "LAB"}
    mode = modes.get(layout.photometric, "L" if grey else "RGB")
    if pixels.shape[2] > layout.colours and layout.photometric not in (_PALETTE, *modes):
        mode += "a" if layout.alpha == _MULTIPLIED else "A"
    return Image.frombytes(mode, (layout.width, layout.height), pixels.tobytes(), "raw", mode)


def _segments(file: Any, layout: SampleLayout) -> Iterator[tuple[tuple[slice, slice, int], Samples]]:
    """Yield the strips or tiles: which rows, columns and first sample they hold, and the samples (h, w, n)."""
    wide, high = layout.segment
    across, down = math.ceil(layout.width / wide), math.ceil(layout.height / high)
    needed = layout.colours + (layout.alpha is not None)
    channels = 1 if layout.is_planar else layout.channels
    planes = needed if layout.is_planar else 1
    if len(layout.places) < planes * across * down:
        raise PictureError("is damaged or not a picture: a part of the TIFF is missing")
    for number in within_time(range(planes * across * down)):
        plane, place = divmod(number, across * down)
        top, left = place // across * high, place % across * wide
        rows = high if layout.is_tiled else min(high, layout.height - top)
        start, length = layout.places[number]
        file.seek(start)
        values = _samples(file.read(length), layout, rows, wide, channels)
        values = values[: layout.height - top, : layout.width - left, : 1 if layout.is_planar else needed]
        yield (slice(top, top + values.shape[0]), slice(left, left + values.shape[1]), plane), values


def _samples(data: bytes, layout: SampleLayout, rows: int, wide: int, channels: int) -> Samples:
    """Return the samples (rows, wide, channels) of a strip or tile."""
    row_bytes = (wide * channels * layout.bits + 7) // 8
    if layout.is_reversed:
        data = data.translate(_REVERSED)
    if layout.photometric == _YCBCR and layout.compression == _RAW and len(data) < rows * row_bytes:
        return _subsampled(data, layout.subsampling, rows, wide)
    lines = np.frombuffer(_expand(data, layout.compression, row_bytes, rows), np.uint8)
    if len(lines) < rows * row_bytes:
        raise PictureError("is damaged or not a picture: a part of the TIFF is cut off")
    lines = lines[: rows * row_bytes].reshape(rows, row_bytes)
    if layout.predictor == 3:
        lines = np.cumsum(lines.reshape(rows, -1, channels), 1, np.uint8)
        lines = lines.reshape(rows, layout.bits // 8, -1).transpose(0, 2, 1)  # the bytes of a number lay apart
        values = np.ascontiguousarray(lines).view(f">f{layout.bits // 8}")
    else:
        values = _unpack(lines, layout, wide * channels)
    values = values.reshape(rows, wide, channels)
    if layout.predictor == 2:
        whole = np.dtype(f"u{layout.dtype.itemsize}")
        values = np.cumsum(values.view(values.dtype.str.replace("f", "u").replace("i", "u")), 1, whole)
        values = values.view(layout.dtype)
    values = values.astype(layout.dtype, copy=False)
    is_measured = layout.bits >= 16 and layout.photometric in (_WHITE_IS_ZERO, _BLACK_IS_ZERO)
    return np.where(values == layout.nothing, 0, values) if is_measured and layout.nothing is not None else values


def _unpack(lines: NDArray[np.uint8], layout: SampleLayout, count: int) -> Samples:
    """Return the samples (rows, count) of packed rows of bytes."""
    bits = layout.bits
    if bits == 24:
        parts = lines.reshape(len(lines), count, 3).astype(np.uint32)
        low, high = (0, 2) if layout.order == "<" else (2, 0)
        return parts[..., low] | parts[..., 1] << 8 | parts[..., high] << 16
    if bits in (8, 16, 32, 64):
        return lines.view(layout.dtype.newbyteorder(layout.order))[:, :count]  # type: ignore[arg-type]
    values = np.empty((len(lines), count), layout.dtype)
    step = max(1, _BITS_AT_ONCE // (8 * lines.shape[1]))
    weights = (1 << np.arange(bits - 1, -1, -1)).astype(np.uint16)
    for top in range(0, len(lines), step):
        split = np.unpackbits(lines[top : top + step], axis=1)[:, : count * bits].reshape(-1, count, bits)
        values[top : top + step] = (split * weights).sum(2)
    return values


def _subsampled(data: bytes, subsampling: tuple[int, ...], rows: int, wide: int) -> Samples:
    """Return YCbCr (rows, wide, 3) of which some pixels share their colour."""
    across, down = subsampling
    shape = math.ceil(rows / down), math.ceil(wide / across), across * down + 2
    if across < 1 or down < 1 or len(data) < math.prod(shape):
        raise PictureError("is damaged or not a picture: a part of the TIFF is cut off")
    units = np.frombuffer(data, np.uint8, math.prod(shape)).reshape(shape)
    light = units[..., :-2].reshape(*shape[:2], down, across).swapaxes(1, 2).reshape(shape[0] * down, -1, 1)
    colours = units[..., -2:].repeat(down, 0).repeat(across, 1)
    return np.concatenate([light, colours], 2)[:rows, :wide]


def _expand(data: bytes, compression: int, row_bytes: int, rows: int) -> bytes:
    """Return the bytes of a strip or tile, decompressed: at most as many as there must be."""
    if compression == _RAW:
        return data
    if compression in _DEFLATES:
        return zlib.decompressobj().decompress(data, row_bytes * rows)
    # libtiff, through Pillow, takes the bytes for grey pixels.
    tags = ((256, row_bytes), (257, rows), (258, 8), (259, compression), (262, 1), (273, 122), (278, rows))
    entries = [struct.pack("<HHII", tag, 4, 1, value) for tag, value in (*tags, (279, len(data)))]
    directory = struct.pack("<H", len(entries)) + b"".join(entries) + bytes(4)
    page = struct.pack("<2sHI", b"II", 42, 8) + directory
    return TiffImagePlugin.TiffImageFile(io.BytesIO(page.ljust(122, b"\0") + data)).tobytes()
