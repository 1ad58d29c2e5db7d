"""Files and PIL pictures, opened and loaded by the decoder of their format."""

import io
import struct
from contextlib import suppress
from typing import cast

from PIL import AvifImagePlugin, Image, ImageFile, Jpeg2KImagePlugin, TiffImagePlugin, WebPImagePlugin

from retrieval.common.errors import PictureError, first_line
from retrieval.model.decoding.jpeg import load_jpeg
from retrieval.model.decoding.png import SIGNATURE, load_png, without_obstacles
from retrieval.model.decoding.rare_formats import load_bmp, load_jpeg2000, load_ppm
from retrieval.model.decoding.tiff import SampledTiff, load_tiff, open_tiff
from retrieval.sources.files import BinaryFile, whole_content

_JPEGS = ("JPEG", "MPO")
_FORMATS = (
    *("JPEG", "PNG", "GIF", "BMP", "DIB", "PPM"),
    WebPImagePlugin.WebPImageFile.format,
    Jpeg2KImagePlugin.Jpeg2KImageFile.format,
    AvifImagePlugin.AvifImageFile.format,
)


def open_image(file: BinaryFile) -> tuple[Image.Image, BinaryFile]:
    """Open a picture as Image.open does, but without Pillow's limit, which is the host program's; ours is used.

    Returns it with its file, or the copy that it was opened from. Raises PictureError.
    """
    head = file.read(16)
    if not head:
        raise PictureError("is empty")
    if head.startswith(SIGNATURE):
        file = without_obstacles(file)
    if head.startswith(tuple(TiffImagePlugin.PREFIXES)):
        return open_tiff(file), file
    formats: tuple[str, ...] = _FORMATS
    if head[4:8] == b"ftyp":  # HEIF's box, and AVIF's: the library for HEIC is loaded only then
        import pillow_heif

        pillow_heif.register_heif_opener()
        formats = (*_FORMATS, "HEIF")
    Image.preinit()
    reason = "is not a picture in a known format"
    for name in formats:
        factory, accepts = Image.OPEN[name]
        accepted = False
        try:
            accepted = accepts is None or accepts(head) is True
            file.seek(0)
            if accepted:
                return factory(file, ""), file
        except (SyntaxError, IndexError, TypeError, struct.error) as error:  # how plugins reject a file
            is_cut = isinstance(error.__cause__ or error, IndexError | TypeError | struct.error)
            cause = "its header is cut off" if is_cut else first_line(error)
            reason = f"is damaged or not a picture: {cause}" if accepted else reason
    raise PictureError(reason)


def load(image: Image.Image, file: BinaryFile, min_side: int | None) -> Image.Image:
    """Load a picture that was opened from this file; returns it, or one that replaces it."""
    if image.format in _JPEGS:
        return load_jpeg(image, file, min_side)
    if image.format == "PNG":
        return load_png(image, file)
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        return load_tiff(image)
    if image.format in ("BMP", "DIB"):
        return load_bmp(image)
    if image.format == "JPEG2000":
        return load_jpeg2000(image, file)
    if image.format == "PPM" and isinstance(image, ImageFile.ImageFile):
        return load_ppm(image, file)
    image.load()
    return image


def extra_bytes(image: Image.Image) -> int:
    """Return about how many bytes of memory are taken beside an opened picture where 16 bits and more are read here."""
    if isinstance(image, SampledTiff):
        return image.extra_bytes
    tiles = [(tile.codec_name, str(tile.args)) for tile in getattr(image, "tile", ())]
    deep = ("16B",) if "transparency" in image.info else ("A;16B", "RGB;16B")
    is_deep = any(codec == "ppm" or (codec == "zip" and args.endswith(deep)) for codec, args in tiles)
    return 8 * image.width * image.height if is_deep else 0


def file_behind(image: Image.Image) -> BinaryFile | None:
    """Return the file of a PIL picture, so that it is read as the file is, or None if the picture may be another one.

    That is of one that was opened and nothing else, and of a loaded JPEG whose file still has the same pixels.
    """
    if not isinstance(image, ImageFile.ImageFile) or image.format not in (*_FORMATS, "MPO", "TIFF", "HEIF"):
        return None
    with suppress(Exception):  # the file may be closed, gone, or no file at all
        if image._im is None and not image.decoderconfig and image.tell() == 0:
            return io.BytesIO(whole_content(cast(BinaryFile, image.fp)))
        if image.format in _JPEGS and image.filename:
            with open(image.filename, "rb") as file, Image.open(file) as again:
                if again.mode == image.mode and again.size == image.size and again.tobytes() == image.tobytes():
                    return io.BytesIO(whole_content(file))
    return None


def is_like_jpeg(image: Image.Image) -> bool:
    """Return whether a loaded picture was a JPEG, or may have been one: other formats are not decoded small."""
    return image.format in (None, *_JPEGS)
