"""The faithfulness of a method's heatmaps, over the pairs of a data set.

The first picture of each pair is changed in the order of its heatmap, and the confidence in the pair's verdict is
recorded: the similarity if that is `similar`, else the distance. Each figure is measured by every way of hiding. A
heatmap is faithful if hiding its most factual places first lowers the confidence quickly (deletion), if showing them
first restores it quickly (insertion; both after Petsiuk et al., 2018, RISE), if hiding the most counterfactual fifth
raises it, and if it foretells the effect of hiding random regions (fidelity).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from retrieval.common.errors import GalleryError
from retrieval.common.metrics import Interval, bootstrap, sigmoid
from retrieval.common.parallel import batched
from retrieval.common.progress import SILENT, Progress
from retrieval.common.settings import MethodName
from retrieval.datasets.class_folders import DataSet
from retrieval.datasets.pair_sampling import random_pairs
from retrieval.evaluation.heatmaps.baselines import BASELINES
from retrieval.explain.explanation import verdict_of
from retrieval.explain.hiding import HIDDEN_SHARE, HIDINGS, Hider, PixelMask, rank_pixels, top_mask, upsample
from retrieval.explain.methods.gradcam import PairInputs
from retrieval.explain.methods.registry import METHODS, Method
from retrieval.explain.pair_explainer import PairExplainer
from retrieval.explain.verification import RANDOM_REGIONS, hide_unseen, measure_fidelity, random_regions
from retrieval.model.encoder import Encoder
from retrieval.model.head import Array, Head
from retrieval.model.preprocessing import Pixels

STEPS = 10
"""Steps of deletion and insertion: a tenth of the picture each."""

_TOGETHER = 8  # pairs whose activations are held at once

Curve = NDArray[np.float64]


@dataclass(frozen=True)
class HeatmapTrace:
    """The effect of one pair's heatmaps on its confidence, by one way of hiding.

    `deletion` and `insertion` are the confidences (STEPS + 1,) while more and more of the factual heatmap is hidden, or
    shown; `visible_confidence` that of the picture seen through it; `top_gain` is the change in log-odds of the verdict
    from hiding the most counterfactual fifth, `random` (8,) that from hiding random regions of the same shape.
    """

    deletion: Curve
    insertion: Curve
    visible_confidence: float
    top_gain: float
    random: Curve


@dataclass(frozen=True)
class PairTrace:
    """The effect of one pair's heatmaps by each way of hiding, and their fidelity."""

    fidelity: float
    hidings: dict[str, HeatmapTrace]


@dataclass(frozen=True)
class HeatmapMetrics:
    """The figures by one way of hiding, each with a 95 % interval of its mean over the pairs.

    `deletion` and `insertion` are areas under the curves of the factual maps: low deletion and high insertion are good.
    `drop` is the share of the confidence lost if only their places are shown, `increase` the share of pairs in which it
    grows (Chattopadhay et al., 2018). `raised` is the share of pairs in which hiding the most counterfactual fifth
    raises the confidence, `raised_by_random` that for random regions of the same shape.
    """

    deletion: Interval
    insertion: Interval
    drop: Interval
    increase: Interval
    raised: Interval
    raised_by_random: Interval
    deletion_curve: tuple[float, ...]
    insertion_curve: tuple[float, ...]


@dataclass(frozen=True)
class MethodMetrics:
    """A method's figures over some pairs, by each way of hiding; its fidelity, which is over all ways."""

    fidelity: Interval
    hidings: dict[str, HeatmapMetrics]


@dataclass(frozen=True)
class Faithfulness:
    """The number of pairs and each method's figures, by group of pairs: `all`, and the verdicts."""

    pairs: dict[str, int]
    methods: dict[str, dict[str, MethodMetrics]]
    left_out: tuple[str, ...]


def measure_faithfulness(
    dataset: DataSet,
    encoder: Encoder,
    methods: Sequence[MethodName],
    pairs: int,
    seed: int = 0,
    progress: Progress = SILENT,
) -> Faithfulness:
    """Measure methods and baselines on random pairs, half of one class and half of two.

    Raises GalleryError if the data set has too few pictures for so many pairs.
    """
    first, second, _ = random_pairs(dataset.codes, seed, pairs // 2)
    samples, explainer = dataset.samples, PairExplainer(encoder, encoder.bundle.head)
    makers: dict[str, Method] = {METHODS[name].title: METHODS[name].run for name in methods} | BASELINES
    traced: dict[str, list[PairTrace]] = {title: [] for title in makers}
    verdicts: list[str] = []
    left_out: list[str] = []
    with progress.stage("Hiding and showing", len(first)) as stage:
        for batch in batched(zip(first, second, strict=True), _TOGETHER):
            paths = ([samples[row].path for row in rows] for rows in zip(*batch, strict=True))
            pairs_read = encoder.decode_pairs(*paths)
            left_out += map(str, pairs_read.errors)
            if pairs_read.rows:
                others = encoder.describe(pairs_read.second)
                distances = explainer.head.descriptor_distances(encoder.describe(pairs_read.first), others)
                inputs = explainer.inputs(pairs_read.first, others)
                tracers = [_Tracer(inputs, row, float(distance)) for row, distance in enumerate(distances)]
                verdicts += [tracer.verdict for tracer in tracers]
                for title, make in makers.items():
                    maps = make(inputs)
                    traced[title] += [tracer.trace(maps[:, row]) for row, tracer in enumerate(tracers)]
            stage.advance(len(batch))
    if not verdicts:
        raise GalleryError(f"{dataset.folder} holds no pair of pictures that can be read: give class folders")
    return _summarise(traced, verdicts, left_out, seed)


class _Tracer:
    """One pair, whose first picture is changed repeatedly."""

    def __init__(self, pairs: PairInputs, place: int, distance: float) -> None:
        assert pairs.pixel_access is not None
        self.head: Head = pairs.head
        self.pixels = pairs.pixel_access.pixels[place]
        self.size = len(self.pixels)
        self.verdict = verdict_of(distance)
        self.seed = place
        self._describe = pairs.pixel_access.describe
        self._other = pairs.head.embed(pairs.other[place])
        self._hiders = {way: hiding(self.pixels) for way, hiding in HIDINGS.items()}
        unseen = hide_unseen(list(self._hiders.values()), self.size)
        whole, *hidden = self._log_odds([self.pixels, *unseen])
        self._whole, self._gains = whole, np.array(hidden) - whole

    def trace(self, maps: Array) -> PairTrace:
        """Trace maps that raise and lower the distance, (2, h, w)."""
        factual, counterfactual = maps if self.verdict == "different" else maps[::-1]
        fidelity = measure_fidelity(factual - counterfactual, self.size, self._gains)
        order = rank_pixels(factual, counterfactual, self.size)
        masks = [order < round(step / STEPS * self.size**2) for step in range(1, STEPS)]
        fifth = top_mask(counterfactual, factual, self.size, HIDDEN_SHARE)
        regions = [fifth, *random_regions(fifth, RANDOM_REGIONS, self.seed)]
        traces = {way: self._trace(hider, factual, masks, regions) for way, hider in self._hiders.items()}
        return PairTrace(fidelity, traces)

    def _trace(
        self, hider: Hider, factual: Array, masks: Sequence[PixelMask], regions: Sequence[PixelMask]
    ) -> HeatmapTrace:
        blank = hider(np.ones((self.size, self.size), np.bool_))
        changed = [hider(mask) for mask in (*masks, *(~mask for mask in masks), *regions)]
        log_odds = self._log_odds([*changed, blank, self._mask_by_heatmap(factual, blank)])
        hidden, shown, without, (nothing, visible) = np.split(log_odds, [len(masks), 2 * len(masks), -2])
        return HeatmapTrace(
            deletion=sigmoid(np.array([self._whole, *hidden, nothing])),
            insertion=sigmoid(np.array([nothing, *shown, self._whole])),
            visible_confidence=float(sigmoid(np.array(visible))),
            top_gain=float(without[0] - self._whole),
            random=without[1:] - self._whole,
        )

    def _mask_by_heatmap(self, heatmap: Array, blank: Pixels) -> Pixels:
        """Return the picture as visible as the heatmap is strong."""
        most = float(heatmap.max())
        share = np.clip(upsample(heatmap / most if most > 0 else heatmap, self.size), 0, 1)[..., None]
        return np.asarray(np.rint(blank + (self.pixels.astype(np.float32) - blank) * share), np.uint8)

    def _log_odds(self, pictures: Sequence[Pixels]) -> Curve:
        """Return the log-odds of the verdict, (M,)."""
        separations = self.head.separation(self.head.embed(self._describe(pictures)), self._other)
        sign = 1 if self.verdict == "different" else -1
        return sign * (self.head.slope * separations + self.head.intercept)


def _summarise(traced: dict[str, list[PairTrace]], verdicts: list[str], left_out: list[str], seed: int) -> Faithfulness:
    said = np.array(verdicts)
    groups = {"all": np.full(len(said), True), "similar": said == "similar", "different": said == "different"}
    places = {name: np.flatnonzero(own) for name, own in groups.items() if own.any()}
    methods = {
        title: {group: _method_metrics([found[place] for place in own], seed) for group, own in places.items()}
        for title, found in traced.items()
    }
    return Faithfulness({name: len(own) for name, own in places.items()}, methods, tuple(left_out))


def _method_metrics(traced: Sequence[PairTrace], seed: int) -> MethodMetrics:
    fidelity = bootstrap(np.array([each.fidelity for each in traced]), seed)
    return MethodMetrics(
        fidelity, {way: _heatmap_metrics([each.hidings[way] for each in traced], seed) for way in HIDINGS}
    )


def _heatmap_metrics(traced: Sequence[HeatmapTrace], seed: int) -> HeatmapMetrics:
    deletion, insertion = (np.stack([getattr(each, name) for each in traced]) for name in ("deletion", "insertion"))
    start, shown = deletion[:, 0], np.array([each.visible_confidence for each in traced])
    fifth, random = np.array([each.top_gain for each in traced]), np.stack([each.random for each in traced])
    return HeatmapMetrics(
        deletion=bootstrap(np.trapezoid(deletion, axis=1) / STEPS, seed),
        insertion=bootstrap(np.trapezoid(insertion, axis=1) / STEPS, seed),
        drop=bootstrap(np.maximum(start - shown, 0) / start, seed),
        increase=bootstrap((shown > start).astype(np.float64), seed),
        raised=bootstrap((fifth > 0).astype(np.float64), seed),
        raised_by_random=bootstrap((random > 0).mean(axis=1), seed),
        deletion_curve=tuple(deletion.mean(axis=0).tolist()),
        insertion_curve=tuple(insertion.mean(axis=0).tolist()),
    )
