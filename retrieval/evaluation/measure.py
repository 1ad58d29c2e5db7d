"""Measure models on a data set, on the pictures that none of them has learnt from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from retrieval.common.errors import GalleryError
from retrieval.common.progress import Advance, Step
from retrieval.common.settings import POOL
from retrieval.datasets.class_folders import DataSet
from retrieval.datasets.descriptors import describe_samples
from retrieval.datasets.pair_sampling import Codes, Flags, random_pairs
from retrieval.datasets.split import Split, read_split
from retrieval.evaluation.ranking import Evaluation, evaluate
from retrieval.model.bundle import find_bundle
from retrieval.model.encoder import Comparer
from retrieval.model.head import Array


@dataclass(frozen=True)
class Subject:
    """A model that is measured, by the name that the user gave; `split` says what it learnt from, if it was trained."""

    name: str
    comparer: Comparer
    split: Split | None

    @property
    def learnt(self) -> frozenset[str]:
        """The contents (SHA-256, hex) that it has learnt from."""
        return self.split.learnt if self.split else frozenset()


@dataclass(frozen=True)
class Terms:
    """On what terms models are measured.

    `pairs` is how many similar and how many different pairs are drawn; None: one of each for every picture. With
    `seen`, pictures that a model has learnt from are measured on too.
    """

    pool: int = POOL
    seed: int = 0
    pairs: int | None = None
    seen: bool = False


@dataclass(frozen=True)
class Measured:
    """What came of it: the pictures that were measured on, and of each model, by name, descriptors and figures.

    `seen` is how many pictures were left out as a model has learnt from them; `learnt` how many each has, by name.
    """

    dataset: DataSet
    terms: Terms
    seen: int
    learnt: dict[str, int]
    descriptors: dict[str, Array]
    results: dict[str, Evaluation]

    @property
    def pairs(self) -> tuple[Codes, Codes, Flags]:
        """The pairs that every model was measured on: first and second places, and whether they are similar."""
        return random_pairs(self.dataset.codes, self.terms.seed, self.terms.pairs)


def find_subject(name: str, device: str = "auto", on_step: Step = lambda step: None) -> Subject:
    """The model of this name or in this folder. Its network is opened on first use. Raises ModelError."""
    bundle = find_bundle(name)
    return Subject(name, Comparer(bundle, device, on_step), read_split(bundle.folder))


def folders_to_measure(chosen: Sequence[Path], subject: Subject) -> list[Path]:
    """The chosen folders, else the data set that the model was trained on; none where neither is there.

    Raises GalleryError where one is no folder.
    """
    for folder in chosen:
        if not folder.is_dir():
            raise GalleryError(f"{folder} is not a folder: give a folder of class folders")
    if chosen or subject.split is None:
        return list(chosen)
    folder = Path(subject.split.dataset)
    if not folder.is_dir():
        raise GalleryError(f"{folder}, which {subject.name} was trained on, is not there: give a folder to measure on")
    return [folder]


def measure(
    dataset: DataSet, subjects: Sequence[Subject], terms: Terms, advance: Advance = lambda files: None
) -> Measured:
    """Measure all the models on the same pictures and pairs. Raises GalleryError where nothing can be compared."""
    contents = {sample.hash for sample in dataset.samples}
    learnt = {subject.name: len(contents & subject.learnt) for subject in subjects}
    left = dataset if terms.seen else without_learnt(dataset, frozenset().union(*(each.learnt for each in subjects)))
    read, descriptors = describe_samples(left, [subject.comparer for subject in subjects], advance)
    labels = [sample.label for sample in read.samples]
    results = {
        subject.name: evaluate(subject.comparer.bundle.head, own, labels, terms.pool, terms.seed, terms.pairs)
        for subject, own in zip(subjects, descriptors, strict=True)
    }
    seen = len(dataset.samples) - len(left.samples)
    by_name = {subject.name: own for subject, own in zip(subjects, descriptors, strict=True)}
    return Measured(read, terms, seen, learnt, by_name, results)


def without_learnt(dataset: DataSet, learnt: frozenset[str]) -> DataSet:
    """The data set without contents that a model has learnt from. Raises GalleryError where that leaves none."""
    left = tuple(sample for sample in dataset.samples if sample.hash not in learnt)
    if not left:
        raise GalleryError(
            f"{dataset.folder} holds only pictures that the model has learnt from: give others, or say --seen"
        )
    return replace(dataset, samples=left)
