"""Verification of heatmaps: the model's similarity once the regions that they name are hidden."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from retrieval.explain.hiding import HIDDEN_SHARE, PixelMask, blur, hide, top_mask
from retrieval.model.head import Array, Head
from retrieval.model.preprocessing import Pixels

RANDOM_REGIONS = 8
"""The number of random regions of the same area and shape that each region is compared with."""


class Support(StrEnum):
    """Whether hiding what a heatmap names changes the confidence of the verdict as it claims."""

    faithful = "faithful"
    weak = "weak"
    not_supported = "not supported"


@dataclass(frozen=True)
class HiddenRegion:
    """The similarity with a region blurred, and with random regions of the same area and shape blurred (8,)."""

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
class Verification:
    """The check of a pair's heatmaps in both pictures. `similarity` is that of the unchanged pictures."""

    similarity: float
    query: PictureCheck
    hit: PictureCheck

    @property
    def support(self) -> Support:
        """Faithful if all four claims hold; weak if both factual ones or any three do."""
        factual = [self.query.factual.as_claimed, self.hit.factual.as_claimed]
        held = sum(factual) + self.query.counterfactual.as_claimed + self.hit.counterfactual.as_claimed
        if held == 4:
            return Support.faithful
        return Support.weak if all(factual) or held == 3 else Support.not_supported


def verify(
    head: Head,
    describe: Callable[[Sequence[Pixels]], Array],
    pairs: Sequence[tuple[Pixels, Pixels]],
    maps: Array,
    different: Sequence[bool],
) -> list[Verification]:
    """Check the heatmaps of P pairs of pictures, uint8 (size, size, 3), whose verdict may be `different`.

    `maps` (P, 2, 2, h, w) are the factual and the counterfactual heatmap of the first and of the second picture.
    36 changed pictures of each pair are described by the network. The same random regions are drawn each time.
    """
    if not pairs:
        return []
    changed = [
        picture
        for seed, (pair, both_maps) in enumerate(zip(pairs, maps, strict=True), 1)
        for pixels, own_maps in zip(pair, both_maps, strict=True)
        for picture in _hide_regions(pixels, own_maps, seed)
    ]
    u = head.embed(describe([*(pixels for pair in pairs for pixels in pair), *changed]))
    plain = u[: 2 * len(pairs)].reshape(len(pairs), 2, -1)
    hidden = u[2 * len(pairs) :].reshape(len(pairs), 2, 2, 1 + RANDOM_REGIONS, -1)
    verifications = []
    for (query, hit), after, is_different in zip(plain, hidden, different, strict=True):
        before = head.separation(query, hit)
        checks = [
            _check_picture(head, is_different, before, head.separation(own, other))
            for own, other in zip(after, (hit, query), strict=True)
        ]
        verifications.append(Verification(float(1 - head.distance(before)), *checks))
    return verifications


def random_regions(mask: PixelMask, count: int, seed: int) -> list[PixelMask]:
    """Return random regions of the mask's area and shape (size, size): it is mirrored and shifted, with wrap-around."""
    random = np.random.default_rng(seed)
    size = mask.shape[0]
    regions = []
    for _ in range(count):
        mirrored = mask[:: random.choice((1, -1)), :: random.choice((1, -1))]
        regions.append(np.roll(mirrored, tuple(random.integers(0, size, 2)), (0, 1)))
    return regions


def _hide_regions(pixels: Pixels, maps: Array, seed: int) -> list[Pixels]:
    """Hide the picture's factual fifth, random regions like it, and the same of its counterfactual fifth, one each."""
    factual, counterfactual = maps
    size = pixels.shape[0]
    masks = [top_mask(*both, size, HIDDEN_SHARE) for both in ((factual, counterfactual), (counterfactual, factual))]
    regions = [region for mask in masks for region in (mask, *random_regions(mask, RANDOM_REGIONS, seed))]
    blurred = blur(pixels)
    return [hide(pixels, blurred, region) for region in regions]


def _check_picture(
    head: Head, different: bool, before: NDArray[np.float64], after: NDArray[np.float64]
) -> PictureCheck:
    """Compare the separation before with those after (2, 1 + RANDOM): factual, counterfactual; own region first."""
    confidence = head.slope * (after - before) * (1 if different else -1)  # gain in the log-odds of the verdict
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
