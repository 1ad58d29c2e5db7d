"""JPEGs that are cut, that lack their end marker, or that have something behind them."""

import io
from functools import cache
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from retrieval.common.errors import PictureError
from retrieval.model.preprocessing import read_image
from tests.support.photographs import photograph

END = b"\xff\xd9"
KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "plain": ("RGB", {}),
    "no subsampling": ("RGB", {"subsampling": 0}),
    "restarts": ("RGB", {"restart_marker_rows": 1}),
    "grey": ("L", {}),
    "CMYK": ("CMYK", {}),
    "progressive": ("RGB", {"progressive": True}),
}


@cache
def encoded(kind: str, seed: int = 0) -> bytes:
    mode, options = KINDS[kind]
    out = io.BytesIO()
    photograph(seed, 320, 200).convert(mode).save(out, "JPEG", **options)
    return out.getvalue()


BEHIND = {
    "nothing": b"",
    "zeros": bytes(3000),
    "a picture": encoded("plain", 9),
    "an end": END,
}


@cache
def pixels(data: bytes, min_side: int | None) -> NDArray[np.uint8]:
    return np.asarray(read_image(data, min_side)[0])


@pytest.mark.parametrize("behind", BEHIND)
@pytest.mark.parametrize("kind", KINDS)
def test_without_its_end_marker_a_picture_is_whole(kind: str, behind: str) -> None:
    data = encoded(kind)
    assert data.endswith(END)
    for cut in (1, 2):
        for min_side in (None, 50):
            actual = pixels(data[:-cut] + BEHIND[behind], min_side)
            np.testing.assert_array_equal(actual, pixels(data, min_side))


@pytest.mark.parametrize("behind", [b"\0" * 500, b"something", encoded("plain", 9), b"\xff\xd8", END])
@pytest.mark.parametrize("kind", KINDS)
def test_what_is_behind_a_picture_does_not_count(kind: str, behind: bytes) -> None:
    np.testing.assert_array_equal(pixels(encoded(kind) + behind, None), pixels(encoded(kind), None))


@settings(deadline=None, max_examples=100)
@given(st.sampled_from(sorted(KINDS)), st.sampled_from(sorted(BEHIND)), st.floats(0, 0.5), st.sampled_from([None, 50]))
def test_a_cut_picture_is_refused(kind: str, behind: str, share: float, min_side: int | None) -> None:
    data = encoded(kind)
    lost = 2 + round(share * len(data))
    cut = data[: len(data) - lost].removesuffix(b"\xff") + BEHIND[behind]
    actual = reason = None
    try:
        actual = read_image(cut, min_side)[0]
    except PictureError as error:
        reason = error.reason
    if actual is None:
        assert str(reason).startswith("is damaged or not a picture: ")
        return
    # What is read all the same lacks less than a block or, of a progressive one that was closed, the finest details.
    differences = np.abs(np.asarray(actual).astype(int) - pixels(data, min_side))
    if kind == "progressive" and behind == "an end":
        assert differences.mean() < 12
    else:
        assert lost < 60
        assert (differences.max(2) > 0).mean() < 0.02


@pytest.mark.parametrize("behind", ["nothing", "zeros", "a picture", "an end"])
@pytest.mark.parametrize("share", [0.02, 0.1, 0.3, 0.5])
def test_large_cuts_are_refused_with_the_cause(share: float, behind: str) -> None:
    data = encoded("plain")
    cut = data[: int(len(data) * (1 - share))].removesuffix(b"\xff") + BEHIND[behind]
    with pytest.raises(PictureError) as raised:
        read_image(cut, 50)
    assert raised.value.reason == "is damaged or not a picture: its end is missing"


def test_a_progressive_picture_whose_last_scans_are_missing_is_refused() -> None:
    data = encoded("progressive")
    starts = [place for place in range(len(data) - 1) if data[place : place + 2] == b"\xff\xda"]
    assert len(starts) > 5
    for start in starts[1:]:
        with pytest.raises(PictureError, match="its end is missing"):
            read_image(data[:start])


def test_a_picture_that_ends_in_grey_is_no_cut_one() -> None:
    for options in ({}, {"progressive": True}):
        out = io.BytesIO()
        image = photograph(3, 320, 200)
        image.paste((128, 128, 128), (0, 120, 320, 200))
        image.save(out, "JPEG", **options)
        assert pixels(out.getvalue(), 50).shape == (50, 80, 3)
        assert pixels(out.getvalue()[:-2], 50).shape == (50, 80, 3)
        grey = io.BytesIO()
        Image.new("L", (64, 64), 128).save(grey, "JPEG", **options)
        assert (pixels(grey.getvalue(), None) == 128).all()
