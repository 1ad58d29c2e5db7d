"""Occlusion against networks of which it is known what they look at."""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import pytest

from retrieval.explain.hiding import HIDDEN_SHARE, blur, cover_with_mean, hide, top_mask
from retrieval.explain.methods.gradcam import PairInputs, PixelAccess
from retrieval.explain.methods.occlusion import occlusion
from retrieval.model.head import Array, Head
from retrieval.model.preprocessing import Pixels
from tests.support.generated import blocks
from tests.support.hiding import hide_usual_regions

SIZE = 56
HEAD = Head(np.eye(2, dtype=np.float32), np.zeros(2, np.float32), slope=2.0, intercept=0.0, normalize=False)
PLACE = np.s_[:24, 30:54]  # at the top right, a fifth of the picture
OTHER_PLACE = np.s_[34:54, 4:24]  # at the bottom left
PICTURE = blocks(5, SIZE, SIZE, cells=14)


@pytest.fixture(scope="module", autouse=True)
def _usual_regions() -> Iterator[None]:
    with hide_usual_regions():
        yield


def intact(pixels: Pixels, place: tuple[slice, slice]) -> float:
    """Return 3 for a place that is as it was, less for one that was changed."""
    return 3 - float(np.abs(pixels[place].astype(np.float32) - PICTURE[place]).mean()) / 32


def looks_at(*places: tuple[slice, slice]) -> Callable[[Sequence[Pixels]], Array]:
    """Return a network with a channel for each place, which says how far it is as it was."""

    def describe(pictures: Sequence[Pixels]) -> Array:
        return np.array([[intact(each, place) for place in places] for each in pictures], np.float32)

    return describe


def explain(describe: Callable[[Sequence[Pixels]], Array], *others: Sequence[float]) -> Array:
    access = PixelAccess([PICTURE] * len(others), (0.0, 0.0, 0.0), describe)
    own = np.repeat(describe([PICTURE]), len(others), 0)
    activations = np.repeat(own[:, :, None, None], 7, 2).repeat(7, 3)
    return occlusion(PairInputs(HEAD, activations, own, np.array(others, np.float32), access, (0,) * len(others)))


def share_within(map_: Array, place: tuple[slice, slice]) -> float:
    cells = tuple(slice((each.start or 0) // 2, each.stop // 2) for each in place)
    return float(map_[cells].sum() / map_.sum())


def test_what_raises_the_distance_lies_where_the_network_looks() -> None:
    raises, _ = explain(looks_at(PLACE, OTHER_PLACE), (-1, 3))
    assert raises.shape == (1, 28, 28)
    assert share_within(raises[0], PLACE) > 0.6


def test_what_lowers_the_distance_lies_where_hiding_raises_it() -> None:
    raises, lowers = explain(looks_at(PLACE, OTHER_PLACE), (5, -3))
    assert share_within(raises[0], OTHER_PLACE) > 2 * share_within(raises[0], PLACE)
    assert share_within(lowers[0], PLACE) > 2 * share_within(lowers[0], OTHER_PLACE)


def test_both_rounds_hide_what_a_claim_is_about() -> None:
    seen: list[float] = []

    def describe(pictures: Sequence[Pixels]) -> Array:
        seen.extend(float((each != PICTURE).any(2).mean()) for each in pictures)
        return looks_at(PLACE, OTHER_PLACE)(pictures)

    explain(describe, (0, 0))
    assert max(seen) <= HIDDEN_SHARE + 1e-3
    assert 70 < len(seen) < 110


def test_pairs_of_one_picture_share_what_is_hidden() -> None:
    counted: list[int] = []

    def describe(pictures: Sequence[Pixels]) -> Array:
        counted.append(len(pictures))
        return looks_at(PLACE, OTHER_PLACE)(pictures)

    explain(describe, (0, 0))
    alone = sum(counted)
    counted.clear()
    explain(describe, (0, 0), (1, 3), (2, 0), (0, 2), (5, 5))
    assert sum(counted) < 2 * alone


def test_a_picture_in_which_no_region_matters_has_an_empty_map() -> None:
    def constant(pictures: Sequence[Pixels]) -> Array:
        return np.ones((len(pictures), 2), np.float32)

    assert not explain(constant, (0, 3)).any()


def test_chance_alone_seldom_draws_a_map() -> None:
    """A network whose answers do not depend on where something is hidden."""

    def arbitrary(pictures: Sequence[Pixels]) -> Array:
        return np.array([np.random.default_rng(int(each.sum())).random(2) for each in pictures], np.float32)

    drawn = [explain(arbitrary, (0, other)).any() for other in np.linspace(0, 3, 12)]
    assert np.mean(drawn) <= 0.1


def test_a_maps_most_is_in_proportion_to_what_hiding_its_region_takes() -> None:
    """In log-odds, beyond what hiding as much elsewhere takes."""
    describe = looks_at(PLACE, OTHER_PLACE)
    raises, lowers = explain(describe, (-1, 3))
    region = top_mask(raises[0], lowers[0], SIZE, HIDDEN_SHARE)
    foretold = 32 * float(raises.max())  # as if 32 places were as strong
    taken = [2 * (3 - describe([hide(PICTURE, way(PICTURE), region)])[0, 0]) for way in (blur, cover_with_mean)]
    assert 0.4 * min(taken) < foretold < max(taken)


def test_where_the_closed_form_sees_nothing_a_region_is_drawn_as_a_whole() -> None:
    for maps in explain(looks_at(PLACE, OTHER_PLACE), (-1, 3)):  # it sees the same in all places of this picture
        assert 0.1 < (maps[0] > maps.max() / 2).mean() < 0.25


def test_it_needs_pixels() -> None:
    with pytest.raises(ValueError, match="pixels"):
        occlusion(PairInputs(HEAD, np.ones((1, 2, 7, 7), np.float32), *np.ones((2, 1, 2), np.float32)))
