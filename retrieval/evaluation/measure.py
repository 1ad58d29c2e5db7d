"""Measure models on a data set, on the pictures that none of them has learnt from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from retrieval.common.errors import GalleryError
from retrieval.common.progress import SILENT, Progress
from retrieval.common.settings import POOL
from retrieval.datasets.class_folders import DataSet
from retrieval.datasets.descriptors import describe_samples
from retrieval.datasets.pair_sampling import Codes, Flags, random_pairs
from retrieval.datasets.split import Split, read_split
from retrieval.evaluation.ranking import Evaluation, evaluate_head
from retrieval.model.bundle import find_bundle
from retrieval.model.encoder import Encoder
from retrieval.model.head import Array


@dataclass(frozen=True)
class EvaluatedModel:
    """A model that is measured, by the name that the user gave; `split` says what it learnt from, if it was trained."""

    name: str
    encoder: Encoder
    split: Split | None

    @property
    def learnt(self) -> frozenset[str]:
        """The contents (SHA-256, hex) that it has learnt from."""
        return self.split.learnt if self.split else frozenset()


@dataclass(frozen=True)
class EvaluationOptions:
    """On what terms models are measured.

    `pairs` is how many similar and how many different pairs are drawn; None: one of each for every picture. With
    `seen`, pictures that a model has learnt from are measured on too.
    """

    pool: int = POOL
    seed: int = 0
    pairs: int | None = None
    include_seen: bool = False


@dataclass(frozen=True)
class DatasetEvaluation:
    """What came of it: the pictures that were measured on, and of each model, by name, descriptors and figures.

    `seen` is how many pictures were left out as a model has learnt from them; `learnt` how many each has, by name.
    """

    dataset: DataSet
    options: EvaluationOptions
    seen_count: int
    learnt_counts: dict[str, int]
    descriptors: dict[str, Array]
    results: dict[str, Evaluation]

    @property
    def pairs(self) -> tuple[Codes, Codes, Flags]:
        """The pairs that every model was measured on: first and second places, and whether they are similar."""
        return random_pairs(self.dataset.codes, self.options.seed, self.options.pairs)


def find_model(name: str, device: str = "auto", progress: Progress = SILENT) -> EvaluatedModel:
    """The model of this name or in this folder. Its network is opened on first use. Raises ModelError."""
    bundle = find_bundle(name)
    return EvaluatedModel(name, Encoder(bundle, device, progress), read_split(bundle.folder))


def folders_to_measure(chosen: Sequence[Path], model: EvaluatedModel) -> list[Path]:
    """The chosen folders, else the data set that the model was trained on; none where neither is there.

    Raises GalleryError where one is no folder.
    """
    for folder in chosen:
        if not folder.is_dir():
            raise GalleryError(f"{folder} is not a folder: give a folder of class folders")
    if chosen or model.split is None:
        return list(chosen)
    folder = Path(model.split.dataset)
    if not folder.is_dir():
        raise GalleryError(f"{folder}, which {model.name} was trained on, is not there: give a folder to measure on")
    return [folder]


def evaluate_models(
    dataset: DataSet,
    models: Sequence[EvaluatedModel],
    options: EvaluationOptions,
    progress: Progress = SILENT,
) -> DatasetEvaluation:
    """Measure all the models on the same pictures and pairs. Raises GalleryError where nothing can be compared."""
    contents = {sample.hash for sample in dataset.samples}
    learnt = {subject.name: len(contents & subject.learnt) for subject in models}
    left = (
        dataset
        if options.include_seen
        else exclude_learnt(dataset, frozenset().union(*(each.learnt for each in models)))
    )
    read, descriptors = describe_samples(left, [subject.encoder for subject in models], progress)
    labels = [sample.label for sample in read.samples]
    results = {
        subject.name: evaluate_head(subject.encoder.bundle.head, own, labels, options.pool, options.seed, options.pairs)
        for subject, own in zip(models, descriptors, strict=True)
    }
    seen = len(dataset.samples) - len(left.samples)
    by_name = {subject.name: own for subject, own in zip(models, descriptors, strict=True)}
    return DatasetEvaluation(read, options, seen, learnt, by_name, results)


def exclude_learnt(dataset: DataSet, learnt: frozenset[str]) -> DataSet:
    """The data set without contents that a model has learnt from. Raises GalleryError where that leaves none."""
    left = tuple(sample for sample in dataset.samples if sample.hash not in learnt)
    if not left:
        raise GalleryError(
            f"{dataset.folder} holds only pictures that the model has learnt from: give others, or say --seen"
        )
    return replace(dataset, samples=left)
