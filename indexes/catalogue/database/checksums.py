"""Checksums of the catalogue's rows, which show if a failing disk has changed them. A row of before has none."""

import zlib
from collections.abc import Sequence

CHECKED = ("path", "size", "mtime", "version", "hash", "width", "height", "label", "taken_at", "latitude", "longitude")
"""The columns of a picture that its checksum covers, in this order."""


def descriptor_checksum(picture: int, fingerprint: str, vector: bytes) -> int:
    """Return the CRC-32 of a picture's descriptor under one model."""
    return zlib.crc32(vector, zlib.crc32(b"%d %b" % (picture, fingerprint.encode())))


def row_checksum(values: Sequence[object]) -> int:
    """Return the CRC-32 of values, with their types: those of CHECKED, or a name and its value."""
    return zlib.crc32(repr(tuple(values)).encode("utf-8", "surrogatepass"))


def holds(checksum: int | None, found: int) -> bool:
    """Return whether a row is as it was written, as far as that is known."""
    return checksum is None or checksum == found
