"""Copies of data sets, to train on, cropped to what a model looks at (section 4.4 of the paper)."""

import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from retrieval.common.atomic_files import explain_write_errors
from retrieval.common.errors import RetrievalError
from retrieval.common.parallel import batched
from retrieval.common.progress import SILENT, Progress
from retrieval.datasets.class_folders import PART_NAMES, DataSet, LeftOut, check_outside, read_pixels
from retrieval.datasets.crop_files import Crop, CropDecision, CropGuide, CropRules, UncroppedReason, write_pictures
from retrieval.datasets.pair_sampling import Codes, class_members
from retrieval.datasets.split import TRAIN, Split, find_split, read_split
from retrieval.explain.methods.cam_variants import grad_cam
from retrieval.explain.pair_explainer import PairExplainer
from retrieval.model.encoder import Encoder
from retrieval.model.preprocessing import Pixels

_BATCH = 32
_IDENTICAL_TOLERANCE = 1e-3  # descriptors closer than this share of their length differ by their rounding to float16


@dataclass(frozen=True)
class CropReport:
    """What was done to each picture of a data set. `rules` has the seed that was used."""

    dataset: Path
    out: Path
    rules: CropRules
    crops: tuple[Crop, ...]
    uncropped: dict[UncroppedReason, int]
    left_out: LeftOut
    has_split: bool
    seconds: float

    @property
    def picture_count(self) -> int:
        """The number of pictures written."""
        return len(self.crops) + sum(self.uncropped.values())

    @property
    def median_share(self) -> float | None:
        """The median share of its picture's area that a crop keeps; None if there are no crops."""
        return float(np.median([crop.share for crop in self.crops])) if self.crops else None


def check_new_folder(dataset: Path, out: Path) -> Path:
    """Return the folder to write, resolved. Raises RetrievalError if it is not empty or lies in the data set."""
    target = out.resolve()
    check_outside(dataset, out)
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise RetrievalError(f"{out} is there already: give a new or an empty folder")
    return target


def crop_dataset(
    dataset: DataSet, out: Path, encoder: Encoder, rules: CropRules, progress: Progress = SILENT
) -> CropReport:
    """Copy a data set into a new folder, its training pictures cropped to what makes them similar to their class.

    Training pictures are those of the bundle's split, else of the data set's, else all. If the similarity of one and a
    random other one of its class is above `rules.similarity`, its copy is the box of its focus; every other file is
    copied byte for byte. The split is copied in `split.json`. The folder appears when it is complete. Raises
    RetrievalError.
    """
    started = time.perf_counter()
    target = check_new_folder(dataset.folder, out)
    split = read_split(encoder.bundle.folder) or find_split(dataset)
    _part_names(dataset, split)  # refuse a wrong data set before the work
    if rules.seed is None:
        rules = replace(rules, seed=split.seed if split else 0)
    with _work_folder(target) as work:
        size = encoder.bundle.card.preprocessing.size
        dataset, pixels = read_pixels(dataset, size, work / "pixels.npy", progress)
        parts = _part_names(dataset, split)
        decisions = _decide(dataset, parts, pixels, encoder, rules, progress)
        new = work / "data"
        new.mkdir()
        hashes, results = zip(*write_pictures(dataset, decisions, new, rules, progress), strict=True)
        if split:
            # The uncropped content stays in its part too: no model that learnt the crop is measured on it.
            split.for_folder(target, dict(zip(hashes, parts, strict=True))).write(new)
        if target.exists():
            target.rmdir()  # empty, but some systems cannot rename to it
        os.rename(new, target)
    crops = [result for result in results if isinstance(result, Crop)]
    uncropped = {reason: results.count(reason) for reason in UncroppedReason}
    seconds = time.perf_counter() - started
    return CropReport(dataset.folder, out, rules, tuple(crops), uncropped, dataset.left_out, split is not None, seconds)


def draw_partners(codes: Codes, seed: int) -> Codes:
    """Return for each picture (N,) the row of a random other one of its class; -1 for one alone in its class."""
    random = np.random.default_rng(seed)
    partners = np.full(len(codes), -1, np.int64)
    for members in class_members(codes):
        if len(members) > 1:
            steps = random.integers(1, len(members), len(members))
            partners[members] = members[(np.arange(len(members)) + steps) % len(members)]
    return partners


@contextmanager
def _work_folder(target: Path) -> Iterator[Path]:
    """Make a temporary folder on the same disk as the target. Raises RetrievalError."""
    with explain_write_errors(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".crop-", dir=target.parent, ignore_cleanup_errors=True) as work:
            yield Path(work)


def _part_names(dataset: DataSet, split: Split | None) -> list[str]:
    """Return the part of each sample, empty if the split does not know it. Raises RetrievalError if it knows none."""
    if split is None:
        return [PART_NAMES[TRAIN]] * len(dataset.samples)
    parts = [split.part_by_hash.get(sample.hash, "") for sample in dataset.samples]
    if not any(parts):
        raise RetrievalError(
            f"{dataset.folder} holds no picture that the model knows from its training:"
            f" give the data set that it was trained on, {split.dataset}"
        )
    return parts


def _decide(
    dataset: DataSet, parts: list[str], pixels: Pixels, encoder: Encoder, rules: CropRules, progress: Progress
) -> list[CropDecision]:
    """Return how each sample is to be cropped, or why it is not."""
    decisions: list[CropDecision] = [UncroppedReason.held_out if part else UncroppedReason.unknown for part in parts]
    train = np.flatnonzero([part == PART_NAMES[TRAIN] for part in parts])
    if not len(train):
        return decisions
    with progress.stage("Embedding", len(train)) as stage:
        descriptors = encoder.describe(stage.track(pixels[row] for row in train))
    partners = draw_partners(dataset.codes[train], rules.seed or 0)
    explainer = PairExplainer(encoder, encoder.bundle.head)
    similarity = 1 - explainer.head.descriptor_distances(descriptors, descriptors[partners])
    lengths = np.linalg.norm(descriptors, axis=1)
    apart = np.linalg.norm(descriptors - descriptors[partners], axis=1) > _IDENTICAL_TOLERANCE * lengths
    for row, partner, value in zip(train, partners, similarity, strict=True):
        decisions[row] = (
            UncroppedReason.alone
            if partner < 0
            else UncroppedReason.no_focus
            if value > rules.similarity
            else UncroppedReason.below_similarity
        )
    chosen = np.flatnonzero((partners >= 0) & (similarity > rules.similarity) & apart)
    with progress.stage("Explaining", len(chosen)) as stage:
        for batch in batched(chosen, _BATCH):
            first, second = train[batch], train[partners[batch]]
            # The partners' descriptors are exact too: those of `describe`, which are rounded, would move the maps.
            exact = encoder.activate(list(pixels[second])).descriptors
            _, evidence_for = grad_cam(explainer.inputs(list(pixels[first]), exact))
            for row, other, value, heatmap in zip(first, second, similarity[batch], evidence_for, strict=True):
                if heatmap.max() > 0:
                    path = dataset.samples[other].path
                    decisions[row] = CropGuide(path, float(value), heatmap / heatmap.max())
            stage.advance(len(batch))
    return decisions
