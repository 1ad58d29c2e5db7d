"""When and where a picture was taken, from EXIF as cameras and programs write it."""

import math
import re
from datetime import datetime
from typing import Any

from PIL import Image
from PIL.ExifTags import IFD, Base

# Separators vary; a fraction of a second and a zone may follow, which do not change the local time.
_TIME = re.compile(r"(\d{4})[:/.-](\d\d?)[:/.-](\d\d?)[ T]+(\d\d?):(\d\d?)(?::(\d\d?))?(?!\d)")


def taken_at(exif: Image.Exif) -> str | None:
    """Return the local time as ISO 8601: the first valid one of taking, digitising and changing; None without one."""
    try:
        tags: dict[int, Any] = exif.get_ifd(IFD.Exif)
    except Exception:  # broken metadata does not make the picture unusable
        tags = {}
    written = (tags.get(Base.DateTimeOriginal), tags.get(Base.DateTimeDigitized), exif.get(Base.DateTime))
    return next((time for time in map(_local_time, written) if time), None)


def _local_time(written: object) -> str | None:
    found = _TIME.search(written.decode("latin-1") if isinstance(written, bytes) else str(written))
    if not found:
        return None
    try:
        return datetime(*(int(part or 0) for part in found.groups())).isoformat()  # type: ignore[arg-type]
    except ValueError:
        return None


def gps_position(exif: Image.Exif) -> tuple[float | None, float | None]:
    """Return latitude and longitude in degrees, or twice None if one is missing, invalid or of no known hemisphere."""
    try:
        tags: dict[int, Any] = exif.get_ifd(IFD.GPSInfo)
        return _degrees(tags[2], tags[1], "NS", 90), _degrees(tags[4], tags[3], "EW", 180)
    except Exception:  # broken metadata does not make the picture unusable
        return None, None


def _degrees(parts: Any, reference: object, hemispheres: str, most: int) -> float:
    """Return the degrees of three parts and a reference such as "S", b"s" or "South". Raises ValueError."""
    text = reference.decode("latin-1") if isinstance(reference, bytes) else str(reference)
    hemisphere = hemispheres.index(text.strip("\0 ").upper()[:1] or "?")
    degrees, minutes, seconds = (float(part) for part in parts)
    minutes, seconds = (0.0 if math.isnan(part) else part for part in (minutes, seconds))  # 0/0: not measured
    size = abs(degrees) + minutes / 60 + seconds / 3600
    if not size <= most or (degrees < 0 and hemisphere == 0):
        raise ValueError("no place on Earth")
    return -size if hemisphere else size
