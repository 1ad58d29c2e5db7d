"""The worst mistakes of a model, explained and ready to be shown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image

from retrieval.common.errors import PictureError
from retrieval.common.text import safe_name
from retrieval.datasets.class_folders import Sample
from retrieval.evaluation.verdicts import Mistake
from retrieval.explain.explanation import Explanation, verdict_of
from retrieval.explain.pair_explainer import PairExplainer
from retrieval.model.encoder import Comparer
from retrieval.rendering.overlay import display_picture
from retrieval.rendering.presentation import Shown, ShownHit, on_one_scale


@dataclass(frozen=True)
class ShownMistake:
    """A pair with a wrong verdict: the first picture as the query, the second as its only hit; labels safe to show."""

    shown: Shown
    labels: tuple[str, str]

    @property
    def hit(self) -> ShownHit:
        """The second picture, with the similarity and the verdict."""
        return self.shown.hits[0]


def show_mistakes(comparer: Comparer, samples: Sequence[Sample], mistakes: Sequence[Mistake]) -> list[ShownMistake]:
    """Explain mistakes, whose places are among the samples. All heatmaps share one scale.

    A picture that cannot be read any more is told in the hit's note.
    """
    pairs = [
        _shown(comparer, samples[each.first], samples[each.second], each.distance, rank)
        for rank, each in enumerate(mistakes, 1)
    ]
    shown = on_one_scale([pair.shown for pair in pairs])
    return [replace(pair, shown=each) for pair, each in zip(pairs, shown, strict=True)]


def _shown(comparer: Comparer, first: Sample, second: Sample, distance: float, rank: int) -> ShownMistake:
    explanation = _explained(comparer, first, second, distance)
    why = None if isinstance(explanation, str) else explanation
    hit = ShownHit(
        rank=rank,
        name=safe_name(second.path.name),
        folder=safe_name(second.path.parent),
        label=safe_name(second.label),
        similarity=1 - distance,
        verdict=verdict_of(distance),
        index_rank=None,
        picture=_picture(second),
        explanation=why,
        note=safe_name(explanation) if isinstance(explanation, str) else None,
    )
    scale = max(why.query.magnitude, why.hit.magnitude) if why else 0.0
    shown = Shown(safe_name(first.path.name), _picture(first), (hit,), scale)
    return ShownMistake(shown, (safe_name(first.label), safe_name(second.label)))


def _explained(comparer: Comparer, first: Sample, second: Sample, distance: float) -> Explanation | str:
    """The explanation, or why there is none."""
    pixels = []
    for sample in (first, second):
        try:
            pixels.append(comparer.pixels(sample.path))
        except PictureError as error:
            return f"cannot be explained: {sample.path.name} {error.reason}"
    return PairExplainer(comparer, comparer.bundle.head).explain_known(pixels, np.array([distance]))[0]


def _picture(sample: Sample) -> Image.Image | None:
    try:
        return display_picture(sample.path)
    except PictureError:
        return None
