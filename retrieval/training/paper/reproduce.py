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
from retrieval.common.settings import Case
from retrieval.datasets.class_folders import DataSet, find_samples
from retrieval.datasets.crop import CropReport
from retrieval.datasets.crop_page import drawn_crops
from retrieval.datasets.pair_sampling import random_pairs
from retrieval.datasets.split import Split, read_split
from retrieval.evaluation.measure import Measured, Subject, Terms, measure
from retrieval.model.bundle import Bundle, find_bundle
from retrieval.model.encoder import Comparer
from retrieval.sources.local import count_files
from retrieval.training.paper.cropped_sets import is_cropped, kept_crops
from retrieval.training.paper.results import Model, Plan, SeedRun, StudyResult, TableResult, Unseen, scores
from retrieval.training.paper.shown_pairs import show_pairs, show_twins
from retrieval.training.prepared_data import Recipe
from retrieval.training.prepared_data import Watch as TrainingWatch
from retrieval.training.train_bundle import WORK, train_bundle

DEFAULT = "default"
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


SILENT = Watch()


def reproduce(plan: Plan, watch: Watch = SILENT) -> StudyResult | TableResult:
    """Do a case again. Raises RetrievalError."""
    if not plan.dataset.is_dir():
        raise GalleryError(f"{plan.dataset} is not a folder: give --data the folder that holds {plan.study.folder}")
    return _table(plan, watch) if plan.case is Case.table1 else _study(plan, watch)


def _study(plan: Plan, watch: Watch) -> StudyResult:
    model = _trained(plan, plan.dataset, plan.study.folder, plan.seed, watch)
    subjects = [_subject(model.folder, plan, watch), _subject(DEFAULT, plan, watch)]
    measured = _measured(plan, _samples(plan, watch), subjects, plan.seed, watch)
    pairs = show_pairs(measured, subjects[0], plan.study.kind)
    return StudyResult(plan, model, _unseen(measured), measured.results, pairs)


def _table(plan: Plan, watch: Watch) -> TableResult:
    dataset = _samples(plan, watch)
    runs = tuple(_seed_run(plan, dataset, seed, watch) for seed in plan.all_seeds)
    first = runs[0]
    comparers = [_subject(model.folder, plan, watch).comparer for model in (first.original, first.cropped)]
    twins = show_twins(first.crops, first.crops.out, *comparers)
    return TableResult(plan, runs, tuple(drawn_crops(first.crops, _CROPS)), twins)


def _seed_run(plan: Plan, dataset: DataSet, seed: int, watch: Watch) -> SeedRun:
    name = plan.study.folder
    original = _trained(plan, plan.dataset, name, seed, watch)
    first = _subject(original.folder, plan, watch)
    crops = _cropped(plan, dataset, first.comparer, seed, watch)
    cropped = _trained(plan, crops.out, f"{name}-cropped", seed, watch)
    subjects = [first, _subject(cropped.folder, plan, watch)]
    measured = _measured(plan, dataset, subjects, seed, watch)
    pairs = [measured.results[subject.name].pairs for subject in subjects]
    figures = scores(pairs[0], original), scores(pairs[1], cropped)
    return SeedRun(seed, original, cropped, crops, _unseen(measured), *figures)


def _trained(plan: Plan, dataset: Path, name: str, seed: int, watch: Watch) -> Model:
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
    return Model(folder, pictures, trained.best_epoch, len(trained.history))


def _cropped(plan: Plan, dataset: DataSet, comparer: Comparer, seed: int, watch: Watch) -> CropReport:
    out = plan.out / "sets" / f"{plan.study.folder}-cropped-{seed}"
    if is_cropped(out):
        watch.say(f"{out} is cropped already, and used again")
    return kept_crops(dataset, out, comparer, watch.track)


def _samples(plan: Plan, watch: Watch) -> DataSet:
    with watch.track(f"Reading {plan.study.folder}", count_files([os.fsencode(plan.dataset)])) as advance:
        return find_samples(plan.dataset, advance)


def _subject(model: str | Path, plan: Plan, watch: Watch) -> Subject:
    """A model, ready to be asked. Its name is that of its folder."""
    bundle = find_bundle(model if isinstance(model, str) else os.path.abspath(model))
    with watch.preparing() as on_step:
        comparer = Comparer(bundle, plan.device, on_step)
        comparer.load()
    return Subject(bundle.folder.name, comparer, read_split(bundle.folder))


def _split(bundle: Bundle) -> Split:
    split = read_split(bundle.folder)
    if split is None:
        raise SettingError(f"{bundle.folder} has no split.json: remove the folder, and run again")
    return split


def _measured(plan: Plan, dataset: DataSet, subjects: list[Subject], seed: int, watch: Watch) -> Measured:
    """The models on the test part of the first, whole pictures that none of them has learnt from."""
    test = frozenset(_split(subjects[0].comparer.bundle).parts["test"])
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
        return measure(left, subjects, Terms(seed=seed, pairs=pairs), advance)


def _unseen(measured: Measured) -> Unseen:
    result = next(iter(measured.results.values()))
    return Unseen(result.pictures, result.classes, result.pairs.similar)
