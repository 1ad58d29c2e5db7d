"""Walk of a local folder, in the order of its paths' bytes."""

import os
import stat
from collections import Counter
from collections.abc import Collection, Iterator

from indexes.catalogue.paths import folder_prefix
from retrieval.common.errors import read_error
from retrieval.common.output_names import is_output
from retrieval.sources.entries import HIDDEN, OWN_NAMES, SAME_FOLDER, PictureFile, Unreadable, storable_time
from retrieval.sources.files import SUFFIXES

_SYSTEM_FOLDERS = {b"@eadir", b"#recycle", b"@recycle", b"#snapshot", b"@recently-snapshot", b"@__thumb"}
_SYSTEM_FOLDERS |= {b"$recycle.bin", b"system volume information", b"lost+found", b"__macosx"}

_STORE = b".retrieve"  # whose own files are nobody's pictures

_Found = tuple[bytes, os.DirEntry[bytes] | None]  # the path of a folder, or of a picture with its entry


def walk(folder: bytes, passed_over: Counter[str] | None = None) -> Iterator[PictureFile | Unreadable]:
    """Yield the pictures below a folder, and what cannot be read; links are followed, each folder is entered once.

    Names that begin with a dot are left out, such as `.retrieve`, `.git` and the `._` files of macOS, and so are
    overlays that a query has written. Other files are counted in `passed_over` by the suffixes of their names, and
    folders of thumbnails and deleted pictures, as network disks make them, by their names; what is left out for
    another reason by that (LEFT_OUT).
    """
    entered: set[tuple[int, int]] = set()
    passed_over = Counter() if passed_over is None else passed_over
    todo: list[_Found] = [(folder, None)]  # no recursion: folders may lie deeper than Python's stack
    while todo:
        path, entry = todo.pop()
        if entry is not None:
            yield _stat_entry(path, entry)
            continue
        try:
            todo += reversed(_list_folder(path, entered, passed_over))
        except OSError as error:
            yield Unreadable.from_error(path, read_error(error), is_folder=True)


def _list_folder(folder: bytes, entered: set[tuple[int, int]], passed_over: Counter[str]) -> list[_Found]:
    """Return the folders and the pictures in a folder, in order; none if it was entered before."""
    status = os.stat(folder)
    if (status.st_dev, status.st_ino) in entered:
        passed_over[SAME_FOLDER] += 1
        return []
    entered.add((status.st_dev, status.st_ino))
    with os.scandir(folder) as entries:
        by_key = {_sort_key(entry): entry for entry in entries}
    listed: list[_Found] = []
    start = folder_prefix(folder)  # an entry's own path has back slashes on Windows
    for key, entry in sorted(by_key.items()):
        if is_left_out(entry.name, key.endswith(b"/"), passed_over):
            continue
        if key.endswith(b"/"):
            listed.append((start + entry.name, None))
        elif is_gallery_picture(key, passed_over, by_key):
            listed.append((start + entry.name, entry))
    return listed


def is_hidden(name: bytes, is_folder: bool, passed_over: Counter[str]) -> bool:
    """Return whether a name, or a folder in it, begins with a dot; folders and pictures' names are counted."""
    if b"/." not in b"/" + name:
        return False
    if (is_folder and name != _STORE) or (not is_folder and _suffix(name) in SUFFIXES):
        passed_over[HIDDEN] += 1
    return True


def is_left_out(name: bytes, is_folder: bool, passed_over: Counter[str]) -> bool:
    """Return whether a walk leaves out a name: hidden ones, and folders that a disk or its system keeps for itself."""
    if is_hidden(name, is_folder, passed_over):
        return True
    if not is_folder or name.lower() not in _SYSTEM_FOLDERS:
        return False
    passed_over[f"{os.fsdecode(name)}/"] += 1
    return True


def is_gallery_picture(name: bytes, passed_over: Counter[str], beside: Collection[bytes] = ()) -> bool:
    """Return whether a file of this name is a picture of a gallery; others are counted.

    What a query writes is none. If the names `beside` it in its folder are known and none is of that, it is a picture.
    """
    suffix = _suffix(name)
    if suffix not in SUFFIXES:
        passed_over[suffix] += 1
        return False
    if is_output(os.fsdecode(name)) and (not beside or any(_is_written(each) for each in beside if each != name)):
        passed_over[OWN_NAMES] += 1
        return False
    return True


def _is_written(name: bytes) -> bool:
    return name == b"model.json" or is_output(os.fsdecode(name))


def _suffix(name: bytes) -> str:
    return os.path.splitext(os.fsdecode(name))[1].lower()


def _sort_key(entry: os.DirEntry[bytes]) -> bytes:
    """Return what an entry is sorted by: a folder sorts with the slash that follows its name in its contents' paths."""
    try:
        return entry.name + b"/" if entry.is_dir() else entry.name
    except OSError:  # a loop of links is no folder
        return entry.name


def _stat_entry(path: bytes, entry: os.DirEntry[bytes]) -> PictureFile | Unreadable:
    try:
        status = entry.stat()
    except FileNotFoundError:
        return Unreadable(path, "is a link to nothing")
    except OSError as error:
        return Unreadable.from_error(path, read_error(error))
    if not stat.S_ISREG(status.st_mode):
        return Unreadable(path, "is not a regular file")
    return PictureFile(path, status.st_size, storable_time(status.st_mtime_ns), ctime=storable_time(status.st_ctime_ns))
