"""Views of a query and its hits: display pictures, safe names, and heatmaps on the query's scale."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Self

from PIL import Image

from retrieval.common.errors import PictureError
from retrieval.common.text import safe_name
from retrieval.explain.confidence import judge_hits
from retrieval.explain.explanation import Explanation, Heatmaps, Verdict
from retrieval.explain.hit import Hit
from retrieval.explain.illustrated import HeatmapKind
from retrieval.model.preprocessing import Source
from retrieval.rendering.correspondence_regions import draw_matches
from retrieval.rendering.overlay import display_picture, overlay

IDENTICAL = "identical: nothing to explain"
UNSEEN = "the files differ, but the model sees the same in both: look at what is transparent, and at later frames"
AS_WHOLES: dict[Verdict, str] = {"similar": "match as wholes", "different": "differ as wholes"}
NO_REGION = "no region of this picture matters by itself"
NO_HITS = "No hits: nothing in the index answers this query."
KIND_MEANINGS: dict[HeatmapKind, str] = {
    "factual": "speaks for the verdict",
    "counterfactual": "speaks against the verdict",
}
_STRENGTHS = ((0.02, "none"), (0.25, "faint"), (0.6, "moderate"))  # upper bounds; above them "strong"


@dataclass(frozen=True)
class HitView:
    """A hit with everything that is shown of it; names are safe to show. `picture` is None if it cannot be read."""

    rank: int
    name: str
    similarity: float
    verdict: Verdict
    picture: Image.Image | None
    explanation: Explanation | None
    folder: str = ""
    label: str | None = None
    probability: float | None = None
    plain_similarity: float | None = None
    index_rank: int | None = None
    note: str | None = None


@dataclass(frozen=True)
class ResultView:
    """A query with its hits, in display pictures. `scale` is the largest magnitude of all its heatmaps.

    `doubt` is a sentence if the hits do not answer the query, else None. `gradcam_scale` is the scale of
    Grad-CAM's heatmaps beside those of another method.
    """

    name: str
    picture: Image.Image | None
    hits: tuple[HitView, ...]
    scale: float
    doubt: str | None = None
    gradcam_scale: float = 0.0

    @property
    def is_by_gallery(self) -> bool:
        """Whether the gallery's statistics judge, not the model alone."""
        return any(hit.plain_similarity is not None for hit in self.hits)


@dataclass(frozen=True)
class PairFiles:
    """The overlays of a pair, (factual, counterfactual) for each picture; None if there was nothing to draw.

    `matches` is the picture of correspondences, if these were computed; `gradcam` has Grad-CAM's overlays, if another
    method is shown.
    """

    query: tuple[Path, Path] | None
    hit: tuple[Path, Path] | None
    matches: Path | None = None
    gradcam: Self | None = None

    @property
    def paths(self) -> list[Path]:
        """All files."""
        beside = self.gradcam.paths if self.gradcam else []
        return [*(self.query or ()), *(self.hit or ()), *beside, *([self.matches] if self.matches else ())]


Sides = tuple["SideView", "SideView"]
"""The query and one of its hits."""


@dataclass(frozen=True)
class SideView:
    """One picture of a pair; `strength`, 0 to 1, is its heatmaps' magnitude as a share of the query's scale."""

    title: str
    name: str
    picture: Image.Image | None
    heatmaps: Heatmaps | None
    strength: float
    verdict: Verdict
    placeholder: str  # the text shown in place of missing heatmaps
    _overlays: dict[HeatmapKind, Image.Image] = field(default_factory=dict, init=False, repr=False, compare=False)

    def draw_overlay(self, kind: HeatmapKind) -> Image.Image | None:
        """Return the picture with a heatmap drawn over it, drawn once; None if either is missing."""
        if self.picture is None or self.heatmaps is None:
            return None
        if kind not in self._overlays:
            self._overlays[kind] = overlay(self.picture, getattr(self.heatmaps, kind), kind, self.strength)
        return self._overlays[kind]

    def caption(self, kind: HeatmapKind) -> str:
        """Return what the heatmap speaks for or against, such as `for “similar”`."""
        return f"{'for' if kind == 'factual' else 'against'} “{self.verdict}”"

    def strength_word(self, kind: HeatmapKind) -> str:
        """Return the strength of the strongest cell as a word."""
        peak = self.strength * float(getattr(self.heatmaps, kind).max()) if self.heatmaps else 0.0
        return next((word for limit, word in _STRENGTHS if peak < limit), "strong")


def build_result_view(query: Source, name: str, hits: Sequence[Hit], confidence: float | None = None) -> ResultView:
    """Read the display pictures of a query and its hits. Hits that cannot be read have a note.

    `doubt` is set if the query is foreign to the gallery, or no hit reaches `confidence` (0 to 1).
    """
    with ThreadPoolExecutor(2) as threads:
        pictures = list(threads.map(_read_display, [query, *(hit.path for hit in hits)]))
    views = tuple(_hit_view(hit, *read) for hit, read in zip(hits, pictures[1:], strict=True))
    doubt = judge_hits(hits, confidence).doubt
    scales = magnitude_scales([hit.explanation for hit in hits])
    return ResultView(safe_name(name), pictures[0][0], views, scales[0], doubt, scales[1])


def build_pair_view(a: Source, a_name: str, b: Source, b_name: str, explanation: Explanation) -> ResultView:
    """Build the view of two pictures without an index: `b` as the only hit of `a`."""
    (first, _), (second, note) = _read_display(a), _read_display(b)
    hit = HitView(1, safe_name(b_name), explanation.similarity, explanation.verdict, second, explanation, note=note)
    scale, gradcam_scale = magnitude_scales([explanation])
    return ResultView(safe_name(a_name), first, (hit,), scale, gradcam_scale=gradcam_scale)


def share_scale(results: Sequence[ResultView]) -> list[ResultView]:
    """Put the heatmaps of all results on the largest of their scales, so that their strengths can be compared."""
    scale = max((view.scale for view in results), default=0.0)
    return [replace(view, scale=scale) for view in results]


def side_views(view: ResultView, hit: HitView, titles: tuple[str, str] = ("query", "hit")) -> Sides:
    """Return the query and one of its hits as sheets, pages and files show them."""
    why = hit.explanation

    def side(title: str, name: str, picture: Image.Image | None, heatmaps: Heatmaps | None) -> SideView:
        strength = heatmaps.magnitude / view.scale if heatmaps and view.scale > 0 else 0.0
        missing = missing_evidence(why, heatmaps) if why and heatmaps else None
        placeholder = missing or hit.note or "no explanation"
        return SideView(title, name, picture, None if missing else heatmaps, strength, hit.verdict, placeholder)

    return (
        side(titles[0], view.name, view.picture, why.query if why else None),
        side(titles[1], hit.name, hit.picture, why.hit if why else None),
    )


def gradcam_views(view: ResultView, hit: HitView) -> Sides | None:
    """Return the query and a hit with Grad-CAM's heatmaps; None unless there are some beside another method's."""
    beside = hit.explanation and hit.explanation.gradcam
    if beside is None:
        return None
    return side_views(replace(view, scale=view.gradcam_scale), replace(hit, explanation=beside))


def missing_evidence(why: Explanation, heatmaps: Heatmaps) -> str | None:
    """Return why one picture's heatmaps are not drawn: nothing in it matters by itself. None if they are drawn."""
    if why.identical:
        return UNSEEN if why.unseen else IDENTICAL
    if why.as_wholes:
        return f"the pictures {AS_WHOLES[why.verdict]}: no region matters by itself"
    return NO_REGION if why.is_nearly_empty(heatmaps) else None


def heatmap_shape(results: Sequence[ResultView]) -> tuple[int, ...] | None:
    """Return the (rows, columns) of the first heatmap, or None if there is none."""
    explanations = (hit.explanation for view in results for hit in view.hits)
    return next((explanation.query.factual.shape for explanation in explanations if explanation), None)


def draw_pair_matches(view: ResultView, hit: HitView) -> tuple[Image.Image, Image.Image] | None:
    """Draw the correspondences on the query and a hit; None if they were not computed, or none holds."""
    found = hit.explanation.correspondence if hit.explanation else None
    if found is None or not found.held or view.picture is None or hit.picture is None:
        return None
    return draw_matches(view.picture, found, second=False), draw_matches(hit.picture, found, second=True)


def _read_display(source: Source) -> tuple[Image.Image | None, str | None]:
    """Return the display picture, or None and the reason."""
    try:
        return display_picture(source), None
    except PictureError as error:
        return None, f"cannot be shown: it {error.reason}"


def _hit_view(hit: Hit, picture: Image.Image | None, note: str | None) -> HitView:
    reason = hit.note or note
    return HitView(
        rank=hit.rank,
        name=safe_name(hit.path.name),
        folder=safe_name(hit.path.parent),
        label=safe_name(hit.label) if hit.label else None,
        similarity=hit.similarity,
        verdict=hit.verdict,
        probability=hit.probability,
        plain_similarity=None if hit.familiarity is None else hit.plain_similarity,
        index_rank=hit.index_rank,
        picture=picture,
        explanation=hit.explanation,
        note=safe_name(reason) if reason else None,
    )


def magnitude_scales(explanations: Sequence[Explanation | None]) -> tuple[float, float]:
    """Return the scale of all these heatmaps, their largest magnitude, and that of Grad-CAM's beside them."""
    shown = [each for each in explanations if each]
    beside = [each.gradcam for each in shown if each.gradcam]
    scale, gradcam_scale = (
        max((max(each.query.magnitude, each.hit.magnitude) for each in group), default=0.0) for group in (shown, beside)
    )
    return scale, gradcam_scale
