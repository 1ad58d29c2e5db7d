"""The pairs that a reproduction shows, drawn by its seed and never by their looks."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from retrieval.common.settings import THRESHOLD, ExplainOptions, MethodName
from retrieval.datasets.crop import CropReport
from retrieval.datasets.crop_files import Crop
from retrieval.datasets.pair_sampling import Flags
from retrieval.evaluation.measure import DatasetEvaluation, EvaluatedModel
from retrieval.explain.pair_explainer import PairExplainer
from retrieval.model.encoder import Encoder
from retrieval.model.preprocessing import Source
from retrieval.rendering.presentation import build_pair_view, share_scale
from retrieval.training.paper.results import CropPair, PairKind, PairView

_CROP_PAIRS = 3  # at most, like Figure 6's


def pick_pairs(distances: NDArray[np.float64], similar: Flags, seed: int) -> dict[PairKind, int]:
    """Pick one pair of each kind that is among pairs (M,): its row.

    Of the similar and of the different ones it is the first in an order drawn by the seed; of the borderline ones the
    nearest to the threshold, and of equally near ones the first in that order.
    """
    order = np.random.default_rng(seed).permutation(len(distances))
    judged_similar = (distances < THRESHOLD)[order]
    one_class, nearness = similar[order], np.abs(distances - THRESHOLD)[order]
    rows = {
        PairKind.similar: order[one_class & judged_similar],
        PairKind.different: order[~one_class & ~judged_similar],
        PairKind.borderline: order[~one_class][np.argsort(nearness[~one_class], kind="stable")],
    }
    return {kind: int(candidates[0]) for kind, candidates in rows.items() if len(candidates)}


def explain_pairs(measured: DatasetEvaluation, model: EvaluatedModel, first_kind: PairKind) -> tuple[PairView, ...]:
    """Explain one pair of each kind among the evaluated ones, `first_kind` first. All heatmaps share one scale.

    Raises PictureError if a picture cannot be read any more.
    """
    head = model.encoder.bundle.head
    first, second, similar = measured.pairs
    distances = head.distance(head.pair_separations(measured.descriptors[model.name], first, second))
    rows = pick_pairs(distances, similar, measured.options.seed)
    samples = measured.dataset.samples
    explainer, options = PairExplainer(model.encoder, head), ExplainOptions(MethodName.gradcam)  # as the paper
    pairs = []
    for kind, row in sorted(rows.items(), key=lambda item: item[0] is not first_kind):
        both = samples[first[row]], samples[second[row]]
        one, other = (sample.path for sample in both)
        query, hit = map(model.encoder.decode, (one, other))
        (explanation,) = explainer.explain_query(query, [hit], distances[[row]], options)
        view = build_pair_view(one, one.name, other, other.name, explanation)
        pairs.append(PairView(kind, both, float(distances[row]), view))
    views = share_scale([pair.view for pair in pairs])
    return tuple(replace(pair, view=view) for pair, view in zip(pairs, views, strict=True))


def measure_crop_pairs(report: CropReport, original: Encoder, cropped: Encoder) -> tuple[CropPair, ...]:
    """Measure pairs of crops, each of another class, whole by one model and cropped by the other.

    Classes and pictures are drawn by the report's seed. Raises PictureError.
    """
    return tuple(
        CropPair(
            label=one.source.parent.name,
            crops=(one, other),
            original=_distance(original, one.source, other.source),
            cropped=_distance(cropped, report.out / one.written, report.out / other.written),
        )
        for one, other in draw_crop_pairs(report.crops, report.rules.seed or 0)
    )


def draw_crop_pairs(crops: Sequence[Crop], seed: int) -> list[tuple[Crop, Crop]]:
    """Draw pairs of crops, each of another class."""
    random = np.random.default_rng(seed)
    by_label: dict[str, list[Crop]] = defaultdict(list)
    for crop in crops:
        by_label[crop.source.parent.name].append(crop)
    several = [by_label[label] for label in sorted(by_label) if len(by_label[label]) > 1]
    pairs = []
    for group in random.permutation(len(several))[:_CROP_PAIRS]:
        one, other = random.choice(len(several[group]), 2, replace=False)
        pairs.append((several[group][one], several[group][other]))
    return pairs


def _distance(encoder: Encoder, first: Source, second: Source) -> float:
    one, other = encoder.describe([encoder.decode(first), encoder.decode(second)])
    return float(encoder.bundle.head.descriptor_distances(one, other))
