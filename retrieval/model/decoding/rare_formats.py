"""Formats of which Pillow gets one thing wrong: BMP, JPEG 2000, PPM."""

from typing import Any

import numpy as np
from PIL import Image, ImageFile

from retrieval.common.errors import PictureError
from retrieval.model.decoding.colours import Scale, bounds
from retrieval.sources.files import BinaryFile

_CODESTREAM = b"\xff\x4f\xff\x51"
_TO_DEPTH = 42  # bytes from the codestream's start to the depth of its first component


def load_bmp(image: Image.Image) -> Image.Image:
    """Load a BMP, whose alpha is left empty by programs that know none."""
    image.load()
    if image.mode == "RGBA" and not image.getchannel("A").getbbox():
        return image.convert("RGB")
    return image


def load_jpeg2000(image: Image.Image, file: BinaryFile) -> Image.Image:
    """Load a JPEG 2000. Raises PictureError for colours of more than 8 bits in which white may have become black."""
    file.seek(0)
    head = file.read(2**16)
    image.load()
    start = head.find(_CODESTREAM)
    bits = (head[start + _TO_DEPTH] & 127) + 1 if 0 <= start < len(head) - _TO_DEPTH else 8
    ranges: Any = image.getextrema()
    if bits > 8 and len(image.getbands()) > 1 and any(least == 0 for least, _ in ranges):
        raise PictureError(f"is a JPEG 2000 of {bits} bits in colour, which is not supported: save it as TIFF or PNG")
    return image


def load_ppm(image: ImageFile.ImageFile, file: BinaryFile) -> Image.Image:
    """Load a PPM or PGM; values whose full scale is no power of two, or 16 bits in colour, are read here."""
    is_text = file.seek(1) and file.read(1) in b"123"
    (codec, _, offset, args), bands = image.tile[0], len(image.getbands())
    if codec != "ppm" or is_text or not isinstance(args, tuple):
        image.load()
        return image
    most, count = int(args[-1]), image.width * image.height * bands
    dtype = np.dtype("u1" if most < 256 else ">u2")
    file.seek(offset)
    data = file.read(count * dtype.itemsize)
    if len(data) < count * dtype.itemsize:
        raise PictureError("is damaged or not a picture: its end is missing")
    values = np.minimum(np.frombuffer(data, dtype), most).reshape(image.height, image.width, bands)
    scale = Scale.of(*bounds(values), values.dtype) if most == 2**16 - 1 else Scale(0.0, float(most))
    return Image.fromarray(scale.apply(values if bands > 1 else values[..., 0]))
