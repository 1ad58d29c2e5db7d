"""Files written whole or not at all: a full disk or a kill leaves no half of one behind."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from retrieval.common.errors import RetrievalError
from retrieval.common.text import safe_name


def write_atomically(path: Path, content: bytes | str) -> None:
    """Write beside the place, then rename into it; folders are made. Raises RetrievalError."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    with explain_write_errors(path):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            part.write_bytes(content.encode("utf-8") if isinstance(content, str) else content)
            with open(part, "rb") as file:
                os.fsync(file.fileno())  # before the name says that it is there
            os.replace(part, path)
        finally:
            with contextlib.suppress(OSError):
                part.unlink(missing_ok=True)


@contextlib.contextmanager
def explain_write_errors(path: Path) -> Iterator[None]:
    """Turns an error of the file system into a sentence about this path."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or error
        raise RetrievalError(
            f"{safe_name(path)} cannot be written ({reason}): choose a place that you may write to and that has room"
        ) from error
