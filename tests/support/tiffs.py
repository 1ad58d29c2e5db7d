"""TIFF files of any kind, written sample by sample."""

import io
import struct
import zlib
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, TiffImagePlugin

RAW, LZW, DEFLATE, PACKBITS = 1, 5, 8, 32773
Tags = dict[int, tuple[int, tuple[int, ...]]]
"""The type (2: characters, 3: 16 bits, 4: 32 bits) and the values of tags."""
_BY_PILLOW = {LZW: "tiff_lzw", PACKBITS: "packbits"}


class Kind(NamedTuple):
    """How a page is written."""

    bits: int = 8
    photometric: int = 1
    sample_format: int = 1
    planar: int = 1
    compression: int = RAW
    predictor: int = 1
    order: str = "<"
    rows: int = 5  # of a strip
    tile: int = 0  # side of a tile; 0: strips
    fill_order: int = 1
    extra: tuple[int, ...] = ()
    subfile: int = 0


def _packed(samples: NDArray[Any], kind: Kind) -> bytes:
    """Return rows of samples (h, n) as bytes; each row begins with a new byte."""
    if kind.bits in (8, 16, 32, 64):
        letter = {2: "i", 3: "f"}.get(kind.sample_format, "u")
        return samples.astype(f"{kind.order}{letter}{kind.bits // 8}").tobytes()
    values = samples.astype(np.uint32)
    if kind.bits == 24:
        whole = values.astype(f"{kind.order}u4").view(np.uint8).reshape(*values.shape, 4)
        return (whole[..., :3] if kind.order == "<" else whole[..., 1:]).tobytes()
    split = values[..., None] >> np.arange(kind.bits - 1, -1, -1, dtype=np.uint32) & 1
    return np.packbits(split.reshape(len(values), -1).astype(np.uint8), axis=1).tobytes()


def _differences(samples: NDArray[Any], kind: Kind) -> NDArray[Any]:
    """Return (h, w, n) as the horizontal predictor leaves them, to be packed as unsigned."""
    letter = {2: "i", 3: "f"}.get(kind.sample_format, "u")
    whole = np.ascontiguousarray(samples.astype(f"{letter}{kind.bits // 8}")).view(f"u{kind.bits // 8}")
    return np.diff(whole, axis=1, prepend=np.zeros_like(whole[:, :1]))


def _float_differences(samples: NDArray[Any], kind: Kind) -> bytes:
    """Return (h, w, n) as the floating point predictor leaves them."""
    size = kind.bits // 8
    flat = samples.astype(f">f{size}").reshape(len(samples), -1, 1).view(np.uint8).reshape(len(samples), -1, size)
    apart = flat.transpose(0, 2, 1).reshape(len(samples), -1, samples.shape[2])
    return np.diff(apart, axis=1, prepend=np.zeros_like(apart[:, :1])).tobytes()


def _compressed(data: bytes, rows: int, kind: Kind) -> bytes:
    if kind.compression == DEFLATE:
        data = zlib.compress(data)
    elif kind.compression in _BY_PILLOW:
        out = io.BytesIO()
        lines = np.frombuffer(data, np.uint8).reshape(rows, -1)
        Image.fromarray(lines).save(out, "TIFF", compression=_BY_PILLOW[kind.compression], tiffinfo={278: rows})
        with Image.open(out) as image:
            assert isinstance(image, TiffImagePlugin.TiffImageFile)
            (start,), (length,) = image.tag_v2[273], image.tag_v2[279]
        data = out.getvalue()[start : start + length]
    if kind.fill_order == 2:
        data = bytes(int(f"{byte:08b}"[::-1], 2) for byte in data)
    return data


def _segments(samples: NDArray[Any], kind: Kind) -> list[bytes]:
    height, width = samples.shape[:2]
    high, wide = (kind.tile, kind.tile) if kind.tile else (kind.rows, width)
    parts = [samples[..., [band]] for band in range(samples.shape[2])] if kind.planar == 2 else [samples]
    written = []
    for part in parts:
        for top in range(0, height, high):
            for left in range(0, width, wide):
                piece = part[top : top + high, left : left + wide]
                if kind.tile:
                    piece = np.pad(piece, ((0, high - len(piece)), (0, wide - piece.shape[1]), (0, 0)))
                if kind.predictor == 3:
                    data = _float_differences(piece, kind)
                elif kind.predictor == 2:
                    data = _packed(_differences(piece, kind).reshape(len(piece), -1), kind._replace(sample_format=1))
                else:
                    data = _packed(piece.reshape(len(piece), -1), kind)
                written.append(_compressed(data, len(piece), kind))
    return written


def _page(samples: NDArray[Any], kind: Kind, at: int, more: Tags, segments: list[bytes]) -> tuple[bytes, int]:
    """Return the bytes of a page to be put at an offset, and where in them its directory begins."""
    height, width, channels = samples.shape
    body, places = bytearray(), []
    for data in segments:
        places.append(at + len(body))
        body += data
    lengths = tuple(map(len, segments))
    tags = {
        254: (4, (kind.subfile,)),
        256: (4, (width,)),
        257: (4, (height,)),
        258: (3, (kind.bits,) * channels),
        259: (3, (kind.compression,)),
        262: (3, (kind.photometric,)),
        266: (3, (kind.fill_order,)),
        277: (3, (channels,)),
        284: (3, (kind.planar,)),
        317: (3, (kind.predictor,)),
        339: (3, (kind.sample_format,) * channels),
    }
    if kind.tile:
        tags |= {322: (4, (kind.tile,)), 323: (4, (kind.tile,)), 324: (4, tuple(places)), 325: (4, lengths)}
    else:
        tags |= {273: (4, tuple(places)), 278: (4, (kind.rows,)), 279: (4, lengths)}
    if kind.extra:
        tags[338] = (3, kind.extra)
    entries = b""
    given = {tag: value for tag, value in (tags | more).items() if value[1]}
    for tag, (form, values) in sorted(given.items()):
        raw = struct.pack(f"{kind.order}{len(values)}{'_?BHI'[form]}", *values)
        if len(raw) > 4:
            body += bytes(len(body) % 2)
            raw, place = struct.pack(f"{kind.order}I", at + len(body)), raw
            body += place
        entries += struct.pack(f"{kind.order}HHI", tag, form, len(values)) + raw.ljust(4, b"\0")
    body += bytes(len(body) % 2)
    return bytes(body) + struct.pack(f"{kind.order}H", len(entries) // 12) + entries, len(body)


def tiff(
    *pages: tuple[NDArray[Any], Kind],
    more: Tags | None = None,
    inside: tuple[NDArray[Any], Kind] | None = None,
    segments: list[bytes] | None = None,
) -> bytes:
    """Return a file of pages of samples (H, W, C).

    `more` are tags of each page, left out if they have no values; `inside` is a page within the first (SubIFDs);
    `segments` replace the strips.
    """
    order = pages[0][1].order
    data = bytearray(b"II*\0" if order == "<" else b"MM\0*")
    link = len(data)
    data += bytes(4)
    extra = dict(more or {})
    if inside:
        page, start = _page(*inside, len(data), {}, _segments(*inside))
        extra[330] = (4, (len(data) + start,))
        data += page + bytes(4)
    for samples, kind in pages:
        page, start = _page(samples, kind, len(data), extra, segments or _segments(samples, kind))
        data[link : link + 4] = struct.pack(f"{order}I", len(data) + start)
        data += page
        link = len(data)
        data += bytes(4)
        extra = dict(more or {})
    return bytes(data)
