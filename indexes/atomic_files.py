"""Files that are written whole or not at all, and are on the disk before they have their name."""

import contextlib
import errno
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

from indexes.retry import NEVER, retry

IS_WINDOWS = os.name == "nt"
"""Whether files that are open can be neither replaced nor deleted."""

_OPEN_SECONDS = 2.0  # for which Windows is given time to close a file that is to be replaced


@contextlib.contextmanager
def replace_file(path: Path) -> Iterator[Path]:
    """Yield a temporary file to write, with the same suffix, that takes the place of `path` when the block ends.

    If the block raises, `path` stays as it was and nothing is left of the temporary file. Raises OSError.
    """
    with temporary_file(path.parent, suffix=path.suffix[-16:]) as part:
        yield part
        move_into_place(part, path)


def write_file(path: Path, content: bytes) -> None:
    """Write a file whole or not at all. Raises OSError."""
    with replace_file(path) as part:
        part.write_bytes(content)


@contextlib.contextmanager
def temporary_file(folder: Path, prefix: str = ".", suffix: str = "") -> Iterator[Path]:
    """Yield an empty file with a new name in the folder; delete it afterwards unless it was moved. Raises OSError."""
    part = folder / f"{prefix}{secrets.token_hex(8)}.part{suffix}"
    os.close(os.open(part, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
    try:
        yield part
    finally:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)


def move_into_place(part: Path, path: Path) -> None:
    """Rename a finished file to `path`, its content on the disk before and its name after. Raises OSError."""
    with open(part, "r+b") as file:  # Windows syncs only what is open for writing
        os.fsync(file.fileno())
    retry(lambda is_repeat: os.replace(part, path), _replace_deadline, 0.01, 0.1)
    _sync_folder(path.parent)


def _replace_deadline(error: Exception, since: float) -> float:
    """Give readers time to close the file: Windows replaces none that is open."""
    return since + _OPEN_SECONDS if IS_WINDOWS and isinstance(error, PermissionError) else NEVER


def _sync_folder(folder: Path) -> None:
    """Put a folder's names on the disk, as far as the system and the file system allow it."""
    if IS_WINDOWS:  # which opens no folders
        return
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except PermissionError:  # it may be written but not listed
        return
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # as file systems say that cannot do it
            raise
    finally:
        os.close(descriptor)
