"""Verification: true and false heatmaps of a model that looks at one region only."""

from collections.abc import Callable, Iterable, Sequence

import numpy as np
import pytest

from retrieval.explain.hiding import HIDDEN_SHARE, HIDINGS, cover_cells
from retrieval.explain.verification import (
    RANDOM_REGIONS,
    UNSEEN_REGIONS,
    HiddenRegion,
    PairCheck,
    PictureCheck,
    Support,
    Verification,
    measure_fidelity,
    random_regions,
    unseen_regions,
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


def contrast(pictures: Iterable[Pixels]) -> Array:
    """Return what the model sees: how striped the upper left is, from 0 to 10."""
    return np.array([[each[:12, :12].astype(np.float32).std() / 12.75] for each in pictures], np.float32)


def check(
    *pairs: tuple[Pixels, Pixels],
    true: Sequence[bool] = (True,),
    different: bool = False,
    describe: Callable[[Iterable[Pixels]], Array] = contrast,
) -> list[Verification]:
    """Verify heatmaps that name the region that the model looks at (`true`), or another."""
    maps = [(UPPER_LEFT, LOWER_RIGHT) if each else (LOWER_RIGHT, UPPER_LEFT) for each in true]
    pixels = [picture for pair in pairs for picture in pair]
    rows = [(2 * number, 2 * number + 1) for number in range(len(pairs))]
    return verify(HEAD, describe, pixels, rows, np.array([(each, each) for each in maps]), [different] * len(pairs))


def checks(verification: Verification, side: str) -> list[PictureCheck]:
    """Return one picture's check by each way of hiding."""
    return [getattr(each, side) for each in verification.hidings.values()]


def test_a_true_heatmap_is_faithful() -> None:
    (verification,) = check((stripes(90), stripes(150)))
    assert verification.similarity == pytest.approx(1 - HEAD.distance(np.zeros(1)).item(), abs=1e-3)
    assert list(verification.hidings) == ["blurred", "filled"]
    for found in checks(verification, "query"):
        assert found.factual.similarity < found.factual.random_similarity
    assert verification.support is Support.faithful
    assert verification.fidelity > 0.3


def test_a_false_heatmap_is_not_supported() -> None:
    (verification,) = check((stripes(90), stripes(150)), true=[False])
    assert not any(each.factual.as_claimed for side in ("query", "hit") for each in checks(verification, side))
    assert verification.support is Support.not_supported
    assert verification.fidelity < 0.01


def test_for_the_other_verdict_the_claims_are_reversed() -> None:
    even = np.full((SIZE, SIZE, 3), 120, np.uint8)
    (verification,) = check((stripes(90), even), different=True)
    for query, hit in zip(checks(verification, "query"), checks(verification, "hit"), strict=True):
        assert query.factual.similarity > query.factual.random_similarity
        assert query.factual.as_claimed
        assert not hit.factual.as_claimed  # there is nothing to hide in it


def test_each_pair_of_several_is_checked_as_if_alone() -> None:
    first, second = (stripes(90), stripes(150)), (stripes(90), blocks(3, SIZE, SIZE))
    together = check(first, second, true=[True, False])
    assert together[0] == check(first)[0]
    for one, other in zip(checks(together[0], "query"), checks(together[1], "query"), strict=True):
        assert other.factual.margin < one.factual.margin


def test_where_nothing_is_claimed_nothing_is_checked() -> None:
    assert check(true=[]) == []
    none = np.zeros_like(UPPER_LEFT)
    maps = np.array([((UPPER_LEFT, LOWER_RIGHT), (none, none))])
    (verification,) = verify(HEAD, contrast, [stripes(90), stripes(150)], [(0, 1)], maps, [False])
    (both,) = check((stripes(90), stripes(150)))
    assert checks(verification, "query") == checks(both, "query")
    assert checks(verification, "hit") == [None, None]
    assert verification.support is Support.faithful


def test_a_picture_that_several_pairs_share_is_described_once() -> None:
    described = []

    def describe(pictures: Iterable[Pixels]) -> Array:
        found = contrast(pictures)
        described.append(len(found))
        return found

    pixels = [stripes(90), stripes(150), stripes(60)]
    maps = np.array([[(UPPER_LEFT, LOWER_RIGHT)] * 2] * 2)
    found = verify(HEAD, describe, pixels, [(0, 1), (0, 2)], maps, [False] * 2)
    assert described == [3 * (1 + UNSEEN_REGIONS) + 2 * 4 * len(HIDINGS) * (1 + RANDOM_REGIONS)]
    assert found[:1] == check((pixels[0], pixels[1]))


def test_fidelity_by_hand() -> None:
    size, evidence = 28, np.random.default_rng(0).standard_normal((7, 7)).astype(np.float32)
    lost = np.tensordot(cover_cells(unseen_regions(size), (7, 7)), evidence, 2).astype(np.float64)
    assert measure_fidelity(evidence, size, -2 * lost + 3) == pytest.approx(1)
    assert measure_fidelity(evidence, size, lost) == 0
    assert measure_fidelity(np.ones_like(evidence), size, np.zeros(len(lost))) == 0
    half = np.concatenate([-lost[: len(lost) // 2], lost[len(lost) // 2 :]])
    assert measure_fidelity(evidence, size, half) == pytest.approx(0.5)


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

    def describe(pictures: Iterable[Pixels]) -> Array:
        seen.extend(pictures)
        return contrast(seen)

    check((blocks(1, SIZE, SIZE, 16), blocks(2, SIZE, SIZE, 16)), describe=describe)
    first, claimed = seen[0], seen[2 * (1 + UNSEEN_REGIONS)]
    for hidden in (seen[1], seen[UNSEEN_REGIONS], claimed):
        assert HIDDEN_SHARE * 0.9 < (hidden != first).any(axis=2).mean() <= HIDDEN_SHARE + 1e-3


def pair_check(factual: tuple[bool, bool], counterfactual: tuple[bool, bool]) -> PairCheck:
    def hidden(holds: bool) -> HiddenRegion:
        return HiddenRegion(0.5, (0.6,) * RANDOM_REGIONS, margin=1.0 if holds else 0.0, error=0.5)

    return PairCheck(
        *(PictureCheck(hidden(one), hidden(other)) for one, other in zip(factual, counterfactual, strict=True))
    )


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
    assert pair_check(factual, counterfactual).support is support


def test_the_verdict_of_both_ways_of_hiding() -> None:
    yes, no = (True, True), (False, False)
    good, part, bad = pair_check(yes, yes), pair_check(yes, no), pair_check(no, no)
    for one, other, support in (
        (good, good, Support.faithful),
        (good, part, Support.weak),
        (good, bad, Support.weak),
        (part, bad, Support.weak),
        (bad, bad, Support.not_supported),
    ):
        assert Verification(0.7, 0.5, {"blurred": one, "filled": other}).support is support
