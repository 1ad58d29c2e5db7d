"""Do the paper's section 4 again: train, measure on what was not seen, crop, train anew, and explain pairs.

Every step leaves its result in a folder and is passed over where it is there already, so that a run that was killed
goes on, and Table 1 begins with the model of the flowers.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from retrieval.common.errors import GalleryError, SettingError
from retrieval.common.progress import SILENT, Progress
from retrieval.common.settings import DEFAULT_MODEL
from retrieval.datasets.class_folders import DataSet, find_samples
from retrieval.datasets.crop import CropReport
from retrieval.datasets.crop_page import sample_crops
from retrieval.datasets.pair_sampling import random_pairs
from retrieval.datasets.split import Split, read_split
from retrieval.evaluation.measure import DatasetEvaluation, EvaluatedModel, EvaluationOptions, evaluate_models
from retrieval.model.bundle import Bundle, find_bundle
from retrieval.model.encoder import Encoder
from retrieval.training.paper.case import PaperCase
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
from retrieval.training.prepared_data import PreparedData, Recipe
from retrieval.training.train_bundle import WORK, train_bundle

_CROPS = 4  # shown, as in Figure 5


OnData = Callable[[PreparedData], None]
"""Called with the data of each training before it begins."""


@dataclass(frozen=True)
class _Reports:
    progress: Progress
    on_data: OnData


def reproduce_case(
    plan: Plan, progress: Progress = SILENT, on_data: OnData = lambda data: None
) -> StudyResult | TableResult:
    """Do a case again. Raises RetrievalError."""
    if not plan.dataset.is_dir():
        raise GalleryError(f"{plan.dataset} is not a folder: give --data the folder that holds {plan.study.folder}")
    run = _run_table if plan.case is PaperCase.table1 else _run_study
    return run(plan, _Reports(progress, on_data))


def _run_study(plan: Plan, reports: _Reports) -> StudyResult:
    model = _train_model(plan, plan.dataset, plan.study.folder, plan.seed, reports)
    subjects = [_open_model(model.folder, plan, reports), _open_model(DEFAULT_MODEL, plan, reports)]
    measured = _measure_unseen(plan, _read_samples(plan, reports), subjects, plan.seed, reports)
    pairs = explain_pairs(measured, subjects[0], plan.study.kind)
    return StudyResult(plan, model, _count_unseen(measured), measured.results, pairs)


def _run_table(plan: Plan, reports: _Reports) -> TableResult:
    dataset = _read_samples(plan, reports)
    runs = tuple(_seed_run(plan, dataset, seed, reports) for seed in plan.all_seeds)
    first = runs[0]
    comparers = [_open_model(model.folder, plan, reports).encoder for model in (first.original, first.cropped)]
    twins = measure_crop_pairs(first.crops, first.crops.out, *comparers)
    return TableResult(plan, runs, tuple(sample_crops(first.crops, _CROPS)), twins)


def _seed_run(plan: Plan, dataset: DataSet, seed: int, reports: _Reports) -> SeedRun:
    name = plan.study.folder
    original = _train_model(plan, plan.dataset, name, seed, reports)
    first = _open_model(original.folder, plan, reports)
    crops = _crop_set(plan, dataset, first.encoder, seed, reports)
    cropped = _train_model(plan, crops.out, f"{name}-cropped", seed, reports)
    subjects = [first, _open_model(cropped.folder, plan, reports)]
    measured = _measure_unseen(plan, dataset, subjects, seed, reports)
    pairs = [measured.results[subject.name].pairs for subject in subjects]
    figures = collect_scores(pairs[0], original), collect_scores(pairs[1], cropped)
    return SeedRun(seed, original, cropped, crops, _count_unseen(measured), *figures)


def _train_model(plan: Plan, dataset: Path, name: str, seed: int, reports: _Reports) -> ModelSummary:
    """Train a model, or give back the one that is there already."""
    folder = plan.out / "models" / f"{name}-{seed}"
    recipe = Recipe(dataset, plan.preset, seed, plan.weights)
    if (folder / "model.json").exists():
        reports.progress.message(f"{folder} is trained already, and used again")
    elif (folder / WORK).exists():
        reports.progress.message(f"{folder} is an unfinished training, and gone on with")
    trained = train_bundle(
        recipe, folder, resume=True, device=plan.device, progress=reports.progress, on_data=reports.on_data
    )
    pictures = trained.bundle.card.provenance["pictures"]
    return ModelSummary(folder, pictures, trained.best_epoch, len(trained.history))


def _crop_set(plan: Plan, dataset: DataSet, encoder: Encoder, seed: int, reports: _Reports) -> CropReport:
    out = plan.out / "sets" / f"{plan.study.folder}-cropped-{seed}"
    if is_cropped(out):
        reports.progress.message(f"{out} is cropped already, and used again")
    return load_or_crop(dataset, out, encoder, reports.progress)


def _read_samples(plan: Plan, reports: _Reports) -> DataSet:
    return find_samples(plan.dataset, reports.progress)


def _open_model(model: str | Path, plan: Plan, reports: _Reports) -> EvaluatedModel:
    """A model, ready to be asked. Its name is that of its folder."""
    bundle = find_bundle(model if isinstance(model, str) else os.path.abspath(model))
    comparer = Encoder(bundle, plan.device, reports.progress)
    comparer.load()
    return EvaluatedModel(bundle.folder.name, comparer, read_split(bundle.folder))


def _require_split(bundle: Bundle) -> Split:
    split = read_split(bundle.folder)
    if split is None:
        raise SettingError(f"{bundle.folder} has no split.json: remove the folder, and run again")
    return split


def _measure_unseen(
    plan: Plan, dataset: DataSet, subjects: list[EvaluatedModel], seed: int, reports: _Reports
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
        reports.progress.message(
            f"the unseen part makes only {pairs} pairs of each kind, not {plan.pairs}: all are used"
        )
    return evaluate_models(left, subjects, EvaluationOptions(seed=seed, pairs=pairs), reports.progress)


def _count_unseen(measured: DatasetEvaluation) -> UnseenCounts:
    result = next(iter(measured.results.values()))
    return UnseenCounts(result.pictures, result.classes, result.pairs.similar)
