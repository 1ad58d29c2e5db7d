"""Small JPEGs of indexed files and uploads, as the page shows them, cached in memory."""

from collections import OrderedDict
from threading import Lock

from retrieval.rendering.overlay import display_picture, encode_image
from retrieval.sources.location import PictureLocation

CACHE_BYTES = 96_000_000
"""Some thousands of images; beyond it, those used least recently are dropped."""

_QUALITY = 84


class ThumbnailCache:
    """JPEGs by content and side. Thread-safe."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._bytes = 0
        self._images: OrderedDict[tuple[str, int], bytes] = OrderedDict()
        self._lock = Lock()

    def get(self, version: str, side: int) -> bytes | None:
        """Return the JPEG of a content, None if it is not cached."""
        with self._lock:
            image = self._images.get((version, side))
            if image is not None:
                self._images.move_to_end((version, side))
            return image

    def make(self, file: PictureLocation, version: str, side: int) -> bytes:
        """Return the JPEG of a file with this content, its long side at most `side` pixels. Raises PictureError."""
        if (image := self.get(version, side)) is not None:
            return image
        image = encode_image(display_picture(file, side), "JPEG", _QUALITY)
        with self._lock:
            if (version, side) not in self._images:
                self._images[version, side] = image
                self._bytes += len(image)
            while self._bytes > self._max_bytes:
                self._bytes -= len(self._images.popitem(last=False)[1])
        return image
