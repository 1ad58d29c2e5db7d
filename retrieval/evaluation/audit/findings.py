"""What an audit finds of a model: where it looks, what it confuses, which pictures are doubtful, and what to do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from pathlib import Path

import numpy as np

from retrieval.common.settings import DEFAULT_METHOD, MethodName
from retrieval.datasets.class_folders import LeftOut, Sample
from retrieval.datasets.pair_sampling import Flags
from retrieval.evaluation.audit.attention import (
    AttentionShares,
    CellMask,
    attention_shares,
    focus_mask,
    normalise_heatmaps,
    uniform_shares,
)
from retrieval.evaluation.verdicts import Confusion, Confusions, PairMetrics
from retrieval.explain.focus_box import focus_box
from retrieval.model.head import Array
from retrieval.model.preprocessing import Pixels

PAIRS = 600  # some 200 heatmaps a class of five: a share of a ninth is then known to a hundredth or two
MIN_CLASS_PICTURES = 10  # of a class, of which less is said below: of two pictures a corner had .25 by chance
UNTRAINED_AUC = 0.9  # of distances; a model trained on the set reaches .95 and more on unseen flowers and rooms
ALL, TRAIN, TEST = "all", "train", "test"

_SIDE = 1000  # of the square that boxes are drawn in, to know their share of it


@dataclass(frozen=True)
class AuditOptions:
    """On what terms a model is audited. `pairs` are explained at most, divided evenly among the parts."""

    pairs: int = PAIRS
    seed: int = 0
    method: MethodName = DEFAULT_METHOD


@dataclass(frozen=True)
class Evidence:
    """The heatmaps of M pictures of one class, or of all: of pairs of their class and of others.

    `samples` has the picture of each heatmap, some more than once; `factual` and `counterfactual` are float32
    (M, h, w), at least 0; `alike` (M,) says where the pair is of one class and was said similar. `pictures` is how
    many the part has of the class; `ground` is the mean of those explained, uint8 (H, W, 3). `common` is the focus
    where it comes from other heatmaps than these.
    """

    label: str
    pictures: int
    samples: tuple[Sample, ...]
    factual: Array
    counterfactual: Array
    true_similar: Flags
    mean_picture: Pixels
    reference_focus: CellMask | None = None

    @cached_property
    def normalised(self) -> Array:
        """The factual heatmaps that are not empty, each summing to 1: float32 (K, h, w)."""
        return normalise_heatmaps(self.factual)[self._nonempty]

    @cached_property
    def nonempty_samples(self) -> tuple[Sample, ...]:
        """The picture of each of these, (K,)."""
        return tuple(sample for sample, filled in zip(self.samples, self._nonempty, strict=True) if filled)

    @cached_property
    def explained_pictures(self) -> int:
        """How many different pictures they are of."""
        return len({sample.path for sample in self.nonempty_samples})

    @cached_property
    def focus(self) -> CellMask:
        """Where most of the evidence lies that makes the pictures of the class similar, bool (h, w)."""
        if self.reference_focus is not None:
            return self.reference_focus
        alike = self.normalised[self.true_similar[self._nonempty]]
        return focus_mask(alike if len(alike) else self.normalised)

    @cached_property
    def attention(self) -> AttentionShares:
        """The figures of the factual heatmaps."""
        return attention_shares(self.normalised, self.focus)

    @cached_property
    def uniform(self) -> AttentionShares:
        """What an even heatmap gives: the shares of the area."""
        return uniform_shares(self.focus)

    @cached_property
    def crop_share(self) -> float | None:
        """The median of what `retrieve crop` would keep of the area, 0 to 1; None where no pair was said similar."""
        maps = self.normalised[self.true_similar[self._nonempty]]
        boxes = [focus_box(each, (_SIDE, _SIDE)) for each in maps]
        kept = [(right - left) * (bottom - top) / _SIDE**2 for left, top, right, bottom in boxes]
        return float(np.median(kept)) if kept else None

    @property
    def _nonempty(self) -> Flags:
        return np.asarray(self.factual.max((1, 2), initial=0) > 0)

    def mean(self, kind: str) -> Array:
        """The mean `factual` or `counterfactual` heatmap, each counting the same; float32 (h, w), 1 at the most."""
        mean: Array = normalise_heatmaps(getattr(self, kind)).mean(0)
        return mean / mean.max() if mean.max() > 0 else mean


@dataclass(frozen=True)
class Example:
    """A picture that shows a finding, its heatmap in [0, 1], float32 (h, w), and in words what it shows."""

    path: Path
    label: str
    note: str
    heatmap: Array | None = None


@dataclass(frozen=True)
class ConfusedClasses:
    """Two classes that are said similar: the mean evidence for it in either, and the pairs said most similar.

    `explained` pairs were drawn from those with the wrong verdict.
    """

    confusion: Confusion
    explained: int
    sides: tuple[Evidence, Evidence]
    examples: tuple[tuple[Example, Example], ...]


@dataclass(frozen=True)
class PartFindings:
    """A part of the data set: `train` (what the model has learnt from), `test` (what it has not), or `all`."""

    name: str
    pictures: int
    explained_pairs: int
    verdicts: PairMetrics
    overall: Evidence
    classes: tuple[Evidence, ...]
    confusions: Confusions
    confused_classes: tuple[ConfusedClasses, ...] = ()


@dataclass(frozen=True)
class LookAlikes:
    """Pictures that look the same, and the part of each."""

    samples: tuple[Sample, ...]
    parts: tuple[str, ...]

    @property
    def crosses_parts(self) -> bool:
        """Whether what was learnt comes again in what is tested."""
        return len(set(self.parts)) > 1

    @property
    def crosses_classes(self) -> bool:
        """Whether they have different labels."""
        return len({sample.label for sample in self.samples}) > 1


@dataclass(frozen=True)
class SuspectLabel:
    """A picture of whose `asked` nearest neighbours `agreeing` have one other label, `nearer`."""

    sample: Sample
    nearer: str
    votes: int
    neighbours: int


class Severity(StrEnum):
    """How much a finding matters, the most first."""

    serious = "serious"
    moderate = "moderate"
    minor = "minor"


class AdviceKind(StrEnum):
    """What a recommendation is about; of one severity they come in this order."""

    shortcut = "shortcut"
    leak = "leak"
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
    """A recommendation: what was found, in a sentence, what to do about it, and what it rests on.

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
    """All that recommendations rest on. `sizes` are the pictures of each class; `learns` whether the model was
    trained on pictures of the set."""

    parts: tuple[PartFindings, ...]
    sizes: dict[str, int]
    is_trained_on: bool
    look_alikes: tuple[LookAlikes, ...]
    suspect_labels: tuple[SuspectLabel, ...]
    left_out: LeftOut

    def part(self, name: str) -> PartFindings | None:
        """The part of this name."""
        return next((part for part in self.parts if part.name == name), None)

    @property
    def knows_classes(self) -> bool:
        """Whether the model was trained on the set, or tells its classes apart as if it had been."""
        return self.is_trained_on or self.main.verdicts.roc_auc >= UNTRAINED_AUC

    @property
    def main(self) -> PartFindings:
        """The part that the model is judged by: what it has not learnt from, where there is such."""
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
