"""The files of a cropped data set: their names, and how they are written."""

import hashlib
import itertools
import os
import shutil
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Any

from retrieval.common.output_names import is_output
from retrieval.common.progress import Progress
from retrieval.datasets.class_folders import DataSet, Sample
from retrieval.explain.focus_box import FOCUS_MARGIN, FOCUS_THRESHOLD, PixelBox, focus_box
from retrieval.model.head import Array
from retrieval.model.preprocessing import read_image
from retrieval.rendering.overlay import encode_image

_WRITERS = 2
_JPEG = (".jpg", ".jpeg", ".jpe", ".jfif")
_QUALITY = 95


@dataclass(frozen=True)
class CropRules:
    """Which training pictures are cropped, and to what. `seed` draws the partners; None: the split's, or 0."""

    similarity: float = 0.8  # of the paper
    threshold: float = FOCUS_THRESHOLD
    margin: float = FOCUS_MARGIN
    seed: int | None = None


class UncroppedReason(StrEnum):
    """Why a picture is not cropped."""

    below_similarity = "below_similarity"
    held_out = "held_out"  # in the split's validation or test
    unknown = "unknown"  # to the split
    alone = "alone"  # no other picture of its class is trained on
    no_focus = "no_focus"  # its partner looks the same, or the focus is the whole picture


@dataclass(frozen=True)
class Crop:
    """A cropped picture.

    Paths are absolute, but `written` is relative to the new data set. `box` is in pixels of the upright picture of
    `size`; `heatmap` (h, w) in [0, 1] is the picture's evidence for the similarity with its partner.
    """

    source: Path
    written: Path
    partner: Path
    similarity: float
    size: tuple[int, int]
    box: PixelBox
    heatmap: Array

    @property
    def share(self) -> float:
        """The share of the picture's area that the crop keeps, 0 to 1."""
        left, top, right, bottom = self.box
        return (right - left) * (bottom - top) / (self.size[0] * self.size[1])

    def values(self) -> dict[str, Any]:
        """Return plain values for JSON, with stable keys; the heatmap is left out."""
        return {
            "source": str(self.source),
            "written": str(self.written),
            "partner": str(self.partner),
            "similarity": self.similarity,
            "width": self.size[0],
            "height": self.size[1],
            "box": list(self.box),
        }


@dataclass(frozen=True)
class CropGuide:
    """How to crop a picture: by its heatmap (h, w) in [0, 1], which explains the similarity with its partner."""

    partner: Path
    similarity: float
    heatmap: Array


CropDecision = CropGuide | UncroppedReason


def write_pictures(
    dataset: DataSet, decisions: Sequence[CropDecision], folder: Path, rules: CropRules, progress: Progress
) -> list[tuple[str, Crop | UncroppedReason]]:
    """Write every picture into a new folder; return each file's hash, and its crop or why there is none.

    Crops keep their names, and JPEG files their format; other crops are PNG. All other files are copied byte for byte.
    Raises PictureError and OSError.
    """
    top = Path(os.path.abspath(dataset.folder))
    relative = [sample.path.relative_to(top) for sample in dataset.samples]
    taken = {os.fspath(name).casefold() for name in relative}
    names = [
        _crop_name(name, taken) if isinstance(decision, CropGuide) else name
        for name, decision in zip(relative, decisions, strict=True)
    ]
    write = partial(_write, folder=folder, rules=rules)
    with progress.stage("Writing", len(names)) as stage, ThreadPoolExecutor(_WRITERS) as threads:
        return list(stage.track(threads.map(write, dataset.samples, decisions, relative, names)))


def _crop_name(name: Path, taken: set[str]) -> Path:
    """Return the file name of a picture's crop, ending in .png unless it is a JPEG's; no name is used twice."""
    if name.suffix.lower() in (*_JPEG, ".png"):
        return name
    endings = itertools.chain([""], (f"-{number}" for number in itertools.count(2)))
    candidates = (name.with_name(f"{name.stem}{ending}.png") for ending in endings)
    free = next(each for each in candidates if os.fspath(each).casefold() not in taken and not is_output(each.name))
    taken.add(os.fspath(free).casefold())
    return free


def _write(
    sample: Sample, decision: CropDecision, whole_name: Path, crop_name: Path, folder: Path, rules: CropRules
) -> tuple[str, Crop | UncroppedReason]:
    """Write a picture, cropped or whole; return the file's hash, and the crop or why there is none."""
    target = folder / crop_name
    target.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(decision, CropGuide):
        image = read_image(sample.path)[0]
        box = focus_box(decision.heatmap, image.size, rules.threshold, rules.margin)
        if box != (0, 0, *image.size):
            kind = "JPEG" if crop_name.suffix.lower() in _JPEG else "PNG"
            content = encode_image(image.crop(box), kind, _QUALITY)
            target.write_bytes(content)
            partner, similarity, heatmap = decision.partner, decision.similarity, decision.heatmap
            crop = Crop(sample.path, crop_name, partner, similarity, image.size, box, heatmap)
            return hashlib.sha256(content).hexdigest(), crop
        decision = UncroppedReason.no_focus
    shutil.copyfile(sample.path, folder / whole_name)
    return sample.hash, decision
