"""A close look tells documents of one layout apart, and knows copies of them and of photographs."""

import io
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from retrieval.store.duplicates.alignment import agreements, make_thumbnail
from retrieval.store.duplicates.close_look import Closeup, shows_the_same
from tests.support.documents import DOCUMENTS, form
from tests.support.photographs import cropped, halved, photograph


def same(a: Image.Image, b: Image.Image) -> bool:
    """Return whether two pictures agree in small, and closely."""
    (value,), (fit,) = agreements(make_thumbnail(a)[None], make_thumbnail(b)[None])
    return value >= 0.9 and shows_the_same(Closeup(a.convert("L")), Closeup(b.convert("L")), fit)


def saved(image: Image.Image, quality: int) -> Image.Image:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return Image.open(buffer).convert("RGB")


@pytest.mark.parametrize("kind", DOCUMENTS)
def test_no_two_of_a_hundred_documents_are_the_same(kind: str) -> None:
    pages = [DOCUMENTS[kind](seed) for seed in range(25)]
    assert not any(same(page, pages[seed - 1]) for seed, page in enumerate(pages))
    assert not any(same(halved(page), saved(pages[seed + 5], 60)) for seed, page in enumerate(pages[:2]))


@pytest.mark.parametrize("kind", DOCUMENTS)
@pytest.mark.parametrize(
    "change",
    [
        halved,
        lambda page: saved(page, 40),
        lambda page: page.point(lambda value: round(0.8 * value + 30)),
        lambda page: page.resize((page.width * 3 // 2, page.height * 3 // 2), Image.Resampling.BICUBIC),
        lambda page: cropped(page, 0.004, 0, 0.002, 0.005),
    ],
    ids=["half", "poor", "faded", "enlarged", "cut"],
)
def test_a_copy_of_a_document_is_the_same(kind: str, change: Callable[[Image.Image], Image.Image]) -> None:
    assert all(same(page, change(page)) for page in map(DOCUMENTS[kind], range(2)))


def test_one_other_number_is_seen() -> None:
    assert same(form(0, "4711828"), form(0, "4711828"))
    assert not same(form(0, "4711828"), form(0, "4711375"))


@settings(max_examples=12, deadline=None)
@given(
    seed=st.integers(0, 100),
    sides=st.tuples(*[st.floats(0, 0.07)] * 4),
    scale=st.floats(0.4, 1.8),
    quality=st.integers(40, 100),
)
def test_any_copy_of_a_photograph_is_the_same(
    seed: int, sides: tuple[float, float, float, float], scale: float, quality: int
) -> None:
    image = photograph(seed, 400, 300)
    part = cropped(image, *sides)
    copy = saved(part.resize((round(part.width * scale), round(part.height * scale))), quality)
    assert same(image, copy)
    assert same(copy, image)


def test_neither_transparency_nor_later_frames_hide_a_difference() -> None:
    _, (fit,) = agreements(*[make_thumbnail(photograph(0))[None]] * 2)
    picture, others = photograph(0).convert("L"), [photograph(seed).convert("L") for seed in (1, 2)]
    seen = [Closeup(picture, on_black=other) for other in others]
    moving = [Closeup(picture, frames=3, later=(picture, other)) for other in others]
    for one, other in (seen, moving):
        assert shows_the_same(one, one, fit)
        assert not shows_the_same(one, other, fit)
        assert shows_the_same(one, Closeup(picture), fit), "flattened, or a still"
    assert not shows_the_same(moving[0], Closeup(picture, frames=4, later=moving[0].later), fit)
    assert np.isfinite(fit).all()
