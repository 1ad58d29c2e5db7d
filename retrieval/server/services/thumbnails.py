"""Pictures as the page shows them: small JPEGs made of indexed files and uploads, the last ones kept in memory."""

from __future__ import annotations

from collections import OrderedDict
from threading import Lock

from retrieval.rendering.overlay import display_picture, encode_image
from retrieval.sources.location import PictureLocation

CACHE_BYTES = 96_000_000
"""Some thousands of them; past it those go that were not asked for the longest."""

_QUALITY = 84


class ThumbnailCache:
    """JPEGs by file, content and side; any thread may ask."""

    def __init__(self, max_bytes: int = CACHE_BYTES) -> None:
        self._most = max_bytes
        self._held = 0
        self._images: OrderedDict[tuple[str, int], bytes] = OrderedDict()
        self._lock = Lock()

    def get(self, version: str, side: int) -> bytes | None:
        """The JPEG of a content, where it is kept."""
        with self._lock:
            found = self._images.get((version, side))
            if found is not None:
                self._images.move_to_end((version, side))
            return found

    def make(self, file: PictureLocation, version: str, side: int) -> bytes:
        """The JPEG of a file that has this content, its long side at most so many pixels. Raises PictureError."""
        found = self.get(version, side)
        if found is None:
            found = encode_image(display_picture(file, side), "JPEG", _QUALITY)
            self._put(version, side, found)
        return found

    def _put(self, version: str, side: int, image: bytes) -> None:
        with self._lock:
            if (version, side) not in self._images:
                self._images[version, side] = image
                self._held += len(image)
            while self._held > self._most:
                self._held -= len(self._images.popitem(last=False)[1])
