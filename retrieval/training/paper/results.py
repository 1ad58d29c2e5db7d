"""Results of a reproduction of the paper's section 4, and what the paper has in their place."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import numpy as np

from retrieval.datasets.class_folders import Sample
from retrieval.datasets.crop import CropReport
from retrieval.datasets.crop_files import Crop
from retrieval.evaluation.ranking import Evaluation
from retrieval.rendering.presentation import HitView, ResultView
from retrieval.training.paper.case import PAPER_PAIRS, SEEDS, PaperCase
from retrieval.training.presets import Preset

Scores = dict[str, float]
"""Figures of one model, by name: fields of `PairMetrics`, and the best epoch, from 1, and how many there were."""

EPOCH_SCORES = ("best_epoch", "epochs")
SCORE_NAMES = (
    *("accuracy", "thresholded_auc", "macro_precision", "macro_recall", "roc_auc", "precision", "recall"),
    *EPOCH_SCORES,
)


class PairKind(StrEnum):
    """The pairs of Figures 2, 3 and 4."""

    similar = "similar"  # of one class, and judged similar
    different = "different"  # of two classes, and judged different
    borderline = "borderline"  # of two classes, and nearest to the threshold


# Rows of Table 1: accuracy, thresholded AUC, precision and recall, the paper does not say of which verdict.
PAPER_ORIGINAL: Scores = dict(zip(SCORE_NAMES, (0.8715, 0.872, 0.890, 0.872), strict=False))
PAPER_CROPPED: Scores = dict(zip(SCORE_NAMES, (0.8831, 0.883, 0.900, 0.880), strict=False))
PAPER_CROP_PAIR = 0.18, 0.11
"""Distances of Figure 6's pair of daisies, whole and cropped. The paper calls them similarity scores, and takes the
lower one as the better: they are the Siamese output, the distance."""


@dataclass(frozen=True)
class Study:
    """A data set of section 4: its folder's name, its figure and section in the paper, and the figure's pair."""

    folder: str
    title: str
    section: str
    figure: int
    kind: PairKind
    labels: tuple[str, str]
    distance: float
    row: Scores | None = None


STUDIES = {
    PaperCase.flowers: Study("flowers", "Flowers", "4.1", 2, PairKind.similar, ("rose", "rose"), 0.24, PAPER_ORIGINAL),
    PaperCase.skin: Study("skin_cancer", "Skin cancer", "4.2", 3, PairKind.different, ("Benign", "Malignant"), 0.781),
    PaperCase.airbnb: Study("airbnb", "AirBnB", "4.3", 4, PairKind.borderline, ("bedroom", "living-room"), 0.516),
}


def study_of_kind(kind: PairKind) -> Study:
    """Return the data set for which the paper shows such a pair."""
    return next(study for study in STUDIES.values() if study.kind is kind)


@dataclass(frozen=True)
class Plan:
    """What to reproduce, and how.

    `data` holds the data sets' folders; `pairs` is the number of pairs of each kind; `seeds` is the number of
    trainings that Table 1 rests on; `weights` is a file of the backbone's weights; `command` is what the user typed.
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
        """The data set that the case is about; Table 1 is about flowers."""
        return STUDIES[PaperCase.flowers if self.case is PaperCase.table1 else self.case]

    @property
    def dataset(self) -> Path:
        """The data set's folder."""
        return self.data / self.study.folder

    @property
    def all_seeds(self) -> tuple[int, ...]:
        """One seed for each training."""
        return tuple(range(self.seed, self.seed + (self.seeds if self.case is PaperCase.table1 else 1)))


@dataclass(frozen=True)
class ModelSummary:
    """A trained model: its folder, the number of pictures in each part of its data set, and its epochs."""

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
class StudyResult:
    """A data set's model and its evaluation beside the default one's, by name.

    `pairs` has at most one pair of each kind, of the kind that the paper shows first.
    """

    plan: Plan
    model: ModelSummary
    results: dict[str, Evaluation]
    pairs: tuple[PairView, ...]

    @property
    def unseen(self) -> Evaluation:
        """The trained model's evaluation, whose pictures, classes and pairs are those of every model."""
        return next(iter(self.results.values()))


@dataclass(frozen=True)
class SeedRun:
    """One seed of Table 1: both models, the cropped data set, and their evaluations on the very same pairs."""

    seed: int
    original: ModelSummary
    cropped: ModelSummary
    crops: CropReport
    evaluations: tuple[Evaluation, Evaluation]

    @property
    def scores(self) -> tuple[Scores, Scores]:
        """The figures of the models trained on original and on cropped pictures."""
        models = zip((self.original, self.cropped), self.evaluations, strict=True)
        values = (vars(model) | vars(evaluation.pairs) for model, evaluation in models)
        original, cropped = ({name: each[name] for name in SCORE_NAMES} for each in values)
        return original, cropped

    @property
    def share_cropped(self) -> float:
        """The share of the training pictures that were cropped, 0 to 1."""
        return len(self.crops.crops) / max(self.original.parts["train"], 1)


@dataclass(frozen=True)
class SeedStats:
    """Values by seed with their mean and sample standard deviation, None for a single value."""

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
        return compare_scores([run.scores for run in self.runs])


def compute_stats(values: Sequence[float]) -> SeedStats:
    """Return the mean and sample standard deviation of at least one value."""
    sd = float(np.std(values, ddof=1)) if len(values) > 1 else None
    return SeedStats(float(np.mean(values)), sd, tuple(map(float, values)))


def compare_scores(runs: Sequence[tuple[Scores, Scores]]) -> dict[str, ScoreComparison]:
    """Compare each figure over the two models, (original, cropped), of at least one seed."""
    comparisons = {}
    for name in SCORE_NAMES:
        original, cropped = ([scores[name] for scores in models] for models in zip(*runs, strict=True))
        change = [after - before for before, after in zip(original, cropped, strict=True)]
        comparisons[name] = ScoreComparison(compute_stats(original), compute_stats(cropped), compute_stats(change))
    return comparisons
