"""The folders that the processes of one server share, with the locks and uploads in them."""

import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from indexes.atomic_files import IS_WINDOWS
from retrieval.common.errors import RetrievalError

UPLOADS = "retrieve-uploads"
"""The folder that is made in the user's folder for uploads: nothing else that lies there is touched."""

_PREFIX = "retrieve-serve-"
_ALIVE = "alive"


@dataclass(frozen=True)
class SharedFolders:
    """`folder` is the server's own and is deleted at its end; `uploads` is in it, or in the user's folder."""

    folder: Path
    uploads: Path

    @property
    def metrics(self) -> Path:
        """Where each process keeps its metrics."""
        return self.folder / "metrics"

    @property
    def indexing(self) -> Path:
        """Where it is kept whether indexing runs, and why it last failed."""
        return self.folder / "indexing"

    def delete(self) -> None:
        """Delete the server's own folder."""
        shutil.rmtree(self.folder, ignore_errors=True)


@contextmanager
def shared_folders(uploads: Path | None = None) -> Iterator[SharedFolders]:
    """Make folders that only this user can read, with uploads in another folder if one is given.

    The folders of servers that were killed are deleted. Raises RetrievalError.
    """
    with _explain_disk_errors(
        "the server has no room for its temporary files",
        "make room there, or name another folder in the environment variable TMPDIR",
    ):
        _delete_orphaned(Path(tempfile.gettempdir()))
        shared, alive = _make_own_folder(uploads)
    try:
        with _explain_disk_errors(f"{shared.uploads} cannot keep uploads", "give another folder with --uploads"):
            shared.uploads.mkdir(mode=0o700, parents=True, exist_ok=True)
            if not IS_WINDOWS:
                _require_private(shared.uploads)
            tempfile.TemporaryFile(dir=shared.uploads).close()
        yield shared
    finally:
        alive.release()
        shared.delete()


def _delete_orphaned(temporary_folder: Path) -> None:
    """Delete the folders of this user's servers whose lock nobody holds: they were killed."""
    for folder in temporary_folder.glob(f"{_PREFIX}*"):
        with suppress(OSError):  # gone, not locked yet, or held
            if _is_own(folder) and stat.S_ISREG((folder / _ALIVE).lstat().st_mode):
                with FileLock(folder / _ALIVE, blocking=False):
                    shutil.rmtree(folder, ignore_errors=True)


def _is_own(folder: Path) -> bool:
    status = folder.lstat()
    return stat.S_ISDIR(status.st_mode) and (not hasattr(os, "getuid") or status.st_uid == os.getuid())


def _require_private(folder: Path) -> None:
    """Raise RetrievalError if others could put files into a folder, or replace it by another one."""
    status, parent = folder.lstat(), folder.parent.stat()
    if not _is_own(folder):
        raise RetrievalError(f"{folder} is a link or another user's: give another folder with --uploads")
    if status.st_mode & 0o022:
        raise RetrievalError(f"others can write {folder}: delete it, or give another folder with --uploads")
    if parent.st_mode & stat.S_IWOTH and not parent.st_mode & stat.S_ISVTX:
        raise RetrievalError(f"everybody can write {folder.parent}: give another folder with --uploads")


def _make_own_folder(uploads: Path | None) -> tuple[SharedFolders, FileLock]:
    """Make the server's folder and lock the file in it until this process ends, however it does.

    Another server may lock the file first and delete the folder: then a new one is made.
    """
    while True:
        folder = Path(tempfile.mkdtemp(prefix=_PREFIX))
        shared = SharedFolders(folder, folder / "uploads" if uploads is None else uploads / UPLOADS)
        alive = FileLock(folder / _ALIVE)
        try:
            shared.metrics.mkdir()
            shared.indexing.mkdir()
            alive.acquire()
        except FileNotFoundError:
            continue
        except BaseException:
            shared.delete()
            raise
        if (folder / _ALIVE).exists():
            return shared, alive
        alive.release()


@contextmanager
def _explain_disk_errors(problem: str, remedy: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise RetrievalError(f"{problem} ({error.strerror}): {remedy}") from error
