"""TIFFs: which of the pages is the picture, and who reads it, Pillow or `tiff_samples.py`."""

import io
import struct
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from PIL import Image, ImageOps, TiffImagePlugin
from PIL.ExifTags import IFD, Base

from retrieval.common.errors import PictureError, first_line
from retrieval.model.decoding.png import is_dark
from retrieval.model.decoding.tiff_samples import Tags, is_left_to_pillow, layout_of, numbers, read_picture
from retrieval.sources.files import BinaryFile

_MOST_PAGES = 100
_MOST_PARTS = 2**20  # strips or tiles
_REDUCED, _PAGE, _MASK = 1, 2, 4  # bits of NewSubfileType
_OLD_TYPES = {2: _REDUCED, 3: _PAGE}  # SubfileType's values


class _WideTags(Tags):
    """Tags of which a page within a page may be named in 64 bits."""

    _load_dispatch = Tags._load_dispatch | {18: Tags._load_dispatch[16]}


class SampledTiff(TiffImagePlugin.TiffImageFile):
    """A page whose samples are read here, because Pillow reads them wrong or not at all."""

    def _setup(self) -> None:
        self._layout = layout_of(self.tag_v2)
        width, height = self._layout.width, self._layout.height
        self._size = (height, width) if self.tag_v2.get(274) in (5, 6, 7, 8) else (width, height)
        self._mode = "RGB"  # until it is loaded
        self.tile = []

    @property
    def extra_bytes(self) -> int:
        """About how many bytes a strip or tile and its conversion take."""
        wide, high = self._layout.segment
        return wide * high * self._layout.channels * (2 * self._layout.dtype.itemsize + 2)

    def load(self) -> Any:
        """Read the picture, upright. Raises PictureError."""
        if self._im is None:
            assert self.fp is not None
            picture = read_picture(self.fp, self._layout)
            self._mode, self.im = picture.mode, picture.im
            ImageOps.exif_transpose(self, in_place=True)
        return Image.Image.load(self)


class _PageView:
    """A file whose header names another page as the first; libtiff is told the page by itself."""

    def __init__(self, file: BinaryFile, header: bytes) -> None:
        self._file, self._header = file, header

    def read(self, size: int = -1) -> bytes:
        at = self._file.tell()
        data = self._file.read(size)
        return self._header[at : at + len(data)] + data[max(0, len(self._header) - at) :]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


def open_tiff(file: BinaryFile) -> Image.Image:
    """Open the page that is the picture: the largest that is no preview. Raises PictureError."""
    if _header(file).startswith(b"MM\0+"):
        raise PictureError("is a TIFF that is not supported: a BigTIFF whose numbers begin with their upper byte")
    try:
        pages = list(_pages(file))
        offset, tags = _picture(pages)
    except Exception as error:  # tags may be anything
        raise PictureError("is damaged or not a picture: no page of the TIFF can be read") from error
    if any(len(tags._tagdata.get(tag, b"")) > 8 * _MOST_PARTS for tag in (273, 279, 324, 325)):
        raise PictureError("is a TIFF of more than a million parts: save it anew, with larger strips or tiles")
    page: Any = _PageView(file, _header(file, offset))
    page.seek(0)
    try:
        image = (TiffImagePlugin.TiffImageFile if is_left_to_pillow(tags) else SampledTiff)(page, "")
    except SyntaxError as error:  # as Pillow calls what it does not know
        raise PictureError(f"is a TIFF that is not supported: {_describe(tags)}") from error
    except (ValueError, LookupError, TypeError) as error:
        raise PictureError("is damaged or not a picture: the tags of the TIFF are no numbers") from error
    with suppress(Exception):  # broken metadata does not make the picture unusable
        _take_over(pages[0][1], image.getexif())
    return image


def load_tiff(image: TiffImagePlugin.TiffImageFile) -> Image.Image:
    """Load a TIFF that `open_tiff` opened; colours of 16 bits that Pillow would make nearly black are read anew."""
    page: Any = image.fp  # which Pillow may let go
    try:
        image.load()
    except OSError as error:
        cause = "a part of the TIFF is damaged or missing" if "decoder error" in str(error) else first_line(error)
        raise PictureError(f"is damaged or not a picture: {cause}") from error
    if isinstance(image, SampledTiff):
        return image
    if image.mode == "RGBA" and 338 not in image.tag_v2 and not image.getchannel("A").getbbox():
        return image.convert("RGB")  # no alpha is said to be there, and none is
    tags = image.tag_v2
    if image.mode not in ("RGB", "RGBA") or numbers(tags, 258)[:1] != (16,) or not is_dark(image):
        return image
    page.seek(0)
    exact = SampledTiff(page, "")
    exact.load()
    return exact


def _pages(file: BinaryFile) -> Iterator[tuple[int, Tags]]:
    """Yield the offset and the tags of the pages, and of pages within pages: those of a file of many only at first."""
    header, size = _header(file), file.seek(0, io.SEEK_END)
    waiting, seen = [Tags(header).next], set[int]()
    while waiting and len(seen) < _MOST_PAGES:
        offset = waiting.pop(0)
        if offset in seen or not 8 <= offset < size - 2:
            continue
        seen.add(offset)
        tags = _WideTags(header)
        with suppress(Exception):  # a broken page does not cost the others
            file.seek(offset)
            tags.load(file)
            if 256 in tags and 257 in tags:
                yield offset, tags
            inside = tags.get(330, ())
            waiting += [tags.next, *(inside if isinstance(inside, tuple) else (inside,))]


def _header(file: BinaryFile, offset: int | None = None) -> bytes:
    """Return the file's header, with another place of the first page if one is given."""
    file.seek(0)
    header = file.read(8)
    large = header[2:4] in (b"+\0", b"\0+")
    if large:
        header += file.read(8)
    order = "<" if header.startswith(b"II") else ">"
    return header if offset is None else header[: 8 if large else 4] + struct.pack(order + "IQ"[large], offset)


def _picture(pages: list[tuple[int, Tags]]) -> tuple[int, Tags]:
    """Return the first of the pages of a document, else the largest that is neither a preview nor a mask."""

    def kind(tags: Tags) -> int:
        return int(tags.get(254, 0)) or _OLD_TYPES.get(tags.get(255, 1), 0)

    whole = [page for page in pages if not kind(page[1]) & (_REDUCED | _MASK)] or pages
    if kind(whole[0][1]) & _PAGE:
        return whole[0]
    return max(whole, key=lambda page: int(page[1].get(256, 0)) * int(page[1].get(257, 0)))


def _describe(tags: Tags) -> str:
    named = (("compression", 259), ("colours of kind", 262), ("bits", 258), ("samples", 277))
    said = [f"{name} {' '.join(map(str, numbers(tags, tag)[:4]))}" for name, tag in named if tags.get(tag)]
    return ", ".join(said) or "it says nothing of its samples"


def _take_over(first: Tags, exif: Image.Exif) -> None:
    """Add what the first page, often a preview, says of when and where the picture was taken."""
    for tag in (IFD.Exif, IFD.GPSInfo, Base.DateTime):
        if tag in first and tag not in exif:
            exif[tag] = first[tag]
