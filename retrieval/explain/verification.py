"""Verification of heatmaps: the model's similarity once the regions that they name are hidden."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from retrieval.explain.hiding import HIDDEN_SHARE, HIDINGS, Hider, PixelMask, cover_cells, draw_regions, top_mask
from retrieval.model.head import Array, Head
from retrieval.model.preprocessing import Pixels

RANDOM_REGIONS = 8
"""The number of random regions of the same area and shape that each region is compared with."""

UNSEEN_REGIONS = 100
"""The number of random regions that fidelity is measured on, an equal part of them hidden in each way."""

_UNSEEN_SEED = 20  # no method draws its regions with it


class Support(StrEnum):
    """Whether hiding what a heatmap names changes the confidence of the verdict as it claims."""

    faithful = "faithful"
    weak = "weak"
    not_supported = "not supported"


@dataclass(frozen=True)
class HiddenRegion:
    """The similarity with a region hidden, and with random regions of the same area and shape hidden (8,)."""

    similarity: float
    random: tuple[float, ...]
    margin: float  # how much further the log-odds moved than for random regions, in the direction of the claim
    error: float  # of the random regions' mean: their standard deviation over the root of their count

    @property
    def random_similarity(self) -> float:
        return float(np.mean(self.random))

    @property
    def as_claimed(self) -> bool:
        """Whether the region did what the heatmap claims, beyond what chance explains."""
        return self.margin > self.error


@dataclass(frozen=True)
class PictureCheck:
    """The check of one picture's heatmaps: its most factual fifth is hidden, then its most counterfactual fifth."""

    factual: HiddenRegion
    counterfactual: HiddenRegion


@dataclass(frozen=True)
class PairCheck:
    """The check of a pair's heatmaps by one way of hiding; None for a picture without any, where nothing is claimed."""

    query: PictureCheck | None
    hit: PictureCheck | None

    @property
    def support(self) -> Support:
        """Faithful if all claims hold, of two pictures four; weak if all factual ones or all but one do."""
        checks = [check for check in (self.query, self.hit) if check is not None]
        factual = [check.factual.as_claimed for check in checks]
        failed = [*factual, *(check.counterfactual.as_claimed for check in checks)].count(False)
        if not failed:
            return Support.faithful
        return Support.weak if all(factual) or failed == 1 else Support.not_supported


@dataclass(frozen=True)
class Verification:
    """The check of a pair's heatmaps. `similarity` is that of the unchanged pictures.

    `hidings` has the check by each way of hiding: `blurred`, and `filled` with the colours around the region.
    `fidelity` (0 to 1) is how much of the effect of hiding random regions the heatmaps foretell: the squared
    correlation of the evidence in a region and the change of the verdict's log-odds, 0 if that is negative. It is the
    mean over both ways and the pictures with heatmaps.
    """

    similarity: float
    fidelity: float
    hidings: dict[str, PairCheck]

    @property
    def support(self) -> Support:
        """Faithful, or not supported, if that was found by every way of hiding; else weak."""
        found = {check.support for check in self.hidings.values()}
        return found.pop() if len(found) == 1 else Support.weak


def verify(
    head: Head,
    describe: Callable[[Iterable[Pixels]], Array],
    pixels: Sequence[Pixels],
    pairs: Sequence[tuple[int, int]],
    maps: Array,
    different: Sequence[bool],
) -> list[Verification]:
    """Check the heatmaps of P pairs, given by rows of `pixels`, uint8 (size, size, 3); verdicts may be `different`.

    `maps` (P, 2, 2, h, w) are the factual and the counterfactual heatmap of the first and of the second picture. The
    network describes 72 changed pictures of each pair, and 100 of each picture, however many pairs share it: 960 for a
    query and five hits. The same random regions are drawn each time.
    """
    rows = sorted({row for pair in pairs for row in pair})
    hiders = {row: [hiding(pixels[row]) for hiding in HIDINGS.values()] for row in rows}

    def changed() -> Iterator[Pixels]:
        for row in rows:
            yield pixels[row]
            yield from hide_unseen(hiders[row], len(pixels[row]))
        for seed, (pair, both_maps) in enumerate(zip(pairs, maps, strict=True), 1):
            for row, own_maps in zip(pair, both_maps, strict=True):
                regions = _claimed_regions(own_maps, len(pixels[row]), seed)
                for hider in hiders[row]:
                    yield from map(hider, regions)

    if not pairs:
        return []
    u = head.embed(describe(changed()))
    of_pictures, of_claims = np.split(u, [len(rows) * (1 + UNSEEN_REGIONS)])
    by_row = dict(zip(rows, of_pictures.reshape(len(rows), 1 + UNSEEN_REGIONS, -1), strict=True))
    hidden = of_claims.reshape(len(pairs), 2, len(HIDINGS), 2, 1 + RANDOM_REGIONS, -1)
    size = len(pixels[rows[0]])
    return [
        _verify_pair(head, size, (by_row[one], by_row[other]), *found)
        for (one, other), *found in zip(pairs, hidden, maps, different, strict=True)
    ]


def _verify_pair(
    head: Head, size: int, pictures: tuple[Array, Array], hidden: Array, maps: Array, different: bool
) -> Verification:
    """Check one pair: `pictures` have the embeddings of each, unchanged and with unseen regions hidden (101, E)."""
    before = head.separation(pictures[0][0], pictures[1][0])
    direction = head.slope * (1 if different else -1)  # from a change of the separation to that of the log-odds
    checks: list[list[PictureCheck | None]] = []
    fidelities: list[float] = []
    for side, (own, after, (factual, counterfactual)) in enumerate(zip(pictures, hidden, maps, strict=True)):
        other = pictures[1 - side][0]
        if not (factual.any() or counterfactual.any()):
            checks.append([None] * len(HIDINGS))
            continue
        checks.append([_check_picture(head, direction, before, each) for each in head.separation(after, other)])
        gains = direction * (head.separation(own[1:], other) - before)
        fidelities.append(measure_fidelity(factual - counterfactual, size, gains))
    by_way = {way: PairCheck(*both) for way, both in zip(HIDINGS, zip(*checks, strict=True), strict=True)}
    return Verification(float(1 - head.distance(before)), float(np.mean(fidelities or [0.0])), by_way)


def random_regions(mask: PixelMask, count: int, seed: int) -> list[PixelMask]:
    """Return random regions of the mask's area and shape (size, size): it is mirrored and shifted, with wrap-around."""
    random = np.random.default_rng(seed)
    size = mask.shape[0]
    regions = []
    for _ in range(count):
        mirrored = mask[:: random.choice((1, -1)), :: random.choice((1, -1))]
        regions.append(np.roll(mirrored, tuple(random.integers(0, size, 2)), (0, 1)))
    return regions


def hide_unseen(hiders: Sequence[Hider], size: int) -> Iterator[Pixels]:
    """Yield a picture with each of the unseen regions hidden: an equal part of them by each hider, in order."""
    regions = unseen_regions(size)
    count = len(regions) // len(hiders)
    for number, hider in enumerate(hiders):
        yield from map(hider, regions[number * count : (number + 1) * count])


def unseen_regions(size: int) -> list[PixelMask]:
    """Return the random regions, masks (size, size), that fidelity is measured by."""
    return draw_regions(UNSEEN_REGIONS, size, _UNSEEN_SEED)


def measure_fidelity(evidence: Array, size: int, gains: NDArray[np.float64]) -> float:
    """Return how much of the gains in log-odds (100,), in the order of `hide_unseen`, the evidence (h, w) foretells.

    Evidence for the verdict counts above 0, against it below. The squared correlation, 0 if it is negative, is the mean
    over the ways of hiding.
    """
    foretold = -np.tensordot(_cover_unseen(size, evidence.shape), evidence.astype(np.float64), 2)
    by_way = zip(*(np.split(each, len(HIDINGS)) for each in (foretold, gains)), strict=True)
    return float(np.mean([_correlate(*each) ** 2 for each in by_way]))


@lru_cache(4)
def _cover_unseen(size: int, shape: tuple[int, int]) -> Array:
    return cover_cells(unseen_regions(size), shape)


def _correlate(foretold: NDArray[np.float64], measured: NDArray[np.float64]) -> float:
    """Return the correlation; 0 if it is negative or either does not vary."""
    varies = min(np.ptp(foretold), np.ptp(measured)) > 0
    return max(float(np.corrcoef(foretold, measured)[0, 1]), 0.0) if varies else 0.0


def _claimed_regions(maps: Array, size: int, seed: int) -> list[PixelMask]:
    """Return the factual fifth and random regions like it, then the counterfactual fifth and the same."""
    factual, counterfactual = maps
    masks = [top_mask(*both, size, HIDDEN_SHARE) for both in ((factual, counterfactual), (counterfactual, factual))]
    return [region for mask in masks for region in (mask, *random_regions(mask, RANDOM_REGIONS, seed))]


def _check_picture(
    head: Head, direction: float, before: NDArray[np.float64], after: NDArray[np.float64]
) -> PictureCheck:
    """Compare the separation before with those after (2, 1 + RANDOM): factual, counterfactual; own region first."""
    confidence = direction * (after - before)  # gain in the log-odds of the verdict
    similarities = 1 - head.distance(after)
    factual, counterfactual = (
        HiddenRegion(
            similarity=float(similar[0]),
            random=tuple(similar[1:].tolist()),
            margin=float(sign * (gained[0] - gained[1:].mean())),
            error=float(gained[1:].std(ddof=1) / np.sqrt(RANDOM_REGIONS)),
        )
        for sign, similar, gained in zip((-1, 1), similarities, confidence, strict=True)
    )
    return PictureCheck(factual, counterfactual)
