"""PNGs as Pillow reads them right: no metadata that it refuses, chunks in order, and all 16 bits where they count."""

import io
import struct
import zlib
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, PngImagePlugin

from retrieval.common.errors import PictureError
from retrieval.model.decoding.colours import Scale, bounds, to_eight_bits
from retrieval.model.decoding.limits import within_time
from retrieval.sources.files import BinaryFile

SIGNATURE = b"\x89PNG\r\n\x1a\n"
_FIRST = (b"IHDR", b"PLTE", b"tRNS", b"eXIf")  # what pixels and orientation need, in the order that Pillow expects
_TEXTS = (b"tEXt", b"zTXt", b"iTXt")
_METADATA = (*_TEXTS, b"iCCP")
_MOST_METADATA = 2**20  # bytes of one chunk, decompressed
_MOST_CHUNKS = 2**20
_MOST_IN_ALL = 2**24
_PALETTE = 3  # a kind of colours
_ROWS = 256  # of a strip
_DARK = 63  # of 255: no value needs the upper two of 16 bits


class _Chunk(NamedTuple):
    kind: bytes
    start: int  # of the data
    length: int


def without_obstacles(file: BinaryFile) -> BinaryFile:
    """Return the file, or where Pillow would stumble, a copy of the chunks that matter, in order.

    Pillow refuses a picture with much metadata or with a broken checksum beside the pixels, and loses a palette that
    comes late. Profiles are not used, and of texts only those that may hold the orientation.
    """
    chunks = list(_chunks(file))
    kinds = [chunk.kind for chunk in chunks]
    if not {b"IHDR", b"IDAT"} <= set(kinds):
        return file
    start, count = kinds.index(b"IDAT"), kinds.count(b"IDAT")
    in_order = kinds[0] == b"IHDR" and kinds[start : start + count] == [b"IDAT"] * count
    obstacles = set(_obstacles(file, chunks, start))
    if in_order and not obstacles and not set(_FIRST[1:3]) & set(kinds[start:]):
        return file
    order = (*_FIRST, *_TEXTS, b"IDAT")
    needed = [chunk for chunk in chunks if chunk.kind in order and chunk not in obstacles]
    parts = [(chunk.kind, _data(file, chunk)) for chunk in sorted(needed, key=lambda chunk: order.index(chunk.kind))]
    whole = [
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(data, zlib.crc32(kind)))
        for kind, data in (*parts, (b"IEND", b""))
    ]
    return io.BytesIO(SIGNATURE + b"".join(whole))


def load_png(image: Image.Image, file: BinaryFile) -> Image.Image:
    """Load a PNG that was opened from this file, with what Pillow drops of 16 bits and of transparent values."""
    file.seek(24)
    bits, colour = file.read(2)
    transparent = image.info.get("transparency")
    if colour == _PALETTE and image.palette is None:
        raise PictureError("is damaged or not a picture: its palette is missing")
    if bits in (2, 4) and isinstance(transparent, int) and colour == 0:
        image.info["transparency"] = transparent * 255 // (2**bits - 1)
    image.load()
    if bits < 16:
        return image
    if colour == 0:
        return image if transparent is None else _with_hole(np.asarray(image)[..., None], (transparent,))
    if transparent is None and not is_dark(image):
        return image
    lower = _lower_bytes(file, colour)
    if transparent is not None:
        return _with_hole(_joined(image, lower, 0, image.height), transparent)
    return _in_eight_bits(image, lower)


def _in_eight_bits(upper: Image.Image, lower: Image.Image) -> Image.Image:
    """Return the picture of the upper and lower bytes, strip by strip: colours by one scale, alpha by its own."""
    strips = [(top, min(top + _ROWS, upper.height)) for top in range(0, upper.height, _ROWS)]
    colours: list[float] = []
    alphas: list[float] = []
    for top, bottom in within_time(strips):
        values = _joined(upper, lower, top, bottom)
        colours += bounds(values[..., :3])
        alphas += bounds(values[..., 3:]) if values.shape[2] > 3 else ()
    dtype = np.dtype(np.uint16)
    scales = [Scale.of(min(each), max(each), dtype) for each in (colours, alphas) if each]
    whole = Image.new(upper.mode, upper.size)
    for top, bottom in within_time(strips):
        values = _joined(upper, lower, top, bottom)
        parts = [scale.apply(part) for scale, part in zip(scales, np.split(values, [3], 2), strict=False)]
        whole.paste(Image.fromarray(np.concatenate(parts, 2)), (0, top))
    return whole


def _joined(upper: Image.Image, lower: Image.Image, top: int, bottom: int) -> NDArray[np.uint16]:
    """Return samples (rows, W, C) of 16 bits of some rows of two pictures, of which each has one half of the bits."""
    high, low = (np.asarray(each.crop((0, top, each.width, bottom))) for each in (upper, lower))
    if lower.info["bytes"]:
        low = low[..., [1, 1, 1, 3]]
    joined: NDArray[np.uint16] = high.astype(np.uint16) << 8 | low
    return joined


def is_dark(image: Image.Image) -> bool:
    """Return whether no colour, as the upper 8 of 16 bits, needs the upper two."""
    ranges: Any = image.getextrema()
    return all(most <= _DARK for _, most in ranges[:3])


def _chunks(file: BinaryFile) -> Iterator[_Chunk]:
    size, at, count = file.seek(0, io.SEEK_END), len(SIGNATURE), 0
    while at + 8 <= size:
        if (count := count + 1) > _MOST_CHUNKS:
            raise PictureError("is a PNG of more than a million chunks: save it anew")
        file.seek(at)
        length, kind = struct.unpack(">I4s", file.read(8))
        yield _Chunk(kind, at + 8, min(length, size - at - 8))
        at += length + 12


def _data(file: BinaryFile, chunk: _Chunk) -> bytes:
    file.seek(chunk.start)
    return file.read(chunk.length)


def _obstacles(file: BinaryFile, chunks: list[_Chunk], pixels: int) -> Iterator[_Chunk]:
    """Yield metadata that is too large, and the chunks before the pixels that are not needed and whose sum is wrong."""
    left = _MOST_IN_ALL
    for place, chunk in enumerate(chunks):
        if not chunk.kind[0] & 32 or (chunk.kind not in _METADATA and place > pixels):  # critical, or not looked at
            continue
        data, checksum = _data(file, chunk), file.read(4)
        size = _inflated(chunk.kind, data) if chunk.kind in _METADATA else 0
        is_broken = place < pixels and checksum != struct.pack(">I", zlib.crc32(data, zlib.crc32(chunk.kind)))
        if is_broken or size > min(left, _MOST_METADATA):
            yield chunk
        else:
            left -= size


def _inflated(kind: bytes, data: bytes) -> int:
    """Return the bytes of a chunk of metadata and of what it decompresses to, counted up to a little over the limit."""
    after = data.partition(b"\0")[2]
    if kind == b"iTXt":
        packed = after[2:].split(b"\0", 2)[-1] if after[:1] == b"\1" else b""
    else:
        packed = after[1:] if kind in (b"zTXt", b"iCCP") else b""
    try:
        return len(data) + len(zlib.decompressobj().decompress(packed, _MOST_METADATA))
    except zlib.error:
        return len(data)


def _lower_bytes(file: BinaryFile, colour: int) -> Image.Image:
    """Return a picture of the lower bytes of all samples, of which Pillow decodes the upper ones.

    Of grey with alpha, the four bands are the two bytes of grey and the two of alpha.
    """
    file.seek(0)
    image = PngImagePlugin.PngImageFile(file, "")
    (tile,) = image.tile
    image.tile = [tile._replace(args="RGBA" if colour == 4 else str(tile.args).replace("16B", "16L"))]
    image.load()
    image.info["bytes"] = colour == 4
    return image


def _with_hole(values: NDArray[Any], transparent: tuple[int, ...]) -> Image.Image:
    """Return a picture in which the pixels of one value, of all 16 bits, are transparent."""
    alpha = np.where((values == np.array(transparent, np.uint16)).all(2), 0, 255).astype(np.uint8)
    eight = to_eight_bits(values)
    return Image.fromarray(np.dstack([eight if eight.shape[2] == 3 else eight.repeat(3, 2), alpha]))
