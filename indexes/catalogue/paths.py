"""Folders and the paths below them, as bytes."""

from sqlalchemy import ColumnElement, and_


def contains(folder: bytes, path: bytes) -> bool:
    """Return whether a path is below a folder with no name between that begins with a dot, which a walk skips."""
    start = folder_prefix(folder)
    return path.startswith(start) and b"/." not in path[len(start) - 1 :]


def folder_prefix(folder: bytes) -> bytes:
    """Return a folder with the slash that all paths below it have."""
    return folder if folder.endswith(b"/") else folder + b"/"


def path_range(folder: bytes) -> tuple[bytes, bytes]:
    """Return two paths between which all paths below a folder lie, as `0` follows `/` in ASCII."""
    start = folder_prefix(folder)
    return start, start[:-1] + b"0"


def is_below(column: ColumnElement[bytes], folder: bytes) -> ColumnElement[bool]:
    """Return the condition that a path is below a folder."""
    start, end = path_range(folder)
    return and_(column > start, column < end)


def parents(path: bytes) -> list[bytes]:
    """Return the folders that a path lies in, the outermost first."""
    parts = path.split(b"/")
    return [b"/".join(parts[:length]) for length in range(1, len(parts))]
