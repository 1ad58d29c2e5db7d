"""The worst mistakes of a model, explained and ready to show."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from retrieval.common.errors import PictureError
from retrieval.common.text import safe_name
from retrieval.datasets.class_folders import Sample
from retrieval.evaluation.verdicts import Mistake
from retrieval.explain.explanation import verdict_of
from retrieval.explain.pair_explainer import PairExplainer
from retrieval.model.encoder import Encoder
from retrieval.model.preprocessing import Pixels
from retrieval.rendering.overlay import try_display
from retrieval.rendering.presentation import HitView, ResultView, share_scale


@dataclass(frozen=True)
class MistakeView:
    """A pair with a wrong verdict: the first picture as the query, the second as its only hit; labels safe to show."""

    view: ResultView
    labels: tuple[str, str]

    @property
    def hit(self) -> HitView:
        """The second picture, with the similarity and the verdict."""
        return self.view.hits[0]


def explain_mistakes(encoder: Encoder, samples: Sequence[Sample], mistakes: Sequence[Mistake]) -> list[MistakeView]:
    """Explain mistakes, given by rows of the samples. All heatmaps share one scale.

    If a picture can no longer be read, the hit's note says so.
    """
    views = [
        _mistake_view(encoder, samples[each.first], samples[each.second], each.distance, rank)
        for rank, each in enumerate(mistakes, 1)
    ]
    return [
        MistakeView(view, (safe_name(samples[each.first].label), safe_name(samples[each.second].label)))
        for view, each in zip(share_scale(views), mistakes, strict=True)
    ]


def _mistake_view(encoder: Encoder, first: Sample, second: Sample, distance: float, rank: int) -> ResultView:
    explanation, note = None, None
    pixels: list[Pixels] = []
    for sample, picture in zip((first, second), encoder.decode_all([first.path, second.path]), strict=True):
        if isinstance(picture, PictureError):
            note = note or safe_name(f"cannot be explained: {sample.path.name} {picture.reason}")
        else:
            pixels.append(picture)
    if note is None:
        explainer = PairExplainer(encoder, encoder.bundle.head)
        (explanation,) = explainer.explain_query(pixels[0], pixels[1:], np.array([distance]))
    hit = HitView(
        rank=rank,
        name=safe_name(second.path.name),
        folder=safe_name(second.path.parent),
        label=safe_name(second.label),
        similarity=1 - distance,
        verdict=verdict_of(distance),
        picture=try_display(second.path),
        explanation=explanation,
        note=note,
    )
    scale = max(explanation.query.magnitude, explanation.hit.magnitude) if explanation else 0.0
    return ResultView(safe_name(first.path.name), try_display(first.path), (hit,), scale)
