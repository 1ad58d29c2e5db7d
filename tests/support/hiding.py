"""Heatmaps by hiding fewer regions, or as many as people get."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from retrieval.explain.methods import occlusion

_FEW: dict[str, object] = {"_FIRST_REGIONS": 9, "_MAPS": (3,), "_BEST": (1, 1)}
_USUAL = {name: getattr(occlusion, name) for name in _FEW}


@contextmanager
def hide_few_regions() -> Iterator[None]:
    """Let occlusion hide about twenty regions of a picture."""
    with _patched(_FEW):
        yield


@contextmanager
def hide_usual_regions() -> Iterator[None]:
    """Let occlusion hide as many regions as outside of tests."""
    with _patched(_USUAL):
        yield


@contextmanager
def _patched(numbers: dict[str, object]) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for name, number in numbers.items():
            patch.setattr(occlusion, name, number)
        yield
