"""The evaluation of models on the pictures of a data set that none of them has learnt from."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from retrieval.common.errors import GalleryError
from retrieval.common.progress import SILENT, Progress
from retrieval.common.settings import POOL
from retrieval.datasets.class_folders import DataSet
from retrieval.datasets.descriptors import describe_samples
from retrieval.datasets.pair_sampling import Codes, Flags, most_pairs, random_pairs
from retrieval.datasets.split import Split, read_split, unseen_part
from retrieval.evaluation.ranking import Evaluation, evaluate_head
from retrieval.model.bundle import find_bundle
from retrieval.model.encoder import Encoder
from retrieval.model.head import Array


@dataclass(frozen=True)
class EvaluatedModel:
    """A model to evaluate, by the name that the user gave; `split` is that of its training, if it was trained."""

    name: str
    encoder: Encoder
    split: Split | None

    @property
    def learnt(self) -> frozenset[str]:
        """The contents (SHA-256, hex) that it was trained on."""
        return self.split.learnt if self.split else frozenset()


@dataclass(frozen=True)
class EvaluationOptions:
    """How models are evaluated.

    `pairs` similar and as many different pairs are drawn; None: one of each per picture. With `include_seen`, pictures
    that a model has learnt from are included.
    """

    pool: int = POOL
    seed: int = 0
    pairs: int | None = None
    include_seen: bool = False


@dataclass(frozen=True)
class DatasetEvaluation:
    """The evaluated pictures, and each model's descriptors and figures, by name.

    `seen_count` pictures were left out because a model has learnt from them; `learnt_counts` is how many by model.
    """

    dataset: DataSet
    options: EvaluationOptions
    seen_count: int
    learnt_counts: dict[str, int]
    descriptors: dict[str, Array]
    results: dict[str, Evaluation]

    @property
    def pairs(self) -> tuple[Codes, Codes, Flags]:
        """The pairs that every model was evaluated on: first and second rows, and whether they are similar."""
        return random_pairs(self.dataset.codes, self.options.seed, self.options.pairs)


def find_model(name: str, device: str = "auto", progress: Progress = SILENT) -> EvaluatedModel:
    """Find the model of this name or in this folder; its network is opened on first use. Raises ModelError."""
    bundle = find_bundle(name)
    return EvaluatedModel(name, Encoder(bundle, device, progress), read_split(bundle.folder))


def folders_to_measure(chosen: Sequence[Path], model: EvaluatedModel) -> list[Path]:
    """Return the chosen folders, else the data set that the model was trained on, if any.

    Raises GalleryError if one is not a folder.
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
    dataset: DataSet, models: Sequence[EvaluatedModel], options: EvaluationOptions, progress: Progress = SILENT
) -> DatasetEvaluation:
    """Evaluate all models on the same pictures and pairs: on those of the test folder, if there is one.

    Raises GalleryError if nothing can be compared.
    """
    contents = {sample.hash for sample in dataset.samples}
    learnt = {each.name: len(contents & each.learnt) for each in models}
    left, seen = dataset, 0
    if not options.include_seen:
        left = exclude_learnt(dataset, frozenset().union(*(each.learnt for each in models)))
        seen = len(dataset.samples) - len(left.samples)
        if (left := unseen_part(left)).folder_parts:
            progress.message(f"measured on its {left.folder_parts[left.samples[0].hash]} part")
    read, descriptors = describe_samples(left, [each.encoder for each in models], progress)
    if options.pairs is not None and options.pairs > (most := max(1, most_pairs(read.codes))):
        progress.message(f"{read.folder} makes only {most} pairs of each kind, not {options.pairs}: {most} are used")
        options = replace(options, pairs=most)
    labels = [sample.label for sample in read.samples]
    by_name = dict(zip((each.name for each in models), descriptors, strict=True))
    results = {
        each.name: evaluate_head(each.encoder.bundle.head, found, labels, options.pool, options.seed, options.pairs)
        for each, found in zip(models, descriptors, strict=True)
    }
    return DatasetEvaluation(read, options, seen, learnt, by_name, results)


def exclude_learnt(dataset: DataSet, learnt: frozenset[str]) -> DataSet:
    """Return the data set without contents that a model has learnt from. Raises GalleryError if none are left."""
    left = tuple(sample for sample in dataset.samples if sample.hash not in learnt)
    if not left:
        raise GalleryError(
            f"{dataset.folder} holds only pictures that the model has learnt from: give others, or say --seen"
        )
    return replace(dataset, samples=left)
