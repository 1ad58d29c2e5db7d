"""Limits of one picture's decoding, estimated before it begins, and of all that are decoded at once."""

import ctypes
import re
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from threading import Condition, Lock
from typing import Any, TypeVar

import numpy as np
from PIL import Image, _imaging
from PIL.JpegImagePlugin import JpegImageFile
from PIL.TiffImagePlugin import TiffImageFile

from retrieval.common.errors import PictureError, TransientPictureError
from retrieval.common.memory import free_memory, return_memory
from retrieval.sources.files import BinaryFile, whole_content

MOST_SECONDS = 30.0
"""Seconds of a processor that the decoding of one picture may take."""

T = TypeVar("T")

TOO_SLOW = "takes too long to decode: save it anew, as a plain JPEG"
"""The reason of a PictureError."""

MOST_BYTES_AT_ONCE = 2**29
"""Bytes of memory for all large pictures that are decoded at once; a larger one is decoded alone."""

SMALL_BYTES = 2**26
"""A picture that takes no more is not counted."""

_PART_SECONDS = 12.0  # for each pass over the parts of a picture, of which there are two
_MOST_SCANNED = 5e10  # pixels of a JPEG's components, once for each of its scans: about 3 s
_OFTEN, _LITTLE = 64, 4096  # reads, and bytes of one: of smaller ones, not each looks at the clock
_MARKER = re.compile(rb"\xff+[^\x00\x01\xd0-\xd8\xff]")  # in coded data a zero follows each 255
_SCAN, _END = 0xDA, 0xD9

_PIXEL_BYTES = {"1": 1, "L": 1, "P": 1, "I;16": 2, "I;16B": 2, "I;16L": 2, "LAB": 4, "I": 4, "F": 4}
_CODEC_BYTES = {"WEBP": 14, "AVIF": 10, "HEIF": 10, "JPEG2000": 18}
"""Bytes a pixel that a format's library takes beside the picture itself, as measured (docs/PERFORMANCE.md)."""

# libtiff writes each error to stderr, without the file's name: what fails is reported by Pillow too.
with suppress(OSError, AttributeError):
    ctypes.CDLL(_imaging.__file__).TIFFSetErrorHandler(None)


class TimedFile:
    """A file that ends the decoding that reads from it with a PictureError once it has taken too long."""

    def __init__(self, file: BinaryFile, seconds: float = MOST_SECONDS) -> None:
        self._file = file
        self.seek, self.tell = file.seek, file.tell
        self._end = time.thread_time() + seconds
        self._reads = 0

    def read(self, size: int = -1, /) -> bytes:
        """Read as the file does. Raises PictureError."""
        self._reads += 1
        if (self._reads % _OFTEN == 0 or not 0 <= size < _LITTLE) and time.thread_time() > self._end:
            raise PictureError(TOO_SLOW)
        return self._file.read(size)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


def within_time(parts: Iterable[T]) -> Iterator[T]:
    """Yield the parts of a picture that are read in Python. Raises PictureError once they have taken too long."""
    end = time.thread_time() + _PART_SECONDS
    for part in parts:
        if time.thread_time() > end:
            raise PictureError(TOO_SLOW)
        yield part


def require_few_scans(image: Image.Image, file: BinaryFile) -> None:
    """Raise PictureError if a JPEG has so many scans that it would be decoded for minutes. `image` is not loaded yet.

    A progressive JPEG is decoded once for each of its scans, of which a small file can have ten thousands.
    """
    if not isinstance(image, JpegImageFile) or _is_sequential(image, file):
        return
    content = whole_content(file)
    width, height = image.size
    most = int(_MOST_SCANNED / (width * height * image.layers))
    if len(content) > 10 * most and _pairs(content, _SCAN) > most and _count_scans(content, most) > most:
        raise PictureError(f"has more than {most:,} scans, as no camera writes: save it anew, as a plain JPEG")


def _is_sequential(image: JpegImageFile, file: BinaryFile) -> bool:
    """Return whether the first scan has all components, in which case no other scan is decoded."""
    if image.info.get("progressive"):
        return False
    place = file.tell()  # behind the header of the first scan
    file.seek(max(0, place - 8 - 2 * image.layers))
    header = file.read(5)
    file.seek(place)
    return header[:2] == b"\xff\xda" and header[4:] == bytes([image.layers])


def _pairs(content: bytes, marker: int) -> int:
    """Count this marker, also where it is none but part of a preview or of what follows the picture."""
    values = np.frombuffer(content, np.uint8)
    return int(np.count_nonzero((values[1:] == marker) & (values[:-1] == 0xFF)))


def _count_scans(content: bytes, most: int) -> int:
    """Count the scans of a JPEG up to its end, or until there are more than `most`."""
    scans, place = 0, 2
    while scans <= most and (found := _MARKER.search(content, place)):
        marker = content[found.end() - 1]
        if marker == _END:
            break
        scans += marker == _SCAN
        place = found.end() + int.from_bytes(content[found.end() : found.end() + 2])
    return scans


def decoded_bytes(image: Image.Image, pixels: int) -> int:
    """Return about how many bytes of memory it takes to decode a picture that is not loaded yet.

    A JPEG may be about to be decoded at a smaller scale than that of its `pixels`.
    """
    width, height = image.size
    each = _PIXEL_BYTES.get(image.mode, 4) + _CODEC_BYTES.get(image.format or "", 0)
    size = width * height * each
    if isinstance(image, TiffImageFile):
        size += 4 * width * min(height, int(image.tag_v2.get(278, height)))  # a strip
    if isinstance(image, JpegImageFile) and image.info.get("progressive"):
        size += int(2 * pixels * _samples(image))  # its coefficients, whatever the scale
    return size


def _samples(image: JpegImageFile) -> float:
    """Return how many samples a JPEG has for a pixel: 1 to 4."""
    area = max(across for _, across, _, _ in image.layer) * max(down for _, _, down, _ in image.layer)
    return sum(across * down for _, across, down, _ in image.layer) / max(1, area)


class Room:
    """Memory for the large pictures that are decoded at the same time; who comes first is let in first."""

    def __init__(self, most: int = MOST_BYTES_AT_ONCE) -> None:
        self._most = most
        self._held = 0
        self._turn, self._changed = Lock(), Condition()

    @contextmanager
    def hold(self, size: int) -> Iterator[None]:
        """Hold so many bytes, once they are free. Raises TransientPictureError if there are not so many at all."""
        if size < SMALL_BYTES:
            yield
            return
        with self._turn, self._changed:
            self._changed.wait_for(lambda: not self._held or self._fits(size))
            free = free_memory()
            if not self._held and free is not None and size > free:
                raise TransientPictureError(
                    f"needs {size / 1e6:,.0f} MB of memory to be decoded, and {free / 1e6:,.0f} MB are free: end other"
                    " programs, or allow this one more"
                )
            self._held += size
        try:
            yield
        finally:
            return_memory()
            with self._changed:
                self._held -= size
                self._changed.notify_all()

    def _fits(self, size: int) -> bool:
        free = free_memory()
        return self._held + size <= (self._most if free is None else min(self._most, free))


ROOM = Room()
"""The room of this process."""
