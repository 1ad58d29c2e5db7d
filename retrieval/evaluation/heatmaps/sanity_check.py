"""The sanity check of Adebayo et al. (2018): whether heatmaps depend on what a model has learnt.

The model is randomised part by part, from the head down, and its heatmaps must change ("Sanity Checks for Saliency
Maps", cascading randomisation). Spearman's rank correlation with the trained model's maps, signed and absolute, shows
how far they stay the same. Two controls give the scale: the same pictures a little brighter, whose maps should stay;
and the trained model's maps of other pictures, which share only what any two maps share, such as a bias to the centre.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import numpy as np

from retrieval.common.metrics import mean_ranks
from retrieval.common.progress import SILENT, Progress
from retrieval.common.settings import QUICK_METHOD, MethodName
from retrieval.datasets.class_folders import LeftOut
from retrieval.evaluation.heatmaps.randomised_model import RandomisedModel
from retrieval.evaluation.heatmaps.sanity_pairs import read_random_pairs
from retrieval.explain.explanation import Heatmaps, Verdict, explain_pairs, pair_inputs
from retrieval.explain.methods.gradcam import PixelAccess
from retrieval.model.bundle import Bundle
from retrieval.model.head import Array
from retrieval.model.inference import Features
from retrieval.model.preprocessing import Pixels

STEADY = 0.8
"""Below this, the control's maps change too much to conclude anything. Eight methods with the default model on flowers,
rooms and skin lesions gave .98 or more."""

PARTLY = 0.5
"""From here on, maps keep more than those of two different pictures share anyway, at most .50 in that trial. With
everything randomised, at most .27 was left of Grad-CAM and .44 of Eigen-CAM, which uses neither pair nor head; .61 of
Grad-CAM of a ResNet50 that had never been trained, whose maps are as good as those of any other untrained one."""

SAME = 0.8
"""From here on, the maps are those of a method that hardly depends on the model: an edge detector keeps 1."""

_EMPTY = 0.2  # the share of maps that may be empty
_BRIGHTER = 1.03


class Dependence(StrEnum):
    """The result of the check; `VERDICT_TEXTS` puts it into words."""

    learnt = "learnt"
    partly = "partly"
    none = "none"
    unclear = "unclear"


VERDICT_TEXTS = {
    Dependence.learnt: "the heatmaps depend on what the model has learnt",
    Dependence.partly: "the heatmaps depend only partly on what the model has learnt",
    Dependence.none: "the heatmaps do not depend on what the model has learnt: they would look the same from an"
    " untrained one",
    Dependence.unclear: "no conclusion is possible: too many heatmaps are empty, or change with the brightness alone",
}


@dataclass(frozen=True)
class SanityOptions:
    """What is checked: the number of `pairs`, the heatmap method, and the random seed."""

    pairs: int = 24
    method: MethodName = QUICK_METHOD
    seed: int = 0


@dataclass(frozen=True)
class Agreement:
    """Spearman's rank correlation over all maps, in [-1, 1]: the mean, and the standard deviation as `spread`."""

    mean: float
    spread: float


@dataclass(frozen=True)
class MapComparison:
    """The agreement of maps with the trained model's on the same pictures; `name` says what was changed.

    `empty` counts the pairs of maps of which one is constant; their correlation counts as 0.
    """

    name: str
    signed: Agreement
    absolute: Agreement
    empty: int

    @property
    def remaining(self) -> float:
        """What remains of the maps: the larger of both mean correlations."""
        return max(self.signed.mean, self.absolute.mean)


@dataclass(frozen=True)
class SanityReport:
    """The findings of the check. `pairs` could be compared, `similar` of them of one class (None: no classes).

    `control` is of brighter pictures, `others` of other pictures' maps, `steps` of the parts in the order in which they
    are randomised, each together with all before it; in the last one everything is random.
    """

    folder: Path
    options: SanityOptions
    pairs: int
    similar: int | None
    control: MapComparison
    others: MapComparison
    steps: tuple[MapComparison, ...]
    left_out: LeftOut
    seconds: float

    @property
    def verdict(self) -> Dependence:
        """The result, by what remains of the maps if everything is random.

        `none` from SAME on, `partly` from PARTLY on, else `learnt`; `unclear` if the control's signed maps agree by
        less than STEADY, or more than a fifth of the last step's maps are empty.
        """
        kept, empty = self.steps[-1].remaining, self.steps[-1].empty
        if self.control.signed.mean < STEADY or empty > _EMPTY * 2 * self.pairs:
            return Dependence.unclear
        if kept >= SAME:
            return Dependence.none
        return Dependence.partly if kept >= PARTLY else Dependence.learnt


def check_sanity(
    folder: Path, bundle: Bundle, options: SanityOptions, device: str = "auto", progress: Progress = SILENT
) -> SanityReport:
    """Check a model's heatmaps on pairs of the pictures below a folder. Raises GalleryError and ModelError."""
    started = time.perf_counter()
    drawn = read_random_pairs(folder, bundle.card.preprocessing.size, options.pairs, options.seed, progress)
    model = RandomisedModel(bundle, options.seed, device)
    pictures = [*drawn.first, *drawn.second]
    with progress.stage("Checking", len(pictures) * (len(model.parts) + 1)) as stage:
        features = model.activate(pictures, stage)
        trained = signed_heatmaps(model, pictures, features, options.method)
        bright = [brighten(each) for each in pictures]
        control = signed_heatmaps(model, bright, model.activate(bright, stage), options.method)
        steps = []
        for part in model.parts:
            model.randomise(part, pictures)
            if part != model.parts[0]:  # whose activations are the trained model's
                features = model.activate(pictures, stage)
            steps.append(compare_maps(part, trained, signed_heatmaps(model, pictures, features, options.method)))
    brighter = compare_maps("brighter pictures", trained, control)
    others = compare_maps("other pictures", trained, np.roll(trained, 1, axis=0))
    figures = len(drawn.first), drawn.similar, brighter, others, tuple(steps)
    return SanityReport(folder, options, *figures, drawn.left_out, time.perf_counter() - started)


def signed_heatmaps(
    model: RandomisedModel, pictures: Sequence[Pixels], features: Features, method: MethodName
) -> Array:
    """Return evidence for similarity minus evidence against it, float32 (2 P, h, w): P first, then P second pictures.

    They come from the explanations that people see. If a method gives the same map both ways, as Eigen-CAM does, that
    map is taken.
    """
    head, half = model.head, len(pictures) // 2
    distances = head.descriptor_distances(features.descriptors[:half], features.descriptors[half:])
    access = PixelAccess(pictures, model.blank, model.describe)
    sides = pair_inputs(head, features, range(half), range(half, len(pictures)), access)
    explained = explain_pairs(sides, distances, method)
    first = [_signed(each.query, each.verdict) for each in explained]
    return np.stack(first + [_signed(each.hit, each.verdict) for each in explained])


def compare_maps(name: str, maps: Array, others: Array) -> MapComparison:
    """Compare maps (N, h, w) with others (N, h, w), one by one."""
    empty = sum(not (is_informative(one) and is_informative(other)) for one, other in zip(maps, others, strict=True))
    return MapComparison(name, _agreement(maps, others), _agreement(np.abs(maps), np.abs(others)), empty)


def spearman(a: Array, b: Array) -> float:
    """Return Spearman's rank correlation of two maps of one shape, in [-1, 1]: Pearson's, of their ranks.

    Equal values share the mean of their ranks. If a map is constant or not finite, it is 0.
    """
    if not (is_informative(a) and is_informative(b)):
        return 0.0
    one, other = (mean_ranks(each) - (each.size + 1) / 2 for each in (a, b))
    return float(one @ other / np.sqrt((one @ one) * (other @ other)))


def is_informative(values: Array) -> bool:
    """Return whether a map has any order: all finite, and not constant."""
    return bool(np.isfinite(values).all() and np.ptp(values) > 0)


def brighten(pixels: Pixels) -> Pixels:
    """Return a picture 3 % brighter, which nobody notices."""
    return np.asarray(np.rint(np.minimum(pixels * _BRIGHTER, 255)), np.uint8)


def _agreement(maps: Array, others: Array) -> Agreement:
    found = [spearman(one, other) for one, other in zip(maps, others, strict=True)]
    return Agreement(float(np.mean(found)), float(np.std(found)))


def _signed(heatmaps: Heatmaps, verdict: Verdict) -> Array:
    if np.array_equal(heatmaps.factual, heatmaps.counterfactual):
        return heatmaps.factual
    signed = heatmaps.factual - heatmaps.counterfactual
    return signed if verdict == "similar" else -signed
