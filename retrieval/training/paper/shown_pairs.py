"""Which pairs a reproduction shows, drawn by its seed and never by their looks."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from retrieval.common.settings import THRESHOLD, ExplainOptions, MethodName
from retrieval.datasets.class_folders import Sample
from retrieval.datasets.crop import CropReport
from retrieval.datasets.crop_files import Crop
from retrieval.datasets.pair_sampling import Flags
from retrieval.evaluation.measure import DatasetEvaluation, EvaluatedModel
from retrieval.explain.pair_explainer import PairExplainer
from retrieval.model.encoder import Encoder
from retrieval.model.preprocessing import Source
from retrieval.rendering.presentation import build_pair_view, share_scale
from retrieval.training.paper.results import CropPair, PairKind, PairView

_CROP_PAIRS = 3  # pairs like Figure 6's


def pick_pairs(distances: NDArray[np.float64], similar: Flags, seed: int) -> dict[PairKind, int]:
    """The place of one pair of each kind among pairs (M,); of a kind that is not among them, none.

    Of the similar and of the different ones it is the first in an order that the seed draws; of the borderline ones
    the nearest to the threshold, and of equally near ones the first in that order.
    """
    order = np.random.default_rng(seed).permutation(len(distances))
    said = distances < THRESHOLD
    candidates = {PairKind.similar: similar & said, PairKind.different: ~similar & ~said, PairKind.borderline: ~similar}
    found = {kind: order[fits[order]] for kind, fits in candidates.items()}
    nearness = np.abs(distances[found[PairKind.borderline]] - THRESHOLD)
    found[PairKind.borderline] = found[PairKind.borderline][np.argsort(nearness, kind="stable")]
    return {kind: int(places[0]) for kind, places in found.items() if len(places)}


def explain_pairs(measured: DatasetEvaluation, subject: EvaluatedModel, first_kind: PairKind) -> tuple[PairView, ...]:
    """One explained pair of each kind among the measured ones, `first_kind` first. All heatmaps share one scale.

    Raises PictureError where a picture cannot be read any more.
    """
    head = subject.encoder.bundle.head
    first, second, similar = measured.pairs
    distances = head.distance(head.pair_separations(measured.descriptors[subject.name], first, second))
    picked = pick_pairs(distances, similar, measured.options.seed)
    samples = measured.dataset.samples
    pairs = [
        _explain_pair(kind, (samples[first[place]], samples[second[place]]), float(distances[place]), subject.encoder)
        for kind in sorted(picked, key=lambda kind: (kind is not first_kind, list(PairKind).index(kind)))
        for place in [picked[kind]]
    ]
    shown = share_scale([pair.view for pair in pairs])
    return tuple(replace(pair, view=each) for pair, each in zip(pairs, shown, strict=True))


def measure_crop_pairs(
    report: CropReport, crops_folder: Path, original: Encoder, cropped: Encoder
) -> tuple[CropPair, ...]:
    """Pairs of crops, each of another class, with their distances whole and cropped.

    Classes and pictures are drawn by the report's seed; `data` is the folder that the crops were written to. Raises
    PictureError.
    """
    return tuple(
        CropPair(
            label=one.source.parent.name,
            crops=(one, other),
            original=_distance(original, one.source, other.source),
            cropped=_distance(cropped, crops_folder / one.written, crops_folder / other.written),
        )
        for one, other in draw_crop_pairs(report.crops, report.rules.seed or 0)
    )


def draw_crop_pairs(crops: Sequence[Crop], seed: int, count: int = _CROP_PAIRS) -> list[tuple[Crop, Crop]]:
    """At most `count` pairs of crops, each of a class of its own."""
    random = np.random.default_rng(seed)
    by_label: dict[str, list[Crop]] = defaultdict(list)
    for crop in crops:
        by_label[crop.source.parent.name].append(crop)
    several = [by_label[label] for label in sorted(by_label) if len(by_label[label]) > 1]
    pairs = []
    for place in random.permutation(len(several))[:count]:
        one, other = random.choice(len(several[place]), 2, replace=False)
        pairs.append((several[place][one], several[place][other]))
    return pairs


def _explain_pair(kind: PairKind, samples: tuple[Sample, Sample], distance: float, encoder: Encoder) -> PairView:
    first, second = (sample.path for sample in samples)
    one, other = encoder.decode(first), encoder.decode(second)
    (explanation,) = PairExplainer(encoder, encoder.bundle.head).explain_query(
        one,
        [other],
        np.array([distance]),
        ExplainOptions(MethodName.gradcam),  # as the paper
    )
    return PairView(kind, samples, distance, build_pair_view(first, first.name, second, second.name, explanation))


def _distance(encoder: Encoder, first: Source, second: Source) -> float:
    one, other = encoder.describe([encoder.decode(first), encoder.decode(second)])
    return float(encoder.bundle.head.descriptor_distances(one, other))
