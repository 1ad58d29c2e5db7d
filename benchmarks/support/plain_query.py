"""`plain_query.py PICTURE INDEX FOLDER`: a query as one writes it with torch, FAISS and the grad-cam package.

The index is one that plain.py wrote. It prints the five nearest pictures and writes twenty overlays into the folder.
"""

import json
import sys
from pathlib import Path

import faiss
import numpy as np
import torch
from PIL import Image
from pytorch_grad_cam.utils.image import show_cam_on_image
from torch import Tensor

from retrieval.common.settings import Preprocessing
from retrieval.model.bundle import find_bundle
from retrieval.model.head import Array
from retrieval.model.siamese import load_model
from support.plain import describe, seen, view_of
from support.plain_maps import TARGETS, package_maps

TOP = 5


def main() -> None:
    picture, file, folder = map(Path, sys.argv[1:])
    pre = find_bundle("default").card.preprocessing
    model, view = load_model("default"), view_of(pre)
    query = seen(picture, view)[None]
    files = json.loads(file.with_suffix(".json").read_text("utf-8"))
    distances, places = faiss.read_index(str(file)).search(describe(model, query).numpy(), TOP)
    hits = torch.stack([seen(Path(files[place]), view) for place in places[0]])
    maps = package_maps(model, query, hits, 1)
    folder.mkdir(exist_ok=True)
    for place, name in enumerate(TARGETS):
        _write(maps[place, 0], query.expand_as(hits), pre, folder, f"{name}-query")
        _write(maps[place, 1], hits, pre, folder, f"{name}-hit")
    for place, cosine in zip(places[0], distances[0], strict=True):
        print(f"{cosine:.4f} {files[place]}")


def _write(maps: Array, pictures: Tensor, pre: Preprocessing, folder: Path, name: str) -> None:
    for number, (heat, x) in enumerate(zip(maps, pictures.numpy(), strict=True), 1):
        colours = (x.transpose(1, 2, 0) * pre.std + pre.mean) / 255
        overlay = show_cam_on_image(np.clip(colours, 0, 1).astype(np.float32), heat, use_rgb=True)
        Image.fromarray(overlay).save(folder / f"{number}-{name}.jpg")


if __name__ == "__main__":
    main()
