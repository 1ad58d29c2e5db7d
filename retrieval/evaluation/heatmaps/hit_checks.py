"""How often `--verify` finds the heatmaps of hits faithful, over the hits of random queries."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from retrieval.common.metrics import Interval, bootstrap
from retrieval.common.progress import SILENT, Progress
from retrieval.common.settings import THRESHOLD, MethodName
from retrieval.datasets.class_folders import DataSet
from retrieval.datasets.descriptors import describe_samples
from retrieval.datasets.pair_sampling import Flags
from retrieval.evaluation.heatmaps.baselines import random_map
from retrieval.explain.hiding import HIDINGS
from retrieval.explain.illustrated import HEATMAP_KINDS, HeatmapKind
from retrieval.explain.methods.registry import METHODS, Method
from retrieval.explain.pair_explainer import PairExplainer
from retrieval.explain.verification import Support, Verification, verify
from retrieval.model.encoder import Encoder
from retrieval.model.head import Array
from retrieval.model.preprocessing import Pixels

HITS = 5
"""The hits of each query that are checked, the most similar ones."""

BOTH = "both"
"""The name of the result of all ways of hiding."""

_Checks = list[Verification | None]  # None: both pictures' heatmaps are empty


@dataclass(frozen=True)
class HitSupport:
    """The results of a method: shares of the hits, means over the queries with their 95 % intervals.

    `support` are the shares that are faithful, weak and not supported, by each way of hiding and by `both`; `claims`
    those of the factual and the counterfactual claims that hold; `as_wholes` that of the hits without any heatmap, in
    which nothing is checked.
    """

    support: dict[str, dict[Support, Interval]]
    claims: dict[str, dict[HeatmapKind, Interval]]
    fidelity: Interval
    as_wholes: Interval


@dataclass(frozen=True)
class CheckedHits:
    """The number of queries and of hits, and each method's results."""

    queries: int
    hits: int
    methods: dict[str, HitSupport]


def check_hits(
    dataset: DataSet,
    encoder: Encoder,
    methods: Sequence[MethodName],
    queries: int,
    seed: int = 0,
    progress: Progress = SILENT,
) -> CheckedHits:
    """Check the heatmaps of the five hits of random queries among all other pictures, beside random heatmaps.

    There are at most as many queries as pictures. Raises GalleryError if no picture can be read.
    """
    read, (descriptors,) = describe_samples(dataset, [encoder], progress)
    makers: dict[str, Method] = {METHODS[name].title: METHODS[name].run for name in methods} | {"Random": random_map}
    found: dict[str, list[_Checks]] = {title: [] for title in makers}
    chosen = np.random.default_rng(seed).permutation(len(read.samples))[:queries].tolist()
    explainer = PairExplainer(encoder, encoder.bundle.head)
    with progress.stage("Checking hits", len(chosen) * len(makers)) as stage:
        for row in chosen:
            distances = explainer.head.descriptor_distances(descriptors[row], descriptors)
            distances[row] = np.inf
            hits = np.argsort(distances, kind="stable")[: min(HITS, len(distances) - 1)]
            pixels = [encoder.decode(read.samples[each].path) for each in (row, *hits.tolist())]
            pairs = [(0, hit) for hit in range(1, len(pixels))]
            sides = explainer.both_sides(pixels, *map(list, zip(*pairs, strict=True)))
            for title, make in makers.items():
                maps = np.stack([make(side) for side in sides])
                found[title].append(_check_query(explainer, pixels, pairs, maps, distances[hits] >= THRESHOLD))
                stage.advance(1)
    hit_count = sum(map(len, next(iter(found.values()))))
    return CheckedHits(len(chosen), hit_count, {title: _summarise(each, seed) for title, each in found.items()})


def _check_query(
    explainer: PairExplainer, pixels: Sequence[Pixels], pairs: Sequence[tuple[int, int]], maps: Array, different: Flags
) -> _Checks:
    """Check maps (2 pictures, what raises and lowers the distance, N, h, w) of N pairs, given by rows of `pixels`."""
    maps = maps.transpose(2, 0, 1, 3, 4)
    maps[~different] = maps[~different][:, :, ::-1]
    drawn = [number for number, own in enumerate(maps) if own.any()]
    chosen = [pairs[number] for number in drawn]
    checks = verify(explainer.head, explainer.encoder.describe, pixels, chosen, maps[drawn], different[drawn].tolist())
    by_number = dict(zip(drawn, checks, strict=True))
    return [by_number.get(number) for number in range(len(pairs))]


def _summarise(checked: Sequence[_Checks], seed: int) -> HitSupport:
    def mean(value: Callable[[Verification], float]) -> Interval:
        return bootstrap(np.array([np.mean([value(each) if each else 0 for each in hits]) for hits in checked]), seed)

    support = {way: {kind: mean(partial(_has_support, way, kind)) for kind in Support} for way in (*HIDINGS, BOTH)}
    claims = {way: {kind: mean(partial(_share_held, way, kind)) for kind in HEATMAP_KINDS} for way in HIDINGS}
    as_wholes = bootstrap(np.array([hits.count(None) / len(hits) for hits in checked]), seed)
    return HitSupport(support, claims, mean(lambda each: each.fidelity), as_wholes)


def _has_support(way: str, support: Support, found: Verification) -> bool:
    return (found if way == BOTH else found.hidings[way]).support is support


def _share_held(way: str, kind: str, found: Verification) -> float:
    """Return the share of the pair's factual or counterfactual claims that hold."""
    pictures = (found.hidings[way].query, found.hidings[way].hit)
    return float(np.mean([getattr(each, kind).as_claimed for each in pictures if each is not None]))
