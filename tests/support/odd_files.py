"""A folder of odd and broken files, as galleries have them: what must be found, and what must fail and why."""

import io
import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pillow_heif
from PIL import Image

from retrieval.model.preprocessing import Pixels
from tests.support.generated import blocks

Make = Callable[[Pixels], bytes]

CLOSED = b"no permission.jpg"
"""A good picture of mode 000: it is among the bad ones, and is so only for who is bound by permissions."""

DAMAGED, UNKNOWN = "is damaged or not a picture", "is not a picture in a known format"


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def plain(kind: str, mode: str = "RGB", **options: Any) -> Make:
    """Return a maker of files of this format, after conversion to this mode."""
    return lambda pixels: encoded(Image.fromarray(pixels).convert(mode), kind, **options)


def grey(kind: str, dtype: str, scale: float) -> Make:
    """Return a maker of grey files with samples of more than 8 bits."""
    return lambda pixels: encoded(Image.fromarray((pixels.mean(2) * scale).astype(dtype)), kind)


def with_alpha(kind: str, mode: str) -> Make:
    """Return a maker of files whose right half is half transparent."""

    def make(pixels: Pixels) -> bytes:
        alpha = np.full(pixels.shape[:2], 255, np.uint8)
        alpha[:, pixels.shape[1] // 2 :] = 128
        image = Image.fromarray(pixels).convert(mode)
        image.putalpha(Image.fromarray(alpha))
        return encoded(image, kind)

    return make


def transparent_palette(pixels: Pixels) -> bytes:
    return encoded(Image.fromarray(pixels).quantize(16), "PNG", transparency=3)


def animated(kind: str) -> Make:
    def make(pixels: Pixels) -> bytes:
        frames = [Image.fromarray(frame) for frame in (pixels, 255 - pixels, pixels[::-1])]
        return encoded(frames[0], kind, save_all=True, append_images=frames[1:], duration=100)

    return make


def heic(pixels: Pixels) -> bytes:
    pillow_heif.register_heif_opener()
    return encoded(Image.fromarray(pixels), "HEIF", quality=90)


def rotated_by_exif(pixels: Pixels) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    return encoded(Image.fromarray(pixels), "JPEG", exif=exif)


def broken_exif(pixels: Pixels) -> bytes:
    return encoded(Image.fromarray(pixels), "JPEG", exif=b"Exif\0\0MM\0*\xff\xff\xff\xff" + b"\xff" * 30)


def sized(width: int, height: int) -> Make:
    """Return a maker of PNG files of another size, with the pattern stretched to it."""
    return lambda pixels: encoded(Image.fromarray(pixels).resize((width, height), Image.Resampling.NEAREST), "PNG")


JPEG = plain("JPEG", quality=92)

GOOD: dict[bytes, Make] = {
    b"plain.jpg": JPEG,
    b"UPPER.JPG": JPEG,
    b"progressive.jpeg": plain("JPEG", progressive=True),
    b"grey.jpg": plain("JPEG", "L"),
    b"cmyk.jpg": plain("JPEG", "CMYK"),
    b"exif rotated.jpg": rotated_by_exif,
    b"broken exif.jpg": broken_exif,
    b"16 bits.png": grey("PNG", "uint16", 257),
    b"16 bits.tiff": grey("TIFF", "uint16", 257),
    b"12 bits.tif": grey("TIFF", "uint16", 16),
    b"float.tif": grey("TIFF", "float32", 1 / 255),
    b"palette.png": transparent_palette,
    b"rgba.png": with_alpha("PNG", "RGB"),
    b"la.png": with_alpha("PNG", "L"),
    b"one bit.png": plain("PNG", "1"),
    b"1x1.png": sized(1, 1),
    b"30000x2.png": sized(30000, 2),
    b"animated.gif": animated("GIF"),
    b"animated.webp": animated("WEBP"),
    b"animated.png": animated("PNG"),
    b"phone.heic": heic,
    b"new.avif": plain("AVIF", quality=90),
    b"cinema.jp2": plain("JPEG2000"),
    b"plain.ppm": plain("PPM"),
    b"plain.bmp": plain("BMP"),
    b"really a png.jpg": plain("PNG"),
    b"really a jpeg.png": JPEG,
    "猫の写真.jpg".encode(): JPEG,
    "صورة.jpg".encode(): JPEG,
    "🐈‍⬛.jpg".encode(): JPEG,
    b"new\nline.jpg": JPEG,
    b"'quotes\" `and` $(x) & more; *.jpg": JPEG,
    b"--help.jpg": JPEG,
    b"x" * 196 + b".jpg": JPEG,
    b"no utf-8 \xff\xfe.jpg": JPEG,
    b"space before the ending .jpg": JPEG,
    b"space after the folder /a.jpg": JPEG,
    b"folder.jpg/inside.jpg": JPEG,
}


def truncated(pixels: Pixels) -> bytes:
    data = JPEG(np.random.default_rng(0).integers(0, 256, pixels.shape, np.uint8))
    return data[: len(data) // 2]


def png_of(size: tuple[int, int], data: bytes) -> bytes:
    """Return a PNG whose header claims this size, with this compressed data."""
    chunks = ((b"IHDR", struct.pack(">IIBBBBB", *size, 8, 2, 0, 0, 0)), (b"IDAT", data), (b"IEND", b""))
    parts = [
        struct.pack(">I", len(part)) + kind + part + struct.pack(">I", zlib.crc32(kind + part)) for kind, part in chunks
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


BAD: dict[bytes, tuple[bytes, str]] = {
    b"zero bytes.jpg": (b"", "is empty"),
    b"text.jpg": (b"this is a text that someone named like a picture\n", UNKNOWN),
    b"page.png": (b"<!doctype html><title>404</title>", UNKNOWN),
    b"bomb.png": (png_of((60000, 60000), zlib.compress(b"\0" * 1000)), "has 3,600 megapixels, more than the limit"),
    b"gif header.gif": (b"GIF89a", DAMAGED),
    b"gif without frames.gif": (b"GIF89a\x10\0\x10\0\0\0\0;", DAMAGED),
    b"broken data.png": (png_of((16, 16), b"\xff" * 40), DAMAGED),
    b"no rows.png": (png_of((16, 16), zlib.compress(b"")), DAMAGED),
    b"header of a heic.heic": (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", DAMAGED),
    b"zeros.tif": (b"II*\0" + b"\0" * 100, DAMAGED),
}


def _write(folder: Path, name: bytes, data: bytes) -> bytes:
    path = Path(os.fsdecode(os.path.join(os.fsencode(folder), name)))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return os.fsencode(path)


def _links(folder: Path, seed: int) -> list[bytes]:
    """Make links to a picture and a folder outside, and one that leads back; return the paths to find."""
    outside = folder.parent / f"outside {folder.name}"
    _write(outside, b"picture.jpg", JPEG(blocks(seed)))
    _write(outside, b"pictures/a.jpg", JPEG(blocks(seed + 1)))
    (folder / "link.jpg").symlink_to(outside / "picture.jpg")
    (folder / "linked folder").symlink_to(outside / "pictures")
    (folder / "back to the start").symlink_to(folder)
    return [os.fsencode(folder / "link.jpg"), os.fsencode(folder / "linked folder" / "a.jpg")]


def _special(folder: Path, seed: int) -> dict[bytes, str]:
    """Make entries that cannot be read, and return their reasons."""
    (folder / "dangling.jpg").symlink_to("nothing")
    (folder / "loop.jpg").symlink_to("loop.jpg")
    os.mkfifo(folder / "fifo.jpg")
    closed = _write(folder, CLOSED, JPEG(blocks(seed)))
    os.chmod(closed, 0)
    return {
        os.fsencode(folder / "dangling.jpg"): "is a link to nothing",
        os.fsencode(folder / "loop.jpg"): "Too many levels of symbolic links",
        os.fsencode(folder / "fifo.jpg"): "is not a regular file",
        closed: "cannot be read: Permission denied",
    }


def build(folder: Path) -> tuple[list[bytes], dict[bytes, str]]:
    """Make the folder: the paths of good pictures, no two alike, and those of bad ones with a piece of the reason."""
    folder.mkdir(parents=True)
    good = [_write(folder, name, make(blocks(1000 + seed))) for seed, (name, make) in enumerate(GOOD.items())]
    good += _links(folder, seed=2000)
    bad = {_write(folder, name, data): why for name, (data, why) in BAD.items()}
    bad[_write(folder, b"truncated.jpg", truncated(blocks(1)))] = DAMAGED
    bad |= _special(folder, seed=3000)
    _write(folder, b"notes.txt", b"not named like a picture, so not looked at")
    _write(folder, b".hidden.jpg", b"not looked at either")
    return good, bad
