"""JPEGs that end too early: without an end marker, cut off, or with another picture behind the cut.

Pillow refuses the first, whose pixels are whole, and libjpeg fills with grey what a cut took if any marker follows.
A picture is whole if its pixels do not depend on what is put behind its data.
"""

import io
import re
from contextlib import suppress

from PIL import Image, JpegImagePlugin

from retrieval.common.errors import PictureError
from retrieval.sources.files import BinaryFile

_END = b"\xff\xd9"
_NEXT_PICTURE = re.compile(rb"\xff[\xd8\xd9]")
_FILLINGS = (b"\x6a" * 64, b"\xb5" * 64)  # are no markers, and decode to anything but grey
_GREY = range(127, 130)
_ZEROS = bytes(16)


def load_jpeg(image: Image.Image, file: BinaryFile, min_side: int | None) -> Image.Image:
    """Load a JPEG that was opened from this file, and reduced by `reduce_jpeg`. Raises PictureError if it is cut."""
    with suppress(OSError):  # as Pillow says that the end is missing
        image.load()
        if not _may_be_cut(image, file):
            return image
    file.seek(0)
    data = file.read()
    end = _NEXT_PICTURE.search(data, _start_of_scan(data))
    data = data[: end.start()] if end else data.rstrip(b"\0") if data.endswith(_ZEROS) else data
    whole, *others = (_decode(data.removesuffix(b"\xff") + more + _END, min_side) for more in (b"", *_FILLINGS))
    if _lacks_scans(data, whole.layers) or any(whole.tobytes() != other.tobytes() for other in others):
        raise PictureError("is damaged or not a picture: its end is missing")
    return whole


def reduce_jpeg(image: Image.Image, min_side: int | None) -> None:
    """Let a JPEG that is not loaded be decoded at a half, a quarter or an eighth of its size, if that is enough."""
    if min_side is not None:
        image.draft("RGB", (min_side, min_side))


def reduce_as_jpeg(image: Image.Image, min_side: int | None) -> Image.Image:
    """Return a loaded picture as if its JPEG had been decoded small: libjpeg too averages 2, 4 or 8 pixels a side."""
    scale = min(image.size) // min_side if min_side else 1
    step = next(step for step in (8, 4, 2, 1) if scale >= step or step == 1)
    return image.reduce(step) if step > 1 else image


def _may_be_cut(image: Image.Image, file: BinaryFile) -> bool:
    """Return whether the last pixel has the grey of what is missing, or zeros stand where the end should be."""
    corner = image.getpixel((image.width - 1, image.height - 1))
    if all(value in _GREY for value in (corner if isinstance(corner, tuple) else (corner,))):
        return True
    file.seek(max(0, file.seek(0, io.SEEK_END) - len(_ZEROS)))
    return file.read() == _ZEROS


def _start_of_scan(data: bytes) -> int:
    """Return where the segments before the first scan end."""
    at = 2
    while data[at : at + 1] == b"\xff" and data[at + 1] != 0xDA:
        at += 2 + int.from_bytes(data[at + 2 : at + 4])
    return at


def _lacks_scans(data: bytes, components: int) -> bool:
    """Return whether the last bits of some component's lowest or highest frequency are in none of the scans."""
    exact, start = set(), _start_of_scan(data)
    for scan in re.finditer(rb"\xff\xda", data[start:]):
        at = start + scan.end() + 2
        header = data[at : at + 12]
        first, last, bits = header[1 + 2 * header[0] :][:3]
        if not bits & 15:
            exact |= {(component, each) for component in header[1 : 1 + 2 * header[0] : 2] for each in (first, last)}
    return sum(frequency in (0, 63) for _, frequency in exact) < 2 * components


def _decode(data: bytes, min_side: int | None) -> JpegImagePlugin.JpegImageFile:
    image = JpegImagePlugin.JpegImageFile(io.BytesIO(data), "")
    reduce_jpeg(image, min_side)
    image.load()
    return image
