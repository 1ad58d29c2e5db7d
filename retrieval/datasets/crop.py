"""A data set cropped to what the model looks at (section 4.4 of the paper): a copy of it to train on."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from retrieval.common.atomic_files import explain_write_errors
from retrieval.common.errors import RetrievalError
from retrieval.common.progress import SILENT, Progress
from retrieval.datasets.class_folders import DataSet, LeftOut, check_outside, read_pixels
from retrieval.datasets.crop_files import Crop, CropDecision, CropGuide, UncroppedReason, write_pictures
from retrieval.datasets.pair_sampling import Codes
from retrieval.datasets.split import PART_NAMES, TRAIN, Split, read_split
from retrieval.explain.focus_box import FOCUS_MARGIN, FOCUS_THRESHOLD
from retrieval.explain.gradcam import signed_maps
from retrieval.model.encoder import Encoder
from retrieval.model.head import Array
from retrieval.model.preprocessing import Pixels

MIN_SIMILARITY = 0.8  # of the paper
_BATCH = 32
_IDENTICAL_TOLERANCE = 1e-3  # descriptors closer than this share of their length differ by their rounding to float16


@dataclass(frozen=True)
class CropRules:
    """Which training pictures are cropped, and to what. `seed` draws the partners; None takes the split's, or 0."""

    similarity: float = MIN_SIMILARITY
    threshold: float = FOCUS_THRESHOLD
    margin: float = FOCUS_MARGIN
    seed: int | None = None


@dataclass(frozen=True)
class CropReport:
    """What became of a data set's pictures. `rules` has the seed that was used."""

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
        """How many pictures were written."""
        return len(self.crops) + sum(self.uncropped.values())

    @property
    def median_share(self) -> float | None:
        """The median of what crops keep of their pictures' areas."""
        return float(np.median([crop.share for crop in self.crops])) if self.crops else None

    def values(self) -> dict[str, Any]:
        """Plain values for machines, with stable keys."""
        return {
            "dataset": str(self.dataset),
            "out": str(self.out),
            **asdict(self.rules),
            "pictures": self.picture_count,
            "cropped": len(self.crops),
            **{str(why): count for why, count in self.uncropped.items()},
            "left_out": [{"path": str(path), "reason": reason} for path, reason in self.left_out],
            "median_share": self.median_share,
            "split": self.has_split,
            "seconds": self.seconds,
            "crops": [crop.values() for crop in self.crops],
        }


def check_new_folder(dataset: Path, out: Path) -> Path:
    """The folder to write, resolved. Raises RetrievalError where it holds something or lies in the data set."""
    place = out.resolve()
    check_outside(dataset, out)
    if place.exists() and (not place.is_dir() or any(place.iterdir())):
        raise RetrievalError(f"{out} is there already: give a new or an empty folder")
    return place


def crop_dataset(
    dataset: DataSet, out: Path, encoder: Encoder, rules: CropRules | None = None, progress: Progress = SILENT
) -> CropReport:
    """Copy a data set into a new folder, its training pictures cropped to what makes them similar to their class.

    Training pictures are those of the bundle's split, or all. Where the similarity of one and a random other one of
    its class is above `rules.similarity`, its copy is the box of its focus; every other file is copied byte for
    byte. The split goes along in `split.json`. The folder appears when it is whole. Raises RetrievalError.
    """
    started, rules = time.perf_counter(), rules or CropRules()
    place = check_new_folder(dataset.folder, out)
    split = read_split(encoder.bundle.folder)
    _part_names(dataset, split)  # a wrong data set is told before the work
    if rules.seed is None:
        rules = replace(rules, seed=split.seed if split else 0)
    with _work_folder(place) as work:
        size = encoder.bundle.card.preprocessing.size
        dataset, pixels = read_pixels(dataset, size, work / "pixels.npy", progress)
        parts = _part_names(dataset, split)
        fates = _decide(dataset, parts, pixels, encoder, rules, progress)
        new = work / "data"
        new.mkdir()
        hashes, results = write_pictures(dataset, fates, new, rules.threshold, rules.margin, progress)
        if split:
            # What a crop was cut from stays in its part too: no model that learnt the crop is measured on it.
            split.for_folder(place, dict(zip(hashes, parts, strict=True))).write(new)
        if place.exists():
            place.rmdir()  # empty, and in the way on some systems
        os.rename(new, place)
    crops = [result for result in results if isinstance(result, Crop)]
    whole = {why: results.count(why) for why in UncroppedReason}
    seconds = time.perf_counter() - started
    return CropReport(dataset.folder, out, rules, tuple(crops), whole, dataset.left_out, split is not None, seconds)


def draw_partners(codes: Codes, seed: int) -> Codes:
    """For each picture (N,) the place of a random other one of its class; -1 for one alone in its class."""
    random = np.random.default_rng(seed)
    partners = np.full(len(codes), -1, np.int64)
    for code in np.unique(codes):
        members = np.flatnonzero(codes == code)
        if len(members) > 1:
            steps = random.integers(1, len(members), len(members))
            partners[members] = members[(np.arange(len(members)) + steps) % len(members)]
    return partners


@contextmanager
def _work_folder(place: Path) -> Iterator[Path]:
    """A folder on the same disk to work in, which does not outlive the work. Raises RetrievalError."""
    with explain_write_errors(place):
        place.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".crop-", dir=place.parent, ignore_cleanup_errors=True) as work:
            yield Path(work)


def _part_names(dataset: DataSet, split: Split | None) -> list[str]:
    """The part of each sample, empty where the split does not know it. Raises RetrievalError where it knows none."""
    if split is None:
        return [PART_NAMES[TRAIN]] * len(dataset.samples)
    known = {content: name for name in PART_NAMES for content in split.parts[name]}
    parts = [known.get(sample.hash, "") for sample in dataset.samples]
    if not any(parts):
        raise RetrievalError(
            f"{dataset.folder} holds no picture that the model knows from its training:"
            f" give the data set that it learnt, {split.dataset}"
        )
    return parts


def _decide(
    dataset: DataSet, parts: list[str], pixels: Pixels, encoder: Encoder, rules: CropRules, progress: Progress
) -> list[CropDecision]:
    """What is to become of each sample."""
    fates: list[CropDecision] = [UncroppedReason.held_out if part else UncroppedReason.unknown for part in parts]
    train = np.flatnonzero([part == PART_NAMES[TRAIN] for part in parts])
    if not len(train):
        return fates
    head = encoder.bundle.head
    descriptors = _describe_rows(pixels, train, encoder, progress)
    partners = draw_partners(dataset.codes[train], rules.seed or 0)
    embeddings = head.embed(descriptors)
    similarity = 1 - head.distance(head.separation(embeddings, embeddings[partners]))
    lengths = np.linalg.norm(descriptors, axis=1)
    apart = np.linalg.norm(descriptors - descriptors[partners], axis=1) > _IDENTICAL_TOLERANCE * lengths
    for place, partner, value in zip(train, partners, similarity, strict=True):
        fates[place] = (
            UncroppedReason.alone
            if partner < 0
            else UncroppedReason.no_focus
            if value > rules.similarity
            else UncroppedReason.below_similarity
        )
    chosen = np.flatnonzero((partners >= 0) & (similarity > rules.similarity) & apart)
    with progress.stage("Explaining", len(chosen)) as stage:
        for batch in _batches(chosen):
            first, second = train[batch], train[partners[batch]]
            maps = _similarity_evidence(encoder, list(pixels[first]), list(pixels[second]))
            for anchor, other, value, evidence in zip(first, second, similarity[batch], maps, strict=True):
                if evidence.max() > 0:
                    path = dataset.samples[other].path
                    fates[anchor] = CropGuide(path, float(value), evidence / evidence.max())
            stage.advance(len(batch))
    return fates


def _similarity_evidence(encoder: Encoder, anchors: list[Pixels], partners: list[Pixels]) -> Array:
    """What makes each anchor similar to its partner, at least 0, float32 (N, h, w).

    The partners are activated too: their descriptors as `describe` gives them would move the maps.
    """
    features, others = encoder.activate(anchors), encoder.activate(partners).descriptors
    maps = signed_maps(encoder.bundle.head, features.activations, features.descriptors, others)
    return np.maximum(-maps, 0)


def _describe_rows(pixels: Pixels, places: Codes, encoder: Encoder, progress: Progress) -> Array:
    """Descriptors (N, C) of the pictures at these places."""
    parts = []
    with progress.stage("Embedding", len(places)) as stage:
        for batch in _batches(places):
            parts.append(encoder.describe(list(pixels[batch])))
            stage.advance(len(batch))
    return np.concatenate(parts)


def _batches(places: Codes) -> Iterator[Codes]:
    return (places[start : start + _BATCH] for start in range(0, len(places), _BATCH))
