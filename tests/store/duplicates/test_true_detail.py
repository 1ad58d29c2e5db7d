"""Of copies, the one that shows more is told, however many pixels each has."""

import io
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image, ImageOps

from retrieval.store.duplicates.alignment import agreements, make_thumbnail
from retrieval.store.duplicates.true_detail import has_more_detail
from tests.support.documents import form
from tests.support.photographs import cropped, halved

Change = Callable[[Image.Image], Image.Image]


def sharp(seed: int) -> Image.Image:
    """Return a picture with details down to its pixels, as the spectrum of photographs has them."""
    waves = np.fft.rfft2(np.random.default_rng(seed).normal(size=(3, 300, 400)))
    distance = np.hypot(np.fft.fftfreq(300)[:, None], np.fft.rfftfreq(400)) + 1 / 400
    values = np.fft.irfft2(waves / distance**1.1, s=(300, 400))
    values = 128 + 45 * (values - values.mean()) / values.std()
    return Image.fromarray(np.clip(values, 0, 255).astype(np.uint8).transpose(1, 2, 0))


def saved(image: Image.Image, quality: int) -> Image.Image:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return Image.open(buffer).convert("RGB")


def blown_up(image: Image.Image, times: float) -> Image.Image:
    return image.resize((round(image.width * times), round(image.height * times)), Image.Resampling.BICUBIC)


def more(a: Image.Image, b: Image.Image) -> bool | None:
    _, (fit,) = agreements(make_thumbnail(a)[None], make_thumbnail(b)[None])
    return has_more_detail(a.convert("L"), b.convert("L"), fit)


POORER: dict[str, Change] = {
    "half": halved,
    "two thirds": lambda image: saved(blown_up(image, 2 / 3), 90),
    "blown up": lambda image: blown_up(image, 2),
    "blown up and saved": lambda image: saved(blown_up(image, 1.5), 95),
    "half, blown up to more": lambda image: saved(blown_up(halved(image), 3), 95),
    "poor": lambda image: saved(image, 40),
    "poor, then saved well": lambda image: saved(saved(image, 30), 100),
    "faded": lambda image: saved(image.point(lambda value: round(0.7 * value + 40)), 90),
    "cropped": lambda image: cropped(image, 0.05, 0.05, 0.05, 0.05),
    "with bars, poor": lambda image: ImageOps.expand(saved(image, 50), (0, 20)),
}


@pytest.mark.parametrize("kind", POORER)
def test_the_original_shows_more(kind: str) -> None:
    for seed in range(2):
        image = sharp(seed)
        assert more(image, POORER[kind](image)) is True
        assert more(POORER[kind](image), image) is False


@pytest.mark.parametrize("kind", ["half", "blown up", "half, blown up to more"])
def test_the_original_of_a_document_shows_more(kind: str) -> None:
    assert more(form(1), POORER[kind](form(1))) is True


def test_few_good_pixels_show_more_than_many_poor_ones() -> None:
    image = sharp(5)
    assert more(saved(image, 3), halved(image)) is False


def test_equal_pictures_show_the_same() -> None:
    assert more(sharp(7), sharp(7)) is None
