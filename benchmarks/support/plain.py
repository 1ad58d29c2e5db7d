"""The plain loop: a folder of pictures into a flat index, as one writes it with torch, torchvision and FAISS.

Pillow decodes each picture in full, torchvision scales, crops and normalises it, the default model's own backbone
embeds it in eager torch, float32, inference mode; two worker processes load batches of 32.

`plain.py GALLERY INDEX` prints JSON: the seconds from after the model's loading to the written index, the pictures, and
the peak memory of the process and of its largest worker.
"""

import json
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path

import faiss
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import normalize
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from retrieval.common.settings import Preprocessing
from retrieval.model.bundle import find_bundle
from retrieval.model.siamese import SiameseNetwork, load_model
from support.galleries import pictures
from support.machine import peak_bytes

BATCH = 32
WORKERS = 2
SCALED = 256  # the shorter side before the central square is cut out

View = Callable[[Image.Image], Tensor]


class Pictures(Dataset[Tensor]):
    """Files as the network's input, float32 (3, H, W)."""

    def __init__(self, files: list[Path], view: View) -> None:
        self.files = files
        self.view = view

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, place: int) -> Tensor:
        return seen(self.files[place], self.view)


def main() -> None:
    folder, file = map(Path, sys.argv[1:])
    model, view = load_model("default"), view_of(find_bundle("default").card.preprocessing)
    started = time.perf_counter()
    count = index_folder(model, view, folder, file)
    seconds = time.perf_counter() - started
    worker = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    print(json.dumps({"seconds": seconds, "pictures": count, "peak": peak_bytes(), "peak of a worker": worker}))


def view_of(pre: Preprocessing) -> View:
    """Return torchvision's usual transforms from a picture to the network's input."""
    mean, std = ([value / 255 for value in values] for values in (pre.mean, pre.std))
    square = [transforms.Resize(SCALED), transforms.CenterCrop(pre.size)]
    view: View = transforms.Compose([*square, transforms.ToTensor(), transforms.Normalize(mean, std)])
    return view


def seen(file: Path, view: View) -> Tensor:
    """Return a file as the network's input."""
    with Image.open(file) as picture:
        return view(picture.convert("RGB"))


def describe(model: SiameseNetwork, x: Tensor) -> Tensor:
    """Descriptors (B, C) of unit length."""
    with torch.inference_mode():
        return normalize(model.backbone(x).mean((2, 3)))


def index_folder(model: SiameseNetwork, view: View, folder: Path, file: Path) -> int:
    """Write a flat index of the folder's pictures, and beside it their paths; how many they are."""
    files = pictures(folder)
    index = faiss.IndexFlatIP(model.dense.in_features)
    for x in DataLoader(Pictures(files, view), BATCH, num_workers=WORKERS):
        index.add(describe(model, x).numpy())
    faiss.write_index(index, str(file))
    file.with_suffix(".json").write_text(json.dumps([str(path) for path in files]), "utf-8")
    return int(index.ntotal)


if __name__ == "__main__":
    main()
