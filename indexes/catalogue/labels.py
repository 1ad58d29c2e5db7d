"""The labels of pictures in class folders."""

import os


def folder_label(path: bytes, root: bytes) -> str | None:
    """Return the name of the picture's parent folder, or None if it lies directly in the gallery."""
    folder = os.path.dirname(path)
    return os.path.basename(folder).decode("utf-8", "replace") if folder != root else None
