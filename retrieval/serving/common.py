"""What the processes of one server have in common: folders, locks in them, and nothing in memory."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from retrieval.errors import RetrievalError

UPLOADS = "retrieve-uploads"
"""The folder of uploads in one that the user names, which may hold other files."""


@dataclass(frozen=True)
class Common:
    """`folder` is the server's own, deleted in the end; `uploads` is in it, or where the user wants it."""

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
def common(uploads: Path | None = None) -> Iterator[Common]:
    """Folders that only this user can read; uploads may be kept in another one. Raises RetrievalError."""
    made = Common(_own_folder(), Path())
    try:
        made = Common(made.folder, made.folder / "uploads" if uploads is None else uploads / UPLOADS)
        for each in (made.metrics, made.indexing):
            each.mkdir()
        _make(made.uploads)
        yield made
    finally:
        made.delete()


def _own_folder() -> Path:
    try:
        return Path(tempfile.mkdtemp(prefix="retrieve-serve-"))
    except OSError as error:
        raise RetrievalError(
            f"no temporary folder can be made ({error.strerror or error}): set TMPDIR to one that can be written"
        ) from error


def _make(uploads: Path) -> None:
    try:
        uploads.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=uploads):
            pass
    except OSError as error:
        raise RetrievalError(
            f"{uploads} cannot keep uploads ({error.strerror}): give another folder with --uploads"
        ) from error
