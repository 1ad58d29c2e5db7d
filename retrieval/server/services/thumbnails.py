"""Small JPEGs of indexed files and uploads, as the page shows them, cached in memory while the files are unchanged."""

import os
from collections import OrderedDict
from http import HTTPStatus
from threading import Lock

from retrieval.common.errors import PictureError
from retrieval.rendering.overlay import display_picture, encode_image
from retrieval.server.errors import RequestRefused
from retrieval.sources.files import content_hash, open_file
from retrieval.sources.location import CatalogueLocation, PictureLocation, is_address

CACHE_BYTES = 96_000_000
"""Some thousands of images; beyond it, those used least recently are dropped."""

_QUALITY = 84
_FileState = tuple[int, ...] | None


class ThumbnailCache:
    """JPEGs by content, side and the state of the file that has the content. Thread-safe."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._bytes = 0
        self._images: OrderedDict[tuple[bytes, int, _FileState], bytes] = OrderedDict()
        self._lock = Lock()

    def get(self, file: PictureLocation, content: bytes, side: int) -> bytes | None:
        """Return the JPEG of a file with this SHA-256, None if it is not cached, or the file was touched since.

        Raises RequestRefused if the file is gone.
        """
        return self._get((content, side, _file_state(file)))

    def make(self, file: PictureLocation, content: bytes, side: int) -> bytes:
        """Return the JPEG of a file with this SHA-256, its long side at most `side` pixels.

        Raises RequestRefused if the file is gone or has another content, PictureError if it cannot be read.
        """
        key = content, side, _file_state(file)
        if (image := self._get(key)) is not None:
            return image
        with open_file(file) as opened:
            if content_hash(opened) != content:
                raise RequestRefused(
                    HTTPStatus.NOT_FOUND, "the picture was changed after it was indexed: bring the store up to date"
                )
            try:
                image = encode_image(display_picture(opened, side), "JPEG", _QUALITY)
            except PictureError as error:
                raise error.with_name(os.fspath(file)) from error
        with self._lock:
            if key not in self._images:
                self._images[key] = image
                self._bytes += len(image)
            while self._bytes > self._max_bytes:
                self._bytes -= len(self._images.popitem(last=False)[1])
        return image

    def _get(self, key: tuple[bytes, int, _FileState]) -> bytes | None:
        with self._lock:
            image = self._images.get(key)
            if image is not None:
                self._images.move_to_end(key)
            return image


def _file_state(file: PictureLocation) -> _FileState:
    """Return what changes with a file, or with the tar that it is in; None if that is on another machine.

    Raises RequestRefused if it is gone.
    """
    location = CatalogueLocation.parse(os.fspath(file))
    path = location.container or location.source
    if is_address(path):
        return None
    try:
        status = os.stat(path)
    except OSError as error:
        raise RequestRefused(
            HTTPStatus.NOT_FOUND,
            f"the picture cannot be opened any more ({error.strerror}): bring the store up to date",
        ) from error
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns
