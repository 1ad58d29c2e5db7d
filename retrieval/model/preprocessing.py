"""Safe decoding of pictures of any origin, upright, in RGB and no larger than needed."""

import io
import math
import os
import struct
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple, Self, cast

import numpy as np
from numpy.typing import NDArray
from PIL import AvifImagePlugin, Image, ImageCms, Jpeg2KImagePlugin, TiffImagePlugin, WebPImagePlugin
from PIL.ExifTags import IFD, Base

from retrieval.common.errors import PictureError, RetrievalError, first_line, lack_of_memory
from retrieval.common.settings import Preprocessing, max_pixels
from retrieval.model.decoding.limits import ROOM, TimedFile, decoded_bytes, require_few_scans
from retrieval.model.decoding.strips import LARGE, convert_large
from retrieval.sources.files import BinaryFile, open_file

Pixels = NDArray[np.uint8]
Source = str | os.PathLike[str] | bytes | Image.Image | Pixels
"""A picture as a path, as the bytes of a file, as a PIL image, or as an (H, W, 3) uint8 array."""
_FORMATS = (
    *("JPEG", "PNG", "GIF", "BMP", "DIB", "PPM"),
    WebPImagePlugin.WebPImageFile.format,
    TiffImagePlugin.TiffImageFile.format,
    Jpeg2KImagePlugin.Jpeg2KImageFile.format,
    AvifImagePlugin.AvifImageFile.format,
)
_FULL_SCALES = (255, 1023, 4095, 16383, 65535)  # 8, 10, 12, 14 and 16 bits
_TURNS = dict(
    enumerate(
        (
            *(Image.Transpose.FLIP_LEFT_RIGHT, Image.Transpose.ROTATE_180, Image.Transpose.FLIP_TOP_BOTTOM),
            *(Image.Transpose.TRANSPOSE, Image.Transpose.ROTATE_270, Image.Transpose.TRANSVERSE),
            Image.Transpose.ROTATE_90,
        ),
        2,
    )
)  # by orientation
_SIDEWAYS = (5, 6, 7, 8)  # orientations that swap width and height
_STRIP = 1 << 20  # samples converted at once, so that their float64 copies stay small beside the picture


class SeenPart(NamedTuple):
    """The part of a picture that the network sees and heatmaps cover, in pixels of the upright picture."""

    left: int
    top: int
    width: int
    height: int

    @classmethod
    def of(cls, size: tuple[int, int]) -> Self:
        """Return the part of an upright picture of this width and height; see `input_box`."""
        left, top, right, bottom = input_box(*size)
        return cls(left, top, right - left, bottom - top)


@dataclass(frozen=True)
class PictureInfo:
    """Metadata of a picture for the catalogue: upright width and height, and EXIF time and position (degrees)."""

    width: int
    height: int
    taken_at: str | None = None
    latitude: float | None = None
    longitude: float | None = None

    @property
    def size(self) -> tuple[int, int]:
        """The upright width and height."""
        return self.width, self.height


def read_image(source: Source | BinaryFile, min_side: int | None = None) -> tuple[Image.Image, PictureInfo]:
    """Decode a picture: first frame, upright, RGB.

    With `min_side` a JPEG may be decoded at a half, a quarter or an eighth of its size, with both sides at least that
    long. Raises PictureError with the reason, and with the name if the source is a path.
    """
    if isinstance(source, np.ndarray):
        if source.dtype != np.uint8 or source.ndim != 3 or source.shape[2] != 3 or 0 in source.shape:
            raise PictureError(f"must be an (H, W, 3) uint8 array, not {source.shape} {source.dtype}")
        source = Image.fromarray(np.ascontiguousarray(source), "RGB")
    if isinstance(source, Image.Image):
        return _decode(source, None)
    if isinstance(source, str | os.PathLike):
        try:
            with open_file(source) as file:
                return _decode(file, min_side)
        except PictureError as error:
            raise error.with_name(os.fspath(source)) from error
    if isinstance(source, bytes):
        source = io.BytesIO(source)
    if not hasattr(source, "read"):
        raise PictureError(
            f"a picture must be a path, bytes, a PIL image or an (H, W, 3) uint8 array, not {type(source).__name__}"
        )
    return _decode(source, min_side)


def input_box(width: int, height: int) -> tuple[int, int, int, int]:
    """Return the part of an upright picture that the network sees: left, top, right, bottom.

    The longer side is cropped, centred, to the root of width times height: half-way, in proportion, between the
    whole picture squashed to a square and its central square. Cropping loses the edges, squashing distorts; this
    retrieved better than either.
    """
    side = max(1, round(math.sqrt(width * height)))
    seen_width, seen_height = min(width, side), min(height, side)
    left, top = (width - seen_width) // 2, (height - seen_height) // 2
    return left, top, left + seen_width, top + seen_height


def to_pixels(image: Image.Image, size: int) -> Pixels:
    """Return what the network sees of an RGB picture, squashed to uint8 (size, size, 3)."""
    box = input_box(*image.size)
    return np.asarray(image.resize((size, size), Image.Resampling.BICUBIC, box=box, reducing_gap=3.0))


def normalise(pixels: Pixels, preprocessing: Preprocessing) -> NDArray[np.float32]:
    """Return the network's input, float32 (3, H, W), of uint8 (H, W, 3): (value - mean) / std."""
    mean = np.array(preprocessing.mean, np.float32)
    std = np.array(preprocessing.std, np.float32)
    return np.ascontiguousarray(((pixels.astype(np.float32) - mean) / std).transpose(2, 0, 1))


def _decode(source: BinaryFile | Image.Image, min_side: int | None) -> tuple[Image.Image, PictureInfo]:
    try:
        image = source if isinstance(source, Image.Image) else _open_image(cast(BinaryFile, TimedFile(source)))
        width, height = image.size
        if width < 1 or height < 1:
            raise PictureError("has no pixels")
        if width * height > (limit := max_pixels()):
            raise PictureError(
                f"has {width * height / 1e6:,.0f} megapixels, more than the limit of {limit / 1e6:,.0f}"
                " (raise it with RETRIEVE_MAX_MEGAPIXELS)"
            )
        if not isinstance(source, Image.Image):
            require_few_scans(image, source)
        if min_side is not None:
            image.draft("RGB", (min_side, min_side))
        with ROOM.hold(decoded_bytes(image, width * height)):
            image.load()  # before `getexif`, which loads a PNG, and whose errors are ignored
            exif = Image.Exif()
            with suppress(Exception):  # broken metadata does not make the picture unusable
                exif = image.getexif()
            upright = _to_rgb(image, min_side)
            if (turn := _TURNS.get(exif.get(Base.Orientation, 1))) is not None:
                upright = upright.transpose(turn)
            del image  # before others take its room
    except RetrievalError:
        raise
    except MemoryError as error:
        raise lack_of_memory() from error
    except Image.DecompressionBombError as error:  # TIFF and WebP check Pillow's limit themselves
        raise PictureError("has more pixels than Pillow allows for this format: raise its limit") from error
    except Exception as error:  # a decoder may raise anything on damaged bytes
        if "out of memory" in str(error).lower():
            raise lack_of_memory() from error
        raise PictureError(f"is damaged or not a picture: {first_line(error)}") from error
    size = (height, width) if exif.get(Base.Orientation) in _SIDEWAYS else (width, height)
    return upright, PictureInfo(*size, _taken_at(exif), *_gps_position(exif))


def _open_image(file: BinaryFile) -> Image.Image:
    """Open a picture as Image.open does, but without Pillow's limit, which is the host program's; ours is used."""
    head = file.read(16)
    if not head:
        raise PictureError("is empty")
    formats: tuple[str, ...] = _FORMATS
    if head[4:8] == b"ftyp":  # HEIF's box, and AVIF's: the library for HEIC is loaded only then
        import pillow_heif

        pillow_heif.register_heif_opener()
        formats = (*_FORMATS, "HEIF")
    Image.preinit()
    for name in formats:
        factory, accepts = Image.OPEN[name]
        with suppress(SyntaxError, IndexError, TypeError, struct.error):  # how plugins reject a file
            if accepts is None or accepts(head) is True:
                file.seek(0)
                return factory(file, "")
    raise PictureError("is not a picture in a known format")


def _to_rgb(image: Image.Image, min_side: int | None) -> Image.Image:
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        image = Image.fromarray(_to_eight_bits(np.asarray(image)), "L")
    if image.width * image.height > LARGE:
        return convert_large(image, _convert, min_side)
    return _convert(image)


def _convert(image: Image.Image) -> Image.Image:
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        layers = (image.convert("LA") if image.mode == "La" else image).convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", layers.size, "white"), layers).convert("RGB")
    if image.mode == "LAB":
        lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
        converted = ImageCms.profileToProfile(image, lab, srgb, outputMode="RGB")
        if converted is None:
            raise PictureError("has a LAB colour space that cannot be converted")
        return converted
    return image if image.mode == "RGB" else image.convert("RGB")


def _to_eight_bits(values: NDArray[np.generic]) -> Pixels:
    """Scale grey values of more than 8 bits, by the full scale of the fewest bits that hold them.

    So a 12-bit scan in a 16-bit file is not black. Floats from 0 to 1 are fractions; other ranges (negative, beyond
    16 bits) are stretched from their minimum to their maximum.
    """
    samples = values.reshape(-1)
    strips = [slice(start, start + _STRIP) for start in range(0, len(samples), _STRIP)]
    bounds = [(float(grey.min()), float(grey.max())) for grey in (_finite(samples[strip]) for strip in strips)]
    least, most = min(low for low, _ in bounds), max(high for _, high in bounds)
    offset, full_scale = 0.0, 1.0
    if least < 0 or most > _FULL_SCALES[-1]:
        offset, full_scale = least, (most - least) or 1.0
    elif most > 1 or not np.issubdtype(values.dtype, np.floating):
        full_scale = float(next(scale for scale in _FULL_SCALES if most <= scale))
    converted = np.empty(len(samples), np.uint8)
    for strip in strips:
        converted[strip] = np.round((_finite(samples[strip]) - offset) * (255 / full_scale))
    return converted.reshape(values.shape)


def _finite(values: NDArray[np.generic]) -> NDArray[np.float64]:
    return np.nan_to_num(values.astype(np.float64), posinf=0.0, neginf=0.0)


def _taken_at(exif: Image.Exif) -> str | None:
    """Return EXIF's 'YYYY:MM:DD hh:mm:ss' as local ISO 8601, or None if it is missing or invalid."""
    try:
        tags = exif.get_ifd(IFD.Exif)
        taken = (Base.DateTimeOriginal, Base.DateTimeDigitized)
        written = next((tags[tag] for tag in taken if tag in tags), exif.get(Base.DateTime))
        return datetime.strptime(str(written).strip("\0 "), "%Y:%m:%d %H:%M:%S").isoformat()
    except Exception:  # broken metadata does not make the picture unusable
        return None


def _gps_position(exif: Image.Exif) -> tuple[float | None, float | None]:
    try:
        tags = exif.get_ifd(IFD.GPSInfo)
        latitude, longitude = (
            sum(float(part) / unit for part, unit in zip(tags[key + 1], (1, 60, 3600), strict=True))
            * (-1 if str(tags[key]) == negative else 1)
            for key, negative in ((1, "S"), (3, "W"))
        )
    except Exception:  # broken metadata does not make the picture unusable
        return None, None
    return (latitude, longitude) if abs(latitude) <= 90 and abs(longitude) <= 180 else (None, None)


def read_at_size(source: Source | BinaryFile, size: int) -> tuple[Pixels, PictureInfo]:
    """Read a picture at the network's size: uint8 (size, size, 3), and its metadata."""
    image, info = read_image(source, size)
    return to_pixels(image, size), info
