"""Pictures as the page shows them: small JPEGs made of indexed files and uploads, the last ones kept in memory."""

from __future__ import annotations

from collections import OrderedDict
from threading import Lock

from retrieval.rendering.overlay import display_picture, encoded
from retrieval.sources.location import Place

KEPT_BYTES = 96_000_000
"""Some thousands of them; past it those go that were not asked for the longest."""

_QUALITY = 84


class Images:
    """JPEGs by file, content and side; any thread may ask."""

    def __init__(self, kept: int = KEPT_BYTES) -> None:
        self._most = kept
        self._held = 0
        self._kept: OrderedDict[tuple[str, int], bytes] = OrderedDict()
        self._lock = Lock()

    def kept(self, version: str, side: int) -> bytes | None:
        """The JPEG of a content, where it is kept."""
        with self._lock:
            found = self._kept.get((version, side))
            if found is not None:
                self._kept.move_to_end((version, side))
            return found

    def make(self, file: Place, version: str, side: int) -> bytes:
        """The JPEG of a file that has this content, its long side at most so many pixels. Raises PictureError."""
        found = self.kept(version, side)
        if found is None:
            found = encoded(display_picture(file, side), "JPEG", _QUALITY)
            self._keep(version, side, found)
        return found

    def _keep(self, version: str, side: int, image: bytes) -> None:
        with self._lock:
            if (version, side) not in self._kept:
                self._kept[version, side] = image
                self._held += len(image)
            while self._held > self._most:
                self._held -= len(self._kept.popitem(last=False)[1])
