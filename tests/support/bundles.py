"""Model bundles made of the shipped one, without torch."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from retrieval.model.bundle import Bundle, find_bundle, write_card

Tensors = dict[str, NDArray[Any]]


def altered_bundle(folder: Path, alter: Callable[[Tensors], None], **card: Any) -> Bundle:
    """Copy the default bundle, alter its tensors in place, and give its card these values; its name is the folder's."""
    shipped = find_bundle("default")
    shutil.copytree(shipped.folder, folder)
    tensors = load_file(shipped.weights_file)
    alter(tensors)
    save_file(tensors, folder / shipped.weights_file.name)
    write_card(replace(shipped.card, name=folder.name, **card), folder)
    bundle = find_bundle(str(folder))
    assert bundle.has_network  # it refers to weights that lie where they did
    return bundle
