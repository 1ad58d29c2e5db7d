"""PNG files of drawings: what another decoder reads is what was drawn."""

import io
import os

import numpy as np
import pytest
from PIL import Image

from retrieval.rendering.png import encode_png


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (301, 2), (224, 149), (640, 481)])
@pytest.mark.parametrize("cores", [1, 3, 64])
def test_pillow_reads_the_same_pixels(size: tuple[int, int], cores: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: cores)
    noise = np.random.default_rng(1).integers(0, 256, (size[1], size[0], 3), np.uint8)
    image = Image.fromarray(noise)
    with Image.open(io.BytesIO(encode_png(image))) as read:
        assert (read.format, read.mode, read.size) == ("PNG", "RGB", size)
        np.testing.assert_array_equal(np.asarray(read), noise)


def test_a_drawing_is_no_larger_than_by_pillow() -> None:
    image = Image.linear_gradient("L").resize((640, 480)).convert("RGB")
    by_pillow = io.BytesIO()
    image.save(by_pillow, "PNG", compress_level=1)
    assert len(encode_png(image)) < 1.2 * len(by_pillow.getvalue())
