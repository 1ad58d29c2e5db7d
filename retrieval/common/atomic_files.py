"""Atomic writes of files, with errors in words."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from indexes.atomic_files import write_file
from retrieval.common.errors import RetrievalError
from retrieval.common.text import safe_name


def write_atomically(path: Path, content: bytes | str) -> None:
    """Write a file whole or not at all, text as UTF-8, and make its folders. Raises RetrievalError."""
    with explain_write_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_file(path, content.encode("utf-8") if isinstance(content, str) else content)


@contextlib.contextmanager
def explain_write_errors(path: Path) -> Iterator[None]:
    """Turn an OSError into a RetrievalError that says that this path cannot be written."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or error
        raise RetrievalError(
            f"{safe_name(path)} cannot be written ({reason}): choose a place that you may write to and that has room"
        ) from error
