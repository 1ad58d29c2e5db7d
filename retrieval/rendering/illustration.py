"""Results with their pictures: drawn over them, saved, and shown in a notebook."""

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Self

from PIL import Image

from retrieval.common.output_names import CONTACT_SHEET, GRADCAM_PART
from retrieval.explain.confidence import judge_hits
from retrieval.explain.explanation import Explanation
from retrieval.explain.hit import Hit
from retrieval.explain.illustrated import HeatmapKind, Side
from retrieval.model.preprocessing import Source
from retrieval.rendering.html import render
from retrieval.rendering.output_files import write_hit, write_overlays
from retrieval.rendering.overlay import display_picture, overlay
from retrieval.rendering.presentation import ResultView, build_pair_view, build_result_view, magnitude_scales


class HitList(list[Hit]):
    """The hits of a query, best first: a list that a notebook shows with pictures, and that `save` writes.

    `pool` is the number of candidates that were rescored, `seconds` has the time of each stage.
    """

    def __init__(self, source: Source, hits: Iterable[Hit], pool: int, seconds: dict[str, float]) -> None:
        hits = list(hits)
        self.pool = pool
        self.seconds = seconds
        self._view = partial(build_result_view, source, _name_of(source), hits)
        scales = magnitude_scales([hit.explanation for hit in hits])
        super().__init__(_illustrate_hit(source, hit, scales) for hit in hits)

    @property
    def doubt(self) -> str | None:
        """A sentence if nothing in the gallery looks like the query."""
        return judge_hits(self).doubt

    def save(self, folder: str | os.PathLike[str]) -> list[Path]:
        """Write the contact sheet and the overlays of all hits, as `retrieve query --out` does; return their files.

        Overlays of an earlier query in that folder are deleted. Raises RetrievalError.
        """
        folder = Path(folder)
        written = write_overlays(self._view(), folder)
        return [folder / CONTACT_SHEET, *(path for files in written.values() for path in files.paths)]

    def _repr_html_(self) -> str:
        return _notebook_html(self._view())


@dataclass(frozen=True)
class _PairIllustrator:
    """Draws one pair. Its pictures are read again for each drawing: nobody can say how long a result is kept.

    The scales are those of the heatmaps and of Grad-CAM's beside them.
    """

    sources: tuple[Source, Source]
    explanation: Explanation | None
    scales: tuple[float, float]
    build_view: Callable[[Explanation | None], ResultView]
    method_part: str = ""

    @property
    def by_gradcam(self) -> Self:
        """What draws Grad-CAM's heatmaps of the pair."""
        beside = self.explanation and self.explanation.gradcam
        return replace(self, explanation=beside, scales=(self.scales[1], 0.0), method_part=GRADCAM_PART)

    def overlay(self, side: Side, kind: HeatmapKind) -> Image.Image:
        if self.explanation is None:
            raise ValueError("there are no heatmaps: the hit was not explained")
        heatmaps, source = (
            (self.explanation.query, self.sources[0]) if side == "query" else (self.explanation.hit, self.sources[1])
        )
        strength = heatmaps.magnitude / self.scales[0] if self.scales[0] else 0.0
        return overlay(display_picture(source), getattr(heatmaps, kind), kind, strength)

    def save(self, folder: Path) -> list[Path]:
        view = self._view()
        return write_hit(view, view.hits[0], folder, method_part=self.method_part).paths

    def html(self) -> str:
        return _notebook_html(self._view())

    def _view(self) -> ResultView:
        scale, gradcam_scale = self.scales
        return replace(self.build_view(self.explanation), scale=scale, gradcam_scale=gradcam_scale, doubt=None)


def illustrate_pair(a: Source, b: Source, explanation: Explanation) -> Explanation:
    """Return the explanation of two pictures as one that draws, saves and shows itself."""
    build_view = partial(_view_pair, a, b)
    illustrator = _PairIllustrator((a, b), explanation, magnitude_scales([explanation]), build_view)
    return _illustrated(explanation, illustrator)


def _illustrate_hit(source: Source, hit: Hit, scales: tuple[float, float]) -> Hit:
    illustrator = _PairIllustrator((source, hit.path), hit.explanation, scales, partial(_view_hit, source, hit))
    explanation = hit.explanation and _illustrated(hit.explanation, illustrator)
    return replace(hit, explanation=explanation, illustrator=illustrator)


def _illustrated(explanation: Explanation, illustrator: _PairIllustrator) -> Explanation:
    gradcam = explanation.gradcam and replace(explanation.gradcam, illustrator=illustrator.by_gradcam)
    return replace(explanation, illustrator=illustrator, gradcam=gradcam)


def _view_pair(a: Source, b: Source, explanation: Explanation | None) -> ResultView:
    assert explanation is not None
    return build_pair_view(a, _name_of(a), b, _name_of(b, "hit"), explanation)


def _view_hit(source: Source, hit: Hit, explanation: Explanation | None) -> ResultView:
    return build_result_view(source, _name_of(source), [replace(hit, explanation=explanation)])


def _name_of(source: Source, otherwise: str = "query") -> str:
    return os.path.basename(os.fspath(source)) if isinstance(source, str | os.PathLike) else otherwise


def _notebook_html(view: ResultView) -> str:
    return render("notebook.html", view=view)
