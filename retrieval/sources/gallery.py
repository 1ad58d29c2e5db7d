"""What may be indexed: a folder, a tar or a list of this machine, or one at an address."""

from __future__ import annotations

import os
import re
import stat
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

from retrieval.common.errors import GalleryError, PictureError
from retrieval.sources.entries import WalkEvent
from retrieval.sources.files import is_picture_name
from retrieval.sources.local import count_files, walk
from retrieval.sources.location import LIST_PREFIX, TAR_PREFIX, canonical, gallery_name, is_address, is_list, is_tar
from retrieval.sources.object_store import RemoteEntry, abort_if_unreachable, is_web, stat_remote
from retrieval.sources.picture_list import count_list, walk_list
from retrieval.sources.remote import count_remote, walk_remote
from retrieval.sources.tar import SkipTar, SourceFile, expand_tars, remote_file

_PACKED = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst", ".zip")


def resolve_gallery(gallery: str | os.PathLike[str]) -> bytes:
    """A gallery by its one name, as the catalogue keeps it: an absolute path, or an address.

    Raises GalleryError where it is no folder, tar or list that can be read.
    """
    text = os.fspath(gallery)
    if text.startswith("file://"):
        text = url2pathname(urlsplit(text).path)
    if not is_address(text):
        return _resolve_local(Path(text))
    if text.lower().endswith(_PACKED):
        raise GalleryError(f"{text} is packed, and its pictures cannot be read one by one: give a plain .tar")
    name = gallery_from_address(text)
    told = _stat_gallery(gallery_name(name))
    if not (is_tar(text) or is_list(text) or told.is_folder or (is_web(text) and not is_picture_name(text))):
        raise GalleryError(f"{text} is a file: give the folder that holds the pictures, a .tar or a .txt list")
    return name


def gallery_from_address(address: str) -> bytes:
    """The name of a gallery at an address, there or not. Raises GalleryError."""
    scheme, slashes, rest = canonical(address).partition("://")
    address = scheme + slashes + re.sub("(?<!:)//+", "/", rest)  # as what lies in it is joined to it
    return os.fsencode(LIST_PREFIX + address if is_list(address) else address)


def _stat_gallery(address: str) -> RemoteEntry:
    """What its server tells of a gallery. Raises GalleryError."""
    try:
        with abort_if_unreachable():
            return stat_remote(address)
    except PictureError as error:
        raise GalleryError(f"{address} {error.reason}, so nothing was marked missing: check the address") from error


def _resolve_local(path: Path) -> bytes:
    try:
        kind = os.stat(path).st_mode
    except (FileNotFoundError, NotADirectoryError) as error:
        raise GalleryError(
            f"{path} does not exist, so nothing was marked missing: check the name, or mount its disk"
        ) from error
    except OSError as error:
        raise GalleryError(
            f"{path} cannot be read ({error.strerror}), so nothing was marked missing: check the name and permissions"
        ) from error
    real = os.path.realpath(path)
    named = os.path.join(os.path.realpath(path.parent), path.name)  # where a link leads to a file of another name
    named = named if is_tar(named) or is_list(named) else real
    if stat.S_ISREG(kind) and (is_tar(named) or is_list(named)):
        return os.fsencode((TAR_PREFIX if is_tar(named) else LIST_PREFIX) + named)
    if not stat.S_ISDIR(kind):
        raise GalleryError(f"{path} is not a folder: give the folder that holds the pictures, a .tar or a .txt list")
    return os.fsencode(real)


def walk_gallery(gallery: bytes, passed_over: Counter[str], skip_tar: SkipTar) -> Iterator[WalkEvent]:
    """All that is met in a gallery, in the order of the paths' bytes; `is_read` tells which tars need not be.

    Raises GalleryError where it is not there, or its server does not answer.
    """
    text = os.fsdecode(gallery)
    if text.startswith(LIST_PREFIX):
        return walk_list(gallery, passed_over, skip_tar)
    if not is_address(text):
        return walk(gallery, passed_over)
    if is_tar(text):
        return expand_tars(iter([_stat_tar(gallery, text.removeprefix(TAR_PREFIX))]), passed_over, skip_tar)
    return walk_remote(text, passed_over, skip_tar)


def count_gallery_files(galleries: Iterable[bytes]) -> int | None:
    """How many files will be met in these; None where that is not known before, as of tars."""
    counts = [_count(gallery) for gallery in galleries]
    return None if None in counts else sum(filter(None, counts))


def _count(gallery: bytes) -> int | None:
    text = os.fsdecode(gallery)
    if text.startswith(LIST_PREFIX):
        return count_list(gallery)
    if not is_address(text):
        return count_files([gallery])
    return None if is_tar(text) else count_remote(text)


def _stat_tar(gallery: bytes, tar: str) -> SourceFile:
    if is_address(tar):
        return remote_file(gallery, _stat_gallery(tar))
    try:
        told = os.stat(tar)
    except OSError as error:
        raise GalleryError(
            f"{tar} cannot be read ({error.strerror}), so nothing was marked missing: check it"
        ) from error
    return SourceFile(gallery, tar, told.st_size, told.st_mtime_ns, None)
