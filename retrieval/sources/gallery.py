"""Galleries: a folder, a tar or a list, on this machine or at an address."""

import os
import re
import stat
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from threading import Event

from retrieval.common.errors import GalleryError, PictureError, unavailable_gallery
from retrieval.sources.entries import PictureFile, WalkEvent, storable_time
from retrieval.sources.files import is_picture_name
from retrieval.sources.local import walk
from retrieval.sources.location import (
    LIST_PREFIX,
    TAR_PREFIX,
    canonical,
    catalogue_path,
    gallery_name,
    is_address,
    is_list,
    is_tar,
)
from retrieval.sources.object_store import RemoteEntry, abort_if_unreachable, is_web, stat_remote
from retrieval.sources.picture_list import walk_list
from retrieval.sources.remote import walk_remote
from retrieval.sources.spelling import real_path, typed_path
from retrieval.sources.tar import SkipTar, expand_tars

_COMPRESSED = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst", ".zip")


def resolve_gallery(gallery: str | os.PathLike[str]) -> bytes:
    """Return a gallery's path in the catalogue: an absolute path, or an address.

    Raises GalleryError if it is no folder, tar or list that can be read.
    """
    text = typed_path(os.fspath(gallery))
    if not is_address(text):
        return _resolve_local(Path(text))
    if text.lower().endswith(_COMPRESSED):
        raise GalleryError(f"{text} is compressed, and its pictures cannot be read one by one: give a plain .tar")
    name = gallery_from_address(text)
    entry = _stat_gallery(gallery_name(name))
    if not (is_tar(text) or is_list(text) or entry.is_folder or (is_web(text) and not is_picture_name(text))):
        raise GalleryError(f"{text} is a file: give the folder that holds the pictures, a .tar or a .txt list")
    return name


def gallery_from_address(address: str) -> bytes:
    """Return the path in the catalogue of a gallery at an address, present or not. Raises GalleryError."""
    scheme, slashes, rest = canonical(address).partition("://")
    address = scheme + slashes + re.sub("(?<!:)//+", "/", rest)  # so that names joined to it compare equal
    return os.fsencode(LIST_PREFIX + address if is_list(address) else address)


def _stat_gallery(address: str) -> RemoteEntry:
    """Look up a gallery on its server. Raises GalleryError."""
    try:
        with abort_if_unreachable():
            return stat_remote(address)
    except PictureError as error:
        raise unavailable_gallery(address, error.reason, "check the address") from error


def _resolve_local(path: Path) -> bytes:
    try:
        mode = os.stat(path).st_mode
    except (FileNotFoundError, NotADirectoryError) as error:
        raise unavailable_gallery(path, "does not exist", "check the name, or mount its disk") from error
    except OSError as error:
        reason = f"cannot be read ({error.strerror})"
        raise unavailable_gallery(path, reason, "check the name and permissions") from error
    real = real_path(path)
    named = os.path.join(real_path(path.parent), path.name)  # a link may lead to a file of another name
    named = named if is_tar(named) or is_list(named) else real
    if stat.S_ISREG(mode) and (is_tar(named) or is_list(named)):
        return os.fsencode(TAR_PREFIX if is_tar(named) else LIST_PREFIX) + catalogue_path(Path(named))
    if stat.S_ISREG(mode) and is_picture_name(path):
        raise GalleryError(f"{path} is a picture: give the folder that holds it, or `retrieve query` to search with it")
    if not stat.S_ISDIR(mode):
        raise GalleryError(f"{path} is not a folder: give the folder that holds the pictures, a .tar or a .txt list")
    return catalogue_path(Path(real))


def walk_gallery(gallery: bytes, passed_over: Counter[str], skip_tar: SkipTar, cancelled: Event) -> Iterator[WalkEvent]:
    """Walk a gallery in the order of its paths' bytes. Files that are no pictures are counted in `passed_over`.

    Once `cancelled` is set, no tar is fetched any further. Raises GalleryError if the gallery does not exist or its
    server does not answer.
    """
    text = os.fsdecode(gallery)
    if text.startswith(LIST_PREFIX):
        files = walk_list(gallery)
    elif not is_address(text):
        return walk(gallery, passed_over)
    elif is_tar(text):
        files = iter([_stat_tar(gallery, text.removeprefix(TAR_PREFIX))])
    else:
        files = walk_remote(text, passed_over)
    return expand_tars(files, passed_over, skip_tar, cancelled)


def _stat_tar(gallery: bytes, tar: str) -> PictureFile:
    if is_address(tar):
        return _stat_gallery(tar).to_picture(gallery)
    try:
        status = os.stat(tar)
    except OSError as error:
        raise unavailable_gallery(tar, f"cannot be read ({error.strerror})") from error
    return PictureFile(gallery, status.st_size, storable_time(status.st_mtime_ns))
