"""The labels of pictures in class folders."""

import os
import unicodedata


def folder_label(path: bytes, root: bytes) -> str | None:
    """Return the name of the picture's parent folder, or None if it lies directly in the gallery."""
    folder = os.path.dirname(path)
    return label_text(os.path.basename(folder).decode("utf-8", "replace")) if folder != root else None


def label_text(label: str) -> str:
    """Return a label as the catalogue keeps it: with letters and their accents composed, however a disk spells them."""
    return unicodedata.normalize("NFC", os.fsencode(label).decode("utf-8", "replace"))


def label_spellings(label: str) -> set[str]:
    """Return how the catalogue may have a label: one of an earlier version is as its disk spelled the folder's name."""
    kept = os.fsencode(label).decode("utf-8", "replace")
    return {kept, *(unicodedata.normalize(form, kept) for form in ("NFC", "NFD"))}
