"""Copies of a picture agree with it once aligned, and nothing else does."""

import io
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image, ImageOps

from retrieval.store.duplicates.alignment import THUMBNAIL_SIZE, agreements, make_thumbnail
from tests.support.photographs import cropped, halved, photograph


def agreement(a: Image.Image, b: Image.Image) -> float:
    return float(agreements(make_thumbnail(a)[None], make_thumbnail(b)[None])[0][0])


def recompressed(image: Image.Image) -> Image.Image:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=40)
    return Image.open(buffer)


COPIES: dict[str, Callable[[Image.Image], Image.Image]] = {
    "itself": lambda image: image,
    "resized": halved,
    "squashed": lambda image: image.resize((200, 200)),
    "recompressed": lambda image: recompressed(image).convert("RGB"),
    "cropped": lambda image: cropped(image, 0.05, 0.05, 0.05, 0.05),
    "cropped unevenly": lambda image: cropped(image, 0.1, 0, 0, 0.06),
    "a little brighter": lambda image: image.point(lambda value: round(0.9 * value + 20)),
}


@pytest.mark.parametrize("kind", COPIES)
def test_a_copy_agrees_in_either_order(kind: str) -> None:
    for seed in range(3):
        image = photograph(seed)
        copy = COPIES[kind](image)
        assert agreement(image, copy) > 0.9
        assert agreement(copy, image) > 0.9


@pytest.mark.parametrize(
    "other",
    [
        lambda image: photograph(99),
        ImageOps.mirror,
        ImageOps.flip,
        lambda image: cropped(image, 0.3, 0.3, 0, 0),
        lambda image: Image.merge("RGB", image.split()[::-1]),
        lambda image: image.convert("L").convert("RGB"),
        ImageOps.invert,
    ],
    ids=["another", "mirrored", "flipped", "a part", "red for blue", "without colour", "inverted"],
)
def test_another_picture_does_not_agree(other: object) -> None:
    for seed in range(3):
        image = photograph(seed)
        assert callable(other)
        assert agreement(image, other(image)) < 0.9


def test_pictures_without_details_agree_with_nothing() -> None:
    plain = Image.new("RGB", (90, 60), (200, 30, 30))
    assert agreement(plain, plain) == 0
    assert agreement(plain, photograph(0)) == 0


def test_pairs_do_not_depend_on_their_batch() -> None:
    images = [photograph(seed) for seed in range(4)]
    firsts = np.stack([make_thumbnail(image) for image in images])
    seconds = np.stack(
        [
            make_thumbnail(halved(images[0])),
            make_thumbnail(images[2]),
            make_thumbnail(cropped(images[2], 0.04, 0, 0, 0)),
            firsts[3],
        ]
    )
    together, _ = agreements(firsts, seconds)
    alone = [float(agreements(firsts[place : place + 1], seconds[place : place + 1])[0][0]) for place in range(4)]
    assert together == pytest.approx(alone, abs=1e-3)
    assert (together > 0.9).tolist() == [True, False, True, True]


def test_no_pairs_give_no_agreements() -> None:
    none = np.empty((0, THUMBNAIL_SIZE), np.uint8)
    assert [each.shape for each in agreements(none, none)] == [(0,), (0, 4)]
