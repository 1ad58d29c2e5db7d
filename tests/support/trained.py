"""Bundles that say what they were trained on, for the tests of measuring them."""

import hashlib
import shutil
from collections.abc import Iterable
from pathlib import Path

from retrieval.datasets.split import Split
from retrieval.model.bundle import Bundle


def contents(paths: Iterable[Path]) -> tuple[str, ...]:
    return tuple(hashlib.sha256(path.read_bytes()).hexdigest() for path in paths)


def trained_copy(bundle: Bundle, folder: Path, dataset: Path, learnt: Iterable[Path]) -> Path:
    """Copy a bundle as if it had learnt from these pictures: validated on the first, trained on the others."""
    shutil.copytree(bundle.folder, folder)
    first, *others = contents(learnt)
    Split(str(dataset), 0, {"train": tuple(others), "validation": (first,), "test": ()}).write(folder)
    return folder
