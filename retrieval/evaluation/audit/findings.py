"""The findings of an audit: where a model looks, what it confuses, doubtful pictures, and recommendations."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from itertools import compress
from pathlib import Path

import numpy as np

from retrieval.common.settings import QUICK_METHOD, MethodName
from retrieval.datasets.class_folders import LeftOut, Sample
from retrieval.datasets.pair_sampling import Flags
from retrieval.evaluation.audit.attention import AttentionShares, attention_shares, focus_mask, normalise_heatmaps
from retrieval.evaluation.verdicts import Confusion, Confusions, PairMetrics
from retrieval.explain.focus_box import focus_box
from retrieval.model.head import Array
from retrieval.model.preprocessing import Pixels

PAIRS = 600  # some 200 heatmaps for each of five classes: a share of a ninth is then known to a hundredth or two
MIN_CLASS_PICTURES = 10  # below this little is said of a class: with two pictures a corner had .25 by chance
UNTRAINED_AUC = 0.9  # of distances; a model trained on the set reaches .95 and more on unseen flowers and rooms
ALL, TRAIN, TEST = "all", "train", "test"

_SIDE = 1000  # of the square that boxes are drawn in, to know their share of it


@dataclass(frozen=True)
class AuditOptions:
    """How a model is audited. At most `pairs` are explained, divided evenly among the parts."""

    pairs: int = PAIRS
    seed: int = 0
    method: MethodName = QUICK_METHOD


@dataclass(frozen=True)
class Evidence:
    """The heatmaps of M pictures of one class, or of all, from pairs within and across classes.

    `samples` has the picture of each heatmap, some more than once; `factual` and `counterfactual` are float32
    (M, h, w), at least 0; `true_similar` (M,) marks pairs of one class that were said similar. `pictures` is the size
    of the class in this part; `mean_picture` is the mean of those explained, uint8 (H, W, 3). `reference_focus` is the
    focus if it comes from other heatmaps.
    """

    label: str
    pictures: int
    samples: tuple[Sample, ...]
    factual: Array
    counterfactual: Array
    true_similar: Flags
    mean_picture: Pixels
    reference_focus: Flags | None = None

    @cached_property
    def normalised(self) -> Array:
        """The K factual heatmaps that are not empty, each summing to 1: float32 (K, h, w)."""
        return normalise_heatmaps(self.factual)[self._nonempty]

    @cached_property
    def nonempty_samples(self) -> tuple[Sample, ...]:
        """The pictures of the heatmaps that are not empty, (K,)."""
        return tuple(compress(self.samples, self._nonempty))

    @cached_property
    def explained_pictures(self) -> int:
        """The number of different pictures among them."""
        return len({sample.path for sample in self.nonempty_samples})

    @property
    def has_enough_pictures(self) -> bool:
        """Whether enough of its pictures were explained to judge the class."""
        return self.explained_pictures >= MIN_CLASS_PICTURES

    @cached_property
    def focus(self) -> Flags:
        """The places with most of the evidence that makes the pictures of the class similar, bool (h, w)."""
        if self.reference_focus is not None:
            return self.reference_focus
        alike = self.normalised[self.true_similar[self._nonempty]]
        return focus_mask(alike if len(alike) else self.normalised)

    @cached_property
    def attention(self) -> AttentionShares:
        """The attention shares of the factual heatmaps."""
        return attention_shares(self.normalised, self.focus)

    @cached_property
    def uniform(self) -> AttentionShares:
        """The attention shares of a uniform heatmap: shares of the area."""
        return attention_shares(normalise_heatmaps(np.ones((1, *self.focus.shape), np.float32)), self.focus)

    @cached_property
    def crop_share(self) -> float | None:
        """The median share of the area that `retrieve crop` would keep, 0 to 1; None if no pair was said similar."""
        maps = self.normalised[self.true_similar[self._nonempty]]
        boxes = [focus_box(each, (_SIDE, _SIDE)) for each in maps]
        kept = [(right - left) * (bottom - top) / _SIDE**2 for left, top, right, bottom in boxes]
        return float(np.median(kept)) if kept else None

    @property
    def _nonempty(self) -> Flags:
        return np.asarray(self.factual.max((1, 2), initial=0) > 0)

    def mean(self, kind: str) -> Array:
        """Return the mean `factual` or `counterfactual` heatmap, equally weighted; float32 (h, w), at most 1."""
        mean: Array = normalise_heatmaps(getattr(self, kind)).mean(0)
        return mean / mean.max() if mean.max() > 0 else mean


@dataclass(frozen=True)
class Example:
    """A picture that illustrates a finding, its heatmap in [0, 1], float32 (h, w), and a note on what it shows."""

    path: Path
    label: str
    note: str
    heatmap: Array | None = None


@dataclass(frozen=True)
class ConfusedClasses:
    """Two classes that are said similar: the mean evidence in each, and the pairs said most similar.

    `explained` of the pairs with the wrong verdict were explained.
    """

    confusion: Confusion
    explained: int
    sides: tuple[Evidence, Evidence]
    examples: tuple[tuple[Example, Example], ...]


@dataclass(frozen=True)
class PartFindings:
    """A part of the data set: `train` (the model has learnt from it), `test` (it has not), or `all`."""

    name: str
    pictures: int
    explained_pairs: int
    verdicts: PairMetrics
    overall: Evidence
    classes: tuple[Evidence, ...]
    confusions: Confusions
    confused_classes: tuple[ConfusedClasses, ...] = ()

    def examples_of(self, confusions: Sequence[Confusion]) -> tuple[Example, ...]:
        """Return the pictures of the pairs that illustrate these confusions."""
        confused = [each for each in self.confused_classes if each.confusion in confusions]
        return tuple(example for each in confused for pair in each.examples for example in pair)


@dataclass(frozen=True)
class LookAlikes:
    """Pictures that look the same, and the part of each."""

    samples: tuple[Sample, ...]
    parts: tuple[str, ...]

    @property
    def crosses_parts(self) -> bool:
        """Whether a training picture looks like a test picture."""
        return len(set(self.parts)) > 1

    @property
    def crosses_classes(self) -> bool:
        """Whether they have different labels."""
        return len({sample.label for sample in self.samples}) > 1


@dataclass(frozen=True)
class SuspectLabel:
    """A picture with `votes` of its nearest `neighbours` in one other class, `nearer`."""

    sample: Sample
    nearer: str
    votes: int
    neighbours: int


class Severity(StrEnum):
    """The severity of a finding, the most serious first."""

    serious = "serious"
    moderate = "moderate"
    minor = "minor"


class AdviceKind(StrEnum):
    """The subject of a recommendation; within a severity they come in this order."""

    leak = "leak"
    shortcut = "shortcut"
    gap = "gap"
    untrained = "untrained"
    confused = "confused"
    background = "background"
    two_labels = "two_labels"
    relabel = "relabel"
    collect = "collect"
    crop = "crop"
    repeats = "repeats"
    nothing = "nothing"


AdviceFigures = dict[str, float | int | str | dict[str, float]]


@dataclass(frozen=True)
class Advice:
    """A recommendation: the finding in a sentence, what to do about it, and its evidence.

    `figures` have self-explaining names; shares are 0 to 1.
    """

    kind: AdviceKind
    severity: Severity
    finding: str
    remedy: str
    classes: tuple[str, ...] = ()
    figures: AdviceFigures | None = None
    examples: tuple[Example, ...] = ()


@dataclass(frozen=True)
class Findings:
    """The basis of all recommendations.

    `sizes` counts the pictures of each class, `tested` those of the test folder, if the data set has one;
    `is_trained_on` says whether the model has learnt from some of them.
    """

    parts: tuple[PartFindings, ...]
    sizes: dict[str, int]
    is_trained_on: bool
    look_alikes: tuple[LookAlikes, ...]
    suspect_labels: tuple[SuspectLabel, ...]
    left_out: LeftOut
    tested: int = 0

    def part(self, name: str) -> PartFindings | None:
        """Return the part of this name, if there is one."""
        return next((part for part in self.parts if part.name == name), None)

    @property
    def knows_classes(self) -> bool:
        """Whether the model was trained on the set, or distinguishes its classes as well as if it had been."""
        return self.is_trained_on or self.main.verdicts.roc_auc >= UNTRAINED_AUC

    @property
    def main(self) -> PartFindings:
        """The part that the model is judged by: the unseen one, if there is one."""
        return self.parts[-1]


@dataclass(frozen=True)
class Audit:
    """An audit: the data set's folder, the model's name and fingerprint, the findings and what to do about them."""

    dataset: Path
    model: str
    fingerprint: str
    options: AuditOptions
    findings: Findings
    advice: Sequence[Advice]
    seconds: float
