"""What comes of doing the paper's section 4 again, beside what the paper says. Needs no torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from enum import StrEnum
from pathlib import Path

import numpy as np

from retrieval.datasets.class_folders import Sample
from retrieval.datasets.crop import CropReport
from retrieval.datasets.crop_files import Crop
from retrieval.evaluation.ranking import Evaluation
from retrieval.evaluation.verdicts import PairMetrics
from retrieval.rendering.presentation import HitView, ResultView
from retrieval.training.paper.case import PAPER_PAIRS, SEEDS, PaperCase
from retrieval.training.presets import Preset


class PairKind(StrEnum):
    """The pairs of Figures 2, 3 and 4."""

    similar = "similar"  # of one class, and judged similar
    different = "different"  # of two classes, and judged different
    borderline = "borderline"  # of two classes, and nearest to the threshold


@dataclass(frozen=True)
class PaperRow:
    """A row of Table 1. The paper does not say of which verdict precision and recall are."""

    accuracy: float
    thresholded_auc: float
    macro_precision: float
    macro_recall: float


PAPER_ORIGINAL = PaperRow(0.8715, 0.872, 0.890, 0.872)
PAPER_CROPPED = PaperRow(0.8831, 0.883, 0.900, 0.880)
PAPER_CROP_PAIR = 0.18, 0.11
"""Of Figure 6's pair of daisies, whole and cropped. The paper calls them similarity scores, and takes the lower one
as the better: they are the Siamese output, the distance."""


@dataclass(frozen=True)
class Study:
    """A data set of section 4: its folder's name, the figure and the section about it, and the one pair in it."""

    folder: str
    title: str
    section: str
    figure: int
    kind: PairKind
    labels: tuple[str, str]
    distance: float
    row: PaperRow | None = None


STUDIES = {
    PaperCase.flowers: Study(
        "flowers", "Flowers", "4.1", 2, PairKind.similar, ("rose", "rose"), distance=0.24, row=PAPER_ORIGINAL
    ),
    PaperCase.skin: Study(
        "skin_cancer", "Skin cancer", "4.2", 3, PairKind.different, ("Benign", "Malignant"), distance=0.781
    ),
    PaperCase.airbnb: Study(
        "airbnb", "AirBnB", "4.3", 4, PairKind.borderline, ("bedroom", "living-room"), distance=0.516
    ),
}


def study_of_kind(kind: PairKind) -> Study:
    """The data set for which the paper shows such a pair."""
    return next(study for study in STUDIES.values() if study.kind is kind)


def study_of(case: PaperCase) -> Study:
    """The data set of a case; Table 1 is about flowers."""
    return STUDIES[PaperCase.flowers if case is PaperCase.table1 else case]


@dataclass(frozen=True)
class Plan:
    """What is done again, with what and where.

    `data` holds the data sets' folders; `pairs` is how many of each kind are wanted; `seeds` is how many trainings
    Table 1 rests on; `weights` is a file of the backbone's weights; `command` is what the user typed.
    """

    case: PaperCase
    data: Path
    out: Path
    preset: Preset
    seed: int = 0
    seeds: int = SEEDS
    pairs: int = PAPER_PAIRS
    weights: Path | None = None
    device: str = "auto"
    command: str = ""

    @property
    def study(self) -> Study:
        """The data set that it is about."""
        return study_of(self.case)

    @property
    def dataset(self) -> Path:
        """The data set's folder."""
        return self.data / self.study.folder

    @property
    def all_seeds(self) -> tuple[int, ...]:
        """One for each training."""
        return tuple(range(self.seed, self.seed + (self.seeds if self.case is PaperCase.table1 else 1)))


@dataclass(frozen=True)
class ModelSummary:
    """A trained model: its folder, how many pictures it learnt and chose by, and its epochs."""

    folder: Path
    parts: dict[str, int]
    best_epoch: int
    epochs: int


@dataclass(frozen=True)
class PairView:
    """An explained pair of unseen pictures: the first as the query, the second as its only hit."""

    kind: PairKind
    samples: tuple[Sample, Sample]
    distance: float
    view: ResultView

    @property
    def hit(self) -> HitView:
        """The second picture, with the similarity and the verdict."""
        return self.view.hits[0]


@dataclass(frozen=True)
class UnseenCounts:
    """What was measured on: pictures in classes, and how many pairs of each kind."""

    pictures: int
    classes: int
    pairs: int


@dataclass(frozen=True)
class StudyResult:
    """A data set's model measured beside the default one, by name, and its pairs, the paper's own kind first.

    A kind of which the measured pairs have none is left out.
    """

    plan: Plan
    model: ModelSummary
    unseen: UnseenCounts
    results: dict[str, Evaluation]
    pairs: tuple[PairView, ...]


@dataclass(frozen=True)
class Scores:
    """The figures of one training for Table 1, as `PairFigures` has them, and its best epoch, from 1."""

    accuracy: float
    thresholded_auc: float
    macro_precision: float
    macro_recall: float
    roc_auc: float
    precision: float
    recall: float
    best_epoch: int
    epochs: int


SCORE_NAMES = tuple(field.name for field in fields(Scores))


def collect_scores(pairs: PairMetrics, model: ModelSummary) -> Scores:
    """The figures of a model on pairs."""
    figures = {name: getattr(pairs, name) for name in SCORE_NAMES if name not in ("best_epoch", "epochs")}
    return Scores(**figures, best_epoch=model.best_epoch, epochs=model.epochs)


@dataclass(frozen=True)
class SeedRun:
    """One seed of Table 1: both models, the cropped data set, and their figures on the very same pairs."""

    seed: int
    original: ModelSummary
    cropped: ModelSummary
    crops: CropReport
    unseen: UnseenCounts
    original_scores: Scores
    cropped_scores: Scores

    @property
    def share_cropped(self) -> float:
        """The share of the training pictures that were cropped."""
        return len(self.crops.crops) / max(self.original.parts["train"], 1)


@dataclass(frozen=True)
class SeedStats:
    """Values by seed with their mean and sample standard deviation, which a single value has not."""

    mean: float
    sd: float | None
    values: tuple[float, ...]


@dataclass(frozen=True)
class ScoreComparison:
    """A figure of the models trained on original and on cropped pictures; `change` is cropped - original by seed."""

    original: SeedStats
    cropped: SeedStats
    change: SeedStats


@dataclass(frozen=True)
class CropPair:
    """Two training pictures of one class and their crops, as in Figure 6.

    `original` is the distance of the whole pictures by the model trained on these, `cropped` that of their crops by
    the model trained on crops.
    """

    label: str
    crops: tuple[Crop, Crop]
    original: float
    cropped: float


@dataclass(frozen=True)
class TableResult:
    """Table 1 over the seeds; the crops of Figure 5 and the pairs of Figure 6 are those of the first seed."""

    plan: Plan
    runs: tuple[SeedRun, ...]
    crops: tuple[Crop, ...]
    crop_pairs: tuple[CropPair, ...]

    @property
    def comparisons(self) -> dict[str, ScoreComparison]:
        """Every figure by its name in `Scores`."""
        return compare_scores([(run.original_scores, run.cropped_scores) for run in self.runs])


def compute_stats(values: Sequence[float]) -> SeedStats:
    """Mean and sample standard deviation of at least one value."""
    sd = float(np.std(values, ddof=1)) if len(values) > 1 else None
    return SeedStats(float(np.mean(values)), sd, tuple(float(value) for value in values))


def compare_scores(runs: Sequence[tuple[Scores, Scores]]) -> dict[str, ScoreComparison]:
    """Of each figure of at least one seed's two models, (original, cropped), both spreads and that of the change."""
    found = {}
    for name in SCORE_NAMES:
        original, cropped = ([getattr(pair[place], name) for pair in runs] for place in (0, 1))
        change = [after - before for before, after in zip(original, cropped, strict=True)]
        found[name] = ScoreComparison(compute_stats(original), compute_stats(cropped), compute_stats(change))
    return found
