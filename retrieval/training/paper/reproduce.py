"""Do the paper's section 4 again: train, measure on what was not seen, crop, train anew, and explain pairs.

Every step leaves its result in a folder and is passed over where it is there already, so that a run that was killed
goes on, and Table 1 begins with the model of the flowers.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from retrieval.common.errors import GalleryError, SettingError
from retrieval.common.progress import Step, Track, untracked
from retrieval.common.settings import PaperCase
from retrieval.datasets.class_folders import DataSet, find_samples
from retrieval.datasets.crop import CropReport
from retrieval.datasets.crop_page import sample_crops
from retrieval.datasets.pair_sampling import random_pairs
from retrieval.datasets.split import Split, read_split
from retrieval.evaluation.measure import DatasetEvaluation, EvaluatedModel, EvaluationOptions, evaluate_models
from retrieval.model.bundle import Bundle, find_bundle
from retrieval.model.encoder import Encoder
from retrieval.sources.local import count_files
from retrieval.training.paper.cropped_sets import is_cropped, load_or_crop
from retrieval.training.paper.results import (
    ModelSummary,
    Plan,
    SeedRun,
    StudyResult,
    TableResult,
    UnseenCounts,
    collect_scores,
)
from retrieval.training.paper.shown_pairs import explain_pairs, measure_crop_pairs
from retrieval.training.prepared_data import Recipe
from retrieval.training.prepared_data import Watch as TrainingWatch
from retrieval.training.train_bundle import WORK, train_bundle

DEFAULT_MODEL = "default"
_CROPS = 4  # shown, as in Figure 5


@contextmanager
def _silent_training() -> Iterator[TrainingWatch]:
    yield TrainingWatch()


@contextmanager
def _silent_steps() -> Iterator[Step]:
    yield lambda step: None


@dataclass(frozen=True)
class Watch:
    """What is told on the way: opened for each training, for each network that is prepared and for each stage.

    `say` takes a sentence about what is reused or lacking.
    """

    training: Callable[[], AbstractContextManager[TrainingWatch]] = _silent_training
    preparing: Callable[[], AbstractContextManager[Step]] = _silent_steps
    track: Track = untracked
    say: Callable[[str], None] = lambda sentence: None


SILENT_WATCH = Watch()


def reproduce_case(plan: Plan, watch: Watch = SILENT_WATCH) -> StudyResult | TableResult:
    """Do a case again. Raises RetrievalError."""
    if not plan.dataset.is_dir():
        raise GalleryError(f"{plan.dataset} is not a folder: give --data the folder that holds {plan.study.folder}")
    return _run_table(plan, watch) if plan.case is PaperCase.table1 else _run_study(plan, watch)


def _run_study(plan: Plan, watch: Watch) -> StudyResult:
    model = _train_model(plan, plan.dataset, plan.study.folder, plan.seed, watch)
    subjects = [_open_model(model.folder, plan, watch), _open_model(DEFAULT_MODEL, plan, watch)]
    measured = _measure_unseen(plan, _read_samples(plan, watch), subjects, plan.seed, watch)
    pairs = explain_pairs(measured, subjects[0], plan.study.kind)
    return StudyResult(plan, model, _count_unseen(measured), measured.results, pairs)


def _run_table(plan: Plan, watch: Watch) -> TableResult:
    dataset = _read_samples(plan, watch)
    runs = tuple(_seed_run(plan, dataset, seed, watch) for seed in plan.all_seeds)
    first = runs[0]
    comparers = [_open_model(model.folder, plan, watch).encoder for model in (first.original, first.cropped)]
    twins = measure_crop_pairs(first.crops, first.crops.out, *comparers)
    return TableResult(plan, runs, tuple(sample_crops(first.crops, _CROPS)), twins)


def _seed_run(plan: Plan, dataset: DataSet, seed: int, watch: Watch) -> SeedRun:
    name = plan.study.folder
    original = _train_model(plan, plan.dataset, name, seed, watch)
    first = _open_model(original.folder, plan, watch)
    crops = _crop_set(plan, dataset, first.encoder, seed, watch)
    cropped = _train_model(plan, crops.out, f"{name}-cropped", seed, watch)
    subjects = [first, _open_model(cropped.folder, plan, watch)]
    measured = _measure_unseen(plan, dataset, subjects, seed, watch)
    pairs = [measured.results[subject.name].pairs for subject in subjects]
    figures = collect_scores(pairs[0], original), collect_scores(pairs[1], cropped)
    return SeedRun(seed, original, cropped, crops, _count_unseen(measured), *figures)


def _train_model(plan: Plan, dataset: Path, name: str, seed: int, watch: Watch) -> ModelSummary:
    """Train a model, or give back the one that is there already."""
    folder = plan.out / "models" / f"{name}-{seed}"
    recipe = Recipe(dataset, plan.preset, seed, plan.weights)
    if (folder / "model.json").exists():
        watch.say(f"{folder} is trained already, and used again")
    elif (folder / WORK).exists():
        watch.say(f"{folder} is an unfinished training, and gone on with")
    with watch.training() as training:
        trained = train_bundle(recipe, folder, resume=True, device=plan.device, watch=training)
    pictures = trained.bundle.card.provenance["pictures"]
    return ModelSummary(folder, pictures, trained.best_epoch, len(trained.history))


def _crop_set(plan: Plan, dataset: DataSet, encoder: Encoder, seed: int, watch: Watch) -> CropReport:
    out = plan.out / "sets" / f"{plan.study.folder}-cropped-{seed}"
    if is_cropped(out):
        watch.say(f"{out} is cropped already, and used again")
    return load_or_crop(dataset, out, encoder, watch.track)


def _read_samples(plan: Plan, watch: Watch) -> DataSet:
    with watch.track(f"Reading {plan.study.folder}", count_files([os.fsencode(plan.dataset)])) as advance:
        return find_samples(plan.dataset, advance)


def _open_model(model: str | Path, plan: Plan, watch: Watch) -> EvaluatedModel:
    """A model, ready to be asked. Its name is that of its folder."""
    bundle = find_bundle(model if isinstance(model, str) else os.path.abspath(model))
    with watch.preparing() as on_step:
        comparer = Encoder(bundle, plan.device, on_step)
        comparer.load()
    return EvaluatedModel(bundle.folder.name, comparer, read_split(bundle.folder))


def _require_split(bundle: Bundle) -> Split:
    split = read_split(bundle.folder)
    if split is None:
        raise SettingError(f"{bundle.folder} has no split.json: remove the folder, and run again")
    return split


def _measure_unseen(
    plan: Plan, dataset: DataSet, subjects: list[EvaluatedModel], seed: int, watch: Watch
) -> DatasetEvaluation:
    """The models on the test part of the first, whole pictures that none of them has learnt from."""
    test = frozenset(_require_split(subjects[0].encoder.bundle).parts["test"])
    left = replace(dataset, samples=tuple(sample for sample in dataset.samples if sample.hash in test))
    possible = int(random_pairs(left.codes, seed)[2].sum()) if left.samples else 0
    if not possible:
        raise GalleryError(
            f"{plan.dataset} leaves {len(left.samples)} pictures unseen, of which no two make a pair of one class and"
            " of two: give more pictures, or where they were changed since the training, --out another folder"
        )
    pairs = min(plan.pairs, possible)
    if pairs < plan.pairs:
        watch.say(f"the unseen part makes only {pairs} pairs of each kind, not {plan.pairs}: all are used")
    with watch.track(f"Embedding {plan.study.folder}", len(left.samples)) as advance:
        return evaluate_models(left, subjects, EvaluationOptions(seed=seed, pairs=pairs), advance)


def _count_unseen(measured: DatasetEvaluation) -> UnseenCounts:
    result = next(iter(measured.results.values()))
    return UnseenCounts(result.pictures, result.classes, result.pairs.similar)
