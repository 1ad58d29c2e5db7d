"""The paper's section 4 again: train, measure on unseen pictures, crop, train anew, and explain pairs.

Every step leaves its result in a folder and is skipped if that is there already, so that a run that was killed goes
on, and Table 1 begins with the model of the flowers.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from retrieval.common.errors import GalleryError, SettingError
from retrieval.common.progress import SILENT, Progress
from retrieval.common.settings import DEFAULT_MODEL
from retrieval.datasets.class_folders import DataSet, find_samples
from retrieval.datasets.crop_page import sample_crops
from retrieval.datasets.pair_sampling import random_pairs
from retrieval.evaluation.measure import (
    DatasetEvaluation,
    EvaluatedModel,
    EvaluationOptions,
    evaluate_models,
    find_model,
)
from retrieval.training.paper.case import PaperCase
from retrieval.training.paper.cropped_sets import load_or_crop
from retrieval.training.paper.results import ModelSummary, Plan, SeedRun, StudyResult, TableResult
from retrieval.training.paper.shown_pairs import explain_pairs, measure_crop_pairs
from retrieval.training.prepared_data import PreparedData, Recipe
from retrieval.training.train_bundle import WORK, train_bundle

_CROPS = 4  # shown, as in Figure 5

OnData = Callable[[PreparedData], None]
"""Called with the data of each training before it begins."""


def reproduce_case(
    plan: Plan, progress: Progress = SILENT, on_data: OnData = lambda data: None
) -> StudyResult | TableResult:
    """Reproduce a case of the paper. Raises RetrievalError."""
    if not plan.dataset.is_dir():
        raise GalleryError(f"{plan.dataset} is not a folder: give --data the folder that holds {plan.study.folder}")
    reproduction = _Reproduction(plan, progress, on_data)
    return reproduction.run_table() if plan.case is PaperCase.table1 else reproduction.run_study()


@dataclass(frozen=True)
class _Reproduction:
    plan: Plan
    progress: Progress
    on_data: OnData

    def run_study(self) -> StudyResult:
        plan = self.plan
        summary = self._train(plan.dataset, plan.study.folder, plan.seed)
        models = [self._open_model(summary.folder), self._open_model(DEFAULT_MODEL)]
        measured = self._measure_unseen(models, plan.seed)
        pairs = explain_pairs(measured, models[0], plan.study.kind)
        return StudyResult(plan, summary, measured.results, pairs)

    def run_table(self) -> TableResult:
        runs = tuple(self._run_seed(seed) for seed in self.plan.all_seeds)
        first = runs[0]
        encoders = [self._open_model(model.folder).encoder for model in (first.original, first.cropped)]
        pairs = measure_crop_pairs(first.crops, *encoders)
        return TableResult(self.plan, runs, tuple(sample_crops(first.crops, _CROPS)), pairs)

    @cached_property
    def _dataset(self) -> DataSet:
        return find_samples(self.plan.dataset, self.progress)

    def _run_seed(self, seed: int) -> SeedRun:
        name = self.plan.study.folder
        original = self._train(self.plan.dataset, name, seed)
        first = self._open_model(original.folder)
        out = self.plan.out / "sets" / f"{name}-cropped-{seed}"
        crops = load_or_crop(self._dataset, out, first.encoder, self.progress)
        cropped = self._train(crops.out, f"{name}-cropped", seed)
        second = self._open_model(cropped.folder)
        results = self._measure_unseen([first, second], seed).results
        return SeedRun(seed, original, cropped, crops, (results[first.name], results[second.name]))

    def _train(self, dataset: Path, name: str, seed: int) -> ModelSummary:
        """Train a model, or load the one that is there already."""
        plan = self.plan
        folder = plan.out / "models" / f"{name}-{seed}"
        recipe = Recipe(dataset, plan.preset, seed, plan.weights)
        if (folder / "model.json").exists():
            self.progress.message(f"{folder} is trained already, and used again")
        elif (folder / WORK).exists():
            self.progress.message(f"{folder} is an unfinished training, and resumed")
        trained = train_bundle(
            recipe, folder, resume=True, device=plan.device, progress=self.progress, on_data=self.on_data
        )
        pictures = trained.bundle.card.provenance["pictures"]
        return ModelSummary(folder, pictures, trained.best_epoch, len(trained.history))

    def _open_model(self, model: str | Path) -> EvaluatedModel:
        """Load a model, under the name of its folder."""
        name = model if isinstance(model, str) else os.path.abspath(model)
        opened = find_model(name, self.plan.device, self.progress)
        opened.encoder.load()
        return replace(opened, name=opened.encoder.bundle.folder.name)

    def _measure_unseen(self, models: list[EvaluatedModel], seed: int) -> DatasetEvaluation:
        """Evaluate the models on the test part of the first, whole pictures that none of them has learnt from."""
        plan, split = self.plan, models[0].split
        if split is None:
            raise SettingError(f"{models[0].encoder.bundle.folder} has no split.json: remove the folder, and run again")
        test = frozenset(split.parts["test"])
        unseen = replace(self._dataset, samples=tuple(each for each in self._dataset.samples if each.hash in test))
        possible = int(random_pairs(unseen.codes, seed)[2].sum())
        if not possible:
            raise GalleryError(
                f"{plan.dataset} leaves {len(unseen.samples)} pictures unseen, of which no two make a pair of one class"
                " and of two: give more pictures, or if they were changed since the training, --out another folder"
            )
        pairs = min(plan.pairs, possible)
        if pairs < plan.pairs:
            self.progress.message(
                f"the unseen part makes only {pairs} pairs of each kind, not {plan.pairs}: all are used"
            )
        return evaluate_models(unseen, models, EvaluationOptions(seed=seed, pairs=pairs), self.progress)
