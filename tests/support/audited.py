"""Findings made by hand, for the tests of what follows from them."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from retrieval.datasets.class_folders import Sample
from retrieval.evaluation.audit.findings import (
    ALL,
    Audit,
    AuditOptions,
    ConfusedClasses,
    Evidence,
    Example,
    Findings,
    PartFindings,
)
from retrieval.evaluation.audit.recommendations import advise
from retrieval.evaluation.verdicts import Confusion, Confusions, PairMetrics
from retrieval.model.head import Array

HEATMAPS = 12  # of a class: more pictures than it takes to say something


def spot(*places: tuple[int, int], faint: float = 0.0) -> Array:
    """Return a heatmap, float32 (7, 7), with evidence in these places and `faint` everywhere else."""
    heatmap = np.full((7, 7), faint, np.float32)
    for row, column in places:
        heatmap[row, column] = 1
    return heatmap


HONEST = spot((1, 2), (2, 4), (3, 3), (4, 2), (4, 4), (5, 3), (0, 3), (3, 0), (3, 6), faint=0.2)
"""Evidence in the middle and a little everywhere: no reason for a recommendation."""


def a_sample(label: str, number: int = 0, folder: Path = Path("set")) -> Sample:
    return Sample(folder / label / f"{number:02}.png", label, f"{label} {number}")


def evidence(label: str, heatmap: Array = HONEST, count: int = HEATMAPS, folder: Path = Path("set")) -> Evidence:
    """Return the evidence of a class whose pictures all have the same heatmap."""
    maps = np.repeat(heatmap[None], count, axis=0)
    samples = tuple(a_sample(label, number, folder) for number in range(count))
    ground = np.full((64, 64, 3), 120, np.uint8)
    return Evidence(label, 2 * count, samples, maps, maps[:, ::-1], np.ones(count, np.bool_), ground)


def verdicts(accuracy: float = 0.96, roc_auc: float = 0.98) -> PairMetrics:
    """As good on pairs of one class as on those of two."""
    return PairMetrics(
        similar=10,
        different=10,
        accuracy=accuracy,
        roc_auc=roc_auc,
        thresholded_auc=accuracy,
        precision=accuracy,
        recall=accuracy,
        macro_precision=accuracy,
        macro_recall=accuracy,
        calibration_error=0.02,
        true_similar=9,
        false_similar=1,
        true_different=9,
        false_different=1,
        reliability=(),
    )


def a_part(
    classes: Sequence[Evidence],
    name: str = ALL,
    figures: PairMetrics | None = None,
    across: Sequence[Confusion] = (),
    within: Sequence[Confusion] = (),
    confused: Sequence[ConfusedClasses] = (),
) -> PartFindings:
    overall = Evidence(
        "",
        sum(each.pictures for each in classes),
        tuple(sample for each in classes for sample in each.samples),
        np.concatenate([each.factual for each in classes]),
        np.concatenate([each.counterfactual for each in classes]),
        np.concatenate([each.true_similar for each in classes]),
        classes[0].mean_picture,
    )
    pairs = len(overall.samples) // 2
    confusions = Confusions(tuple(across), tuple(within))
    return PartFindings(name, 200, pairs, figures or verdicts(), overall, tuple(classes), confusions, tuple(confused))


def findings(*parts: PartFindings, learns: bool = True, few: int = 100) -> Findings:
    """Of these parts, with nothing wrong with the pictures; `few` is how many each class has."""
    sizes = {each.label: few for part in parts for each in part.classes}
    return Findings(parts, sizes, learns, (), (), ())


def honest(*labels: str) -> list[Evidence]:
    return [evidence(label) for label in labels or ("cats", "owls")]


def a_confusion(first: str, second: str, wrong: float, folder: Path = Path("set")) -> ConfusedClasses:
    sides = evidence(first, folder=folder), evidence(second, folder=folder)
    example = tuple(Example(each.samples[0].path, each.label, each.label, HONEST) for each in sides)
    return ConfusedClasses(Confusion(first, second, 400, wrong), HEATMAPS, sides, ((example[0], example[1]),))


def an_audit(found: Findings) -> Audit:
    return Audit(Path("set"), "mine", "0123", AuditOptions(), found, advise(found), 1.5)
