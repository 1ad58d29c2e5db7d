"""Verification: true and false heatmaps of a model that looks at one region only."""

from collections.abc import Callable, Sequence

import numpy as np
import pytest

from retrieval.explain.verification import (
    HIDDEN_SHARE,
    RANDOM_REGIONS,
    HiddenRegion,
    PictureCheck,
    Support,
    Verification,
    random_regions,
    verify,
)
from retrieval.model.head import Array, Head
from retrieval.model.preprocessing import Pixels
from tests.support.generated import blocks

SIZE = 35
HEAD = Head(np.eye(1, dtype=np.float32), np.zeros(1, np.float32), slope=1.0, intercept=-2.0, normalize=False)
UPPER_LEFT, LOWER_RIGHT = np.zeros((2, 7, 7), np.float32)
UPPER_LEFT[:3, :3] = 1
LOWER_RIGHT[4:, 4:] = 1


def stripes(background: int) -> Pixels:
    """Draw fine stripes in the upper left ninth, which a blur removes, on a plain background."""
    pixels = np.full((SIZE, SIZE, 3), background, np.uint8)
    pixels[:12:2, :12] = 255
    pixels[1:12:2, :12] = 0
    return pixels


def contrast(pictures: Sequence[Pixels]) -> Array:
    """Return what the model sees: how striped the upper left is, from 0 to 10."""
    return np.array([[each[:12, :12].astype(np.float32).std() / 12.75] for each in pictures], np.float32)


def check(
    *pairs: tuple[Pixels, Pixels],
    true: Sequence[bool] = (True,),
    different: bool = False,
    describe: Callable[[Sequence[Pixels]], Array] = contrast,
) -> list[Verification]:
    """Verify heatmaps that name the region that the model looks at (`true`), or another."""
    maps = [(UPPER_LEFT, LOWER_RIGHT) if each else (LOWER_RIGHT, UPPER_LEFT) for each in true]
    return verify(HEAD, describe, pairs, np.array([(each, each) for each in maps]), [different] * len(pairs))


def test_a_true_heatmap_is_faithful() -> None:
    (verification,) = check((stripes(90), stripes(150)))
    assert verification.similarity == pytest.approx(1 - HEAD.distance(np.zeros(1)).item(), abs=1e-3)
    assert verification.query.factual.similarity < verification.query.factual.random_similarity
    assert verification.support is Support.faithful


def test_a_false_heatmap_is_not_supported() -> None:
    (verification,) = check((stripes(90), stripes(150)), true=[False])
    assert not any(each.as_claimed for each in (verification.query.factual, verification.hit.factual))
    assert verification.support is Support.not_supported


def test_for_the_other_verdict_the_claims_are_reversed() -> None:
    even = np.full((SIZE, SIZE, 3), 120, np.uint8)
    (verification,) = check((stripes(90), even), different=True)
    assert verification.query.factual.similarity > verification.query.factual.random_similarity
    assert verification.query.factual.as_claimed
    assert not verification.hit.factual.as_claimed  # there is nothing to hide in it


def test_each_pair_of_several_is_checked_as_if_alone() -> None:
    first, second = (stripes(90), stripes(150)), (stripes(90), blocks(3, SIZE, SIZE))
    together = check(first, second, true=[True, False])
    assert together[0] == check(first)[0]
    assert together[1].query.factual.margin < together[0].query.factual.margin


def test_where_nothing_is_claimed_nothing_is_checked() -> None:
    assert check(true=[]) == []


def test_random_regions_have_the_same_area_and_are_the_same_each_time() -> None:
    mask = np.zeros((20, 20), np.bool_)
    mask[2:6, 3:13] = True
    regions = random_regions(mask, RANDOM_REGIONS, seed=4)
    assert len(regions) == RANDOM_REGIONS
    assert {int(region.sum()) for region in regions} == {int(mask.sum())}
    assert any((region != mask).any() for region in regions)
    for one, other in zip(regions, random_regions(mask, RANDOM_REGIONS, seed=4), strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_fifth_is_hidden() -> None:
    seen: list[Pixels] = []

    def describe(pictures: Sequence[Pixels]) -> Array:
        seen.extend(pictures)
        return contrast(pictures)

    check((blocks(1, SIZE, SIZE, 16), blocks(2, SIZE, SIZE, 16)), describe=describe)
    assert len(seen) == 2 + 4 * (1 + RANDOM_REGIONS)
    changed = (seen[2] != seen[0]).any(axis=2).mean()
    assert HIDDEN_SHARE * 0.9 < changed <= HIDDEN_SHARE + 1e-3


def hidden(holds: bool) -> HiddenRegion:
    return HiddenRegion(0.5, (0.6,) * RANDOM_REGIONS, margin=1.0 if holds else 0.0, error=0.5)


@pytest.mark.parametrize(
    ("factual", "counterfactual", "support"),
    [
        ((True, True), (True, True), Support.faithful),
        ((True, True), (False, False), Support.weak),
        ((True, False), (True, True), Support.weak),
        ((True, False), (True, False), Support.not_supported),
        ((False, False), (True, True), Support.not_supported),
    ],
)
def test_the_verdict_on_four_claims(
    factual: tuple[bool, bool], counterfactual: tuple[bool, bool], support: Support
) -> None:
    query, hit = (PictureCheck(hidden(one), hidden(other)) for one, other in zip(factual, counterfactual, strict=True))
    assert Verification(0.7, query, hit).support is support
