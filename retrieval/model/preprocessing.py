"""Safe decoding of pictures of any origin, upright, in RGB and no larger than needed."""

import io
import math
import os
from contextlib import suppress
from dataclasses import dataclass
from typing import NamedTuple, Self, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.ExifTags import Base

from retrieval.common.errors import PictureError, RetrievalError, first_line, lack_of_memory
from retrieval.common.settings import Preprocessing, max_pixels
from retrieval.model.decoding.apart import decode_apart, may_take_long
from retrieval.model.decoding.colours import to_rgb
from retrieval.model.decoding.jpeg import reduce_as_jpeg, reduce_jpeg
from retrieval.model.decoding.limits import ROOM, TimedFile, decoded_bytes, require_few_scans
from retrieval.model.decoding.metadata import gps_position, taken_at
from retrieval.model.decoding.opening import extra_bytes, file_behind, is_like_jpeg, load, open_image
from retrieval.sources.files import BinaryFile, open_file

Pixels = NDArray[np.uint8]
Source = str | os.PathLike[str] | bytes | Image.Image | Pixels
"""A picture as a path, as the bytes of a file, as a PIL image, or as an (H, W, 3) uint8 array."""
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
        return _decode(file_behind(source) or source, min_side)
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
        if isinstance(source, Image.Image):
            file, image = None, source
        else:
            image, file = open_image(cast(BinaryFile, TimedFile(source)))
        width, height = image.size
        _check_size(width, height)
        if file is not None:
            require_few_scans(image, file)
            reduce_jpeg(image, min_side)
        memory = decoded_bytes(image, width * height) + extra_bytes(image)
        with ROOM.hold(memory):
            if file is not None and may_take_long(image, file):
                with suppress(OSError):  # no process can be started
                    upright, values = decode_apart(file, min_side, memory)
                    return upright, PictureInfo(**values)
            loaded = image if file is None else load(image, file, min_side)
            loaded.load()  # before `getexif`, which loads a PNG, and whose errors are ignored
            exif = Image.Exif()
            with suppress(Exception):  # broken metadata does not make the picture unusable
                exif = image.getexif()
            upright = _in_memory_to_rgb(loaded, min_side) if file is None else to_rgb(loaded, min_side)
            if (turn := _TURNS.get(exif.get(Base.Orientation, 1))) is not None:
                upright = upright.transpose(turn)
            del image, loaded  # before others take its room
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
    return upright, PictureInfo(*size, taken_at(exif), *gps_position(exif))


def _check_size(width: int, height: int) -> None:
    if width < 1 or height < 1:
        raise PictureError("has no pixels")
    if width * height > (limit := max_pixels()):
        raise PictureError(
            f"has {width * height / 1e6:,.0f} megapixels, more than the limit of {limit / 1e6:,.0f}"
            " (raise it with RETRIEVE_MAX_MEGAPIXELS)"
        )


def _in_memory_to_rgb(image: Image.Image, min_side: int | None) -> Image.Image:
    """Return a loaded picture in RGB, reduced as its file would have been decoded, if that may have been a JPEG."""
    return reduce_as_jpeg(to_rgb(image), min_side) if is_like_jpeg(image) else to_rgb(image, min_side)


def read_at_size(source: Source | BinaryFile, size: int) -> tuple[Pixels, PictureInfo]:
    """Read a picture at the network's size: uint8 (size, size, 3), and its metadata."""
    image, info = read_image(source, size)
    return to_pixels(image, size), info
