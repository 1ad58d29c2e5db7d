"""What the processes of one server have in common: folders, locks in them, and nothing in memory."""

from __future__ import annotations

import fcntl
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from retrieval.common.errors import RetrievalError

UPLOADS = "retrieve-uploads"
"""The folder that is made in the one that the user names: nothing else that lies there is touched."""

_PREFIX = "retrieve-serve-"
_ALIVE = "alive"


@dataclass(frozen=True)
class SharedFolders:
    """`folder` is the server's own, deleted in the end; `uploads` is in it, or in the user's."""

    folder: Path
    uploads: Path

    @property
    def metrics(self) -> Path:
        """Where each process keeps its figures for all."""
        return self.folder / "metrics"

    @property
    def indexing(self) -> Path:
        """Where it is kept whether an indexing goes on, and why the last one failed."""
        return self.folder / "indexing"

    def delete(self) -> None:
        """Delete the server's own folder."""
        shutil.rmtree(self.folder, ignore_errors=True)


@contextmanager
def shared_folders(uploads: Path | None = None) -> Iterator[SharedFolders]:
    """Folders that only this user can read; uploads may be kept in another one. Raises RetrievalError.

    Those of servers that were killed are deleted.
    """
    with _explain_disk_errors():
        _delete_orphaned(Path(tempfile.gettempdir()))
    made = _create_folders(uploads)
    try:
        with _explain_disk_errors():
            alive = _lock_alive_file(made.folder)
        try:
            yield made
        finally:
            os.close(alive)
    finally:
        made.delete()


def _delete_orphaned(temporary_folder: Path) -> None:
    """Delete the folders there that servers of this user have left which were killed: nobody holds their file."""
    for folder in temporary_folder.glob(f"{_PREFIX}*"):
        with suppress(OSError):  # held, gone, or without such a file, as that of a server that begins
            if not _is_own(folder):
                continue
            alive = os.open(folder / _ALIVE, os.O_RDWR | os.O_NOFOLLOW)
            try:
                fcntl.flock(alive, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
            finally:
                os.close(alive)


def _is_own(folder: Path) -> bool:
    found = folder.lstat()
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid()


def _lock_alive_file(folder: Path) -> int:
    """The folder's file, which this process holds until it ends, however that is; it is there once it is held."""
    coming = folder / f"{_ALIVE}.coming"
    alive = os.open(coming, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        fcntl.flock(alive, fcntl.LOCK_EX)
        os.rename(coming, folder / _ALIVE)
    except BaseException:
        os.close(alive)
        raise
    return alive


def _create_folders(uploads: Path | None) -> SharedFolders:
    folder = _own_folder()
    made = SharedFolders(folder, folder / "uploads" if uploads is None else uploads / UPLOADS)
    try:
        with _explain_disk_errors():
            for each in (made.metrics, made.indexing):
                each.mkdir()
        _create_uploads(made.uploads)
    except BaseException:
        made.delete()
        raise
    return made


def _own_folder() -> Path:
    with _explain_disk_errors():
        return Path(tempfile.mkdtemp(prefix=_PREFIX))


@contextmanager
def _explain_disk_errors() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise RetrievalError(
            f"the server has no place for its temporary files ({error.strerror}): make room there, or name another"
            " folder in the environment variable TMPDIR"
        ) from error


def _create_uploads(uploads: Path) -> None:
    try:
        uploads.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=uploads):
            pass
    except OSError as error:
        raise RetrievalError(
            f"{uploads} cannot keep uploads ({error.strerror}): give another folder with --uploads"
        ) from error
