"""Views of a query and its hits: display pictures, safe names, and heatmaps on the query's scale."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

from PIL import Image

from retrieval.common.errors import PictureError
from retrieval.common.settings import CONFIDENCE
from retrieval.common.text import percent, safe_name
from retrieval.explain.explanation import Explanation, Heatmaps, Verdict
from retrieval.explain.hit import Hit
from retrieval.explain.illustrated import HeatmapKind
from retrieval.model.preprocessing import Source
from retrieval.rendering.correspondence_regions import draw_matches
from retrieval.rendering.overlay import display_picture, overlay

HEATMAP_KINDS: tuple[HeatmapKind, HeatmapKind] = ("factual", "counterfactual")
IDENTICAL = "identical: nothing to explain"
ALMOST_NONE = "almost no evidence: all of it would move the similarity by less than half a percentage point"
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
    index_rank: int | None = None
    note: str | None = None


@dataclass(frozen=True)
class ResultView:
    """A query with its hits, in display pictures. `scale` is the largest magnitude of all its heatmaps.

    `doubt` is a sentence if no hit is confidently similar, else None.
    """

    name: str
    picture: Image.Image | None
    hits: tuple[HitView, ...]
    scale: float
    doubt: str | None = None


@dataclass(frozen=True)
class PairFiles:
    """The overlays of a pair, (factual, counterfactual) for each picture; None if there was nothing to draw.

    `matches` is the picture of correspondences, if these were computed.
    """

    query: tuple[Path, Path] | None
    hit: tuple[Path, Path] | None
    matches: Path | None = None

    @property
    def paths(self) -> list[Path]:
        """All files."""
        return [*(self.query or ()), *(self.hit or ()), *([self.matches] if self.matches else ())]


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


def build_result_view(query: Source, name: str, hits: Sequence[Hit], confidence: float = CONFIDENCE) -> ResultView:
    """Read the display pictures of a query and its hits. Hits that cannot be read have a note.

    `doubt` is set if no hit has a similarity of at least `confidence` (0 to 1).
    """
    with ThreadPoolExecutor(2) as threads:
        pictures = list(threads.map(_read_display, [query, *(hit.path for hit in hits)]))
    views = tuple(_hit_view(hit, *read) for hit, read in zip(hits, pictures[1:], strict=True))
    doubt = low_confidence_note([hit.similarity for hit in hits], confidence)
    return ResultView(
        safe_name(name), pictures[0][0], views, largest_magnitude([hit.explanation for hit in hits]), doubt
    )


def build_pair_view(a: Source, a_name: str, b: Source, b_name: str, explanation: Explanation) -> ResultView:
    """Build the view of two pictures without an index: `b` as the only hit of `a`."""
    (first, _), (second, note) = _read_display(a), _read_display(b)
    hit = HitView(1, safe_name(b_name), explanation.similarity, explanation.verdict, second, explanation, note=note)
    return ResultView(safe_name(a_name), first, (hit,), largest_magnitude([explanation]))


def share_scale(results: Sequence[ResultView]) -> list[ResultView]:
    """Put the heatmaps of all results on the largest of their scales, so that their strengths can be compared."""
    scale = max((view.scale for view in results), default=0.0)
    return [replace(view, scale=scale) for view in results]


def side_views(view: ResultView, hit: HitView, titles: tuple[str, str] = ("query", "hit")) -> Sides:
    """Return the query and one of its hits as sheets, pages and files show them."""
    why = hit.explanation

    def side(title: str, name: str, picture: Image.Image | None, heatmaps: Heatmaps | None) -> SideView:
        strength = heatmaps.magnitude / view.scale if heatmaps and view.scale > 0 else 0.0
        placeholder = hit.note or "no explanation"
        if why and heatmaps and (why.identical or why.is_nearly_empty(heatmaps)):
            heatmaps, placeholder = None, IDENTICAL if why.identical else ALMOST_NONE
        return SideView(title, name, picture, heatmaps, strength, hit.verdict, placeholder)

    return (
        side(titles[0], view.name, view.picture, why.query if why else None),
        side(titles[1], hit.name, hit.picture, why.hit if why else None),
    )


def heatmap_shape(results: Sequence[ResultView]) -> tuple[int, ...] | None:
    """Return the (rows, columns) of the first heatmap, or None if there is none."""
    explanations = (hit.explanation for view in results for hit in view.hits)
    return next((explanation.query.factual.shape for explanation in explanations if explanation), None)


def draw_pair_matches(view: ResultView, hit: HitView) -> tuple[Image.Image, Image.Image] | None:
    """Draw the correspondences on the query and a hit; None if they were not computed, or nothing corresponds."""
    found = hit.explanation.correspondence if hit.explanation else None
    if found is None or not found.matches or view.picture is None or hit.picture is None:
        return None
    return draw_matches(view.picture, found, second=False), draw_matches(hit.picture, found, second=True)


def low_confidence_note(similarities: Sequence[float], confidence: float) -> str | None:
    """Return the sentence that no hit is as similar as `confidence`; None if one is, or if there are no hits."""
    best = max(similarities, default=confidence)
    if best >= confidence:
        return None
    return (
        f"Nothing in this gallery is confidently similar: the best hit has {percent(best)}, less than the"
        f" {percent(confidence)} wanted."
    )


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
        index_rank=hit.index_rank,
        picture=picture,
        explanation=hit.explanation,
        note=safe_name(reason) if reason else None,
    )


def largest_magnitude(explanations: Sequence[Explanation | None]) -> float:
    """Return the scale of all these heatmaps."""
    return max((max(each.query.magnitude, each.hit.magnitude) for each in explanations if each), default=0.0)
