"""What is shown of a query and its hits: display pictures, safe names, and heatmaps on the query's scale."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from retrieval.common.errors import PictureError
from retrieval.common.settings import CONFIDENCE
from retrieval.common.text import percent, safe_name
from retrieval.explain.explanation import Explanation, Heatmaps, Verdict
from retrieval.model.preprocessing import Source
from retrieval.rendering.correspondence_regions import draw_matches
from retrieval.rendering.overlay import HeatmapKind, display_picture, overlay

if TYPE_CHECKING:  # only a type here: two pictures are explained without any store
    from retrieval.explain.hit import Hit

HEATMAP_KINDS: tuple[HeatmapKind, HeatmapKind] = ("factual", "counterfactual")
IDENTICAL = "identical: nothing to explain"
ALMOST_NONE = "almost no evidence: all of it would move the similarity by less than half a percentage point"
NO_HITS = "No hits: nothing in the index answers this query."
KIND_MEANINGS: dict[HeatmapKind, str] = {
    "factual": "speaks for the verdict",
    "counterfactual": "speaks against the verdict",
}
_STRENGTHS = ((0.02, "none"), (0.25, "faint"), (0.6, "moderate"))  # below these shares of the strongest; else strong


@dataclass(frozen=True)
class HitView:
    """A hit with all that is shown of it; names are safe to show. `picture` is None where it cannot be read."""

    rank: int
    name: str
    folder: str
    label: str | None
    similarity: float
    verdict: Verdict
    index_rank: int | None
    picture: Image.Image | None
    explanation: Explanation | None
    note: str | None


@dataclass(frozen=True)
class ResultView:
    """A query with its hits, in display pictures. `scale` is the largest magnitude of all its heatmaps.

    `doubt` says that no hit is confidently similar, where none is.
    """

    name: str
    picture: Image.Image | None
    hits: tuple[HitView, ...]
    scale: float
    doubt: str | None = None


@dataclass(frozen=True)
class PairFiles:
    """The overlays written of a pair, (factual, counterfactual) a picture; None where there are none to draw.

    `matches` is the picture of what corresponds, where that was asked for.
    """

    query: tuple[Path, Path] | None
    hit: tuple[Path, Path] | None
    matches: Path | None = None

    @property
    def paths(self) -> set[Path]:
        """Every file of the pair."""
        matches = (self.matches,) if self.matches else ()
        return {*(self.query or ()), *(self.hit or ()), *matches}


@dataclass(frozen=True)
class SideView:
    """One picture of a pair, its heatmaps on the query's scale: `strength`, 0 to 1, is of the largest magnitude."""

    title: str
    name: str
    picture: Image.Image | None
    heatmaps: Heatmaps | None
    strength: float
    verdict: Verdict
    placeholder: str  # what stands in the place of heatmaps that are None

    def draw_overlay(self, kind: HeatmapKind) -> Image.Image | None:
        """The picture with a heatmap; None where one of the two is missing."""
        if self.picture is None or self.heatmaps is None:
            return None
        return overlay(self.picture, getattr(self.heatmaps, kind), kind, self.strength)

    def caption(self, kind: HeatmapKind) -> str:
        """What the heatmap speaks for or against."""
        return f"{'for' if kind == 'factual' else 'against'} “{self.verdict}”"

    def strength_word(self, kind: HeatmapKind) -> str:
        """How strong the strongest place is, in a word."""
        peak = self.strength * float(getattr(self.heatmaps, kind).max()) if self.heatmaps else 0.0
        return next((word for limit, word in _STRENGTHS if peak < limit), "strong")


def build_result_view(query: Source, name: str, hits: Sequence[Hit], confidence: float = CONFIDENCE) -> ResultView:
    """Read the display pictures of a query and its hits. What cannot be read is listed with a note.

    Where no hit is at least as similar as `confidence` (0 to 1), that is said.
    """
    with ThreadPoolExecutor(2) as threads:
        pictures = list(threads.map(_read_display, [query, *(hit.path for hit in hits)]))
    shown = tuple(_hit_view(hit, *read) for hit, read in zip(hits, pictures[1:], strict=True))
    doubt = low_confidence_note([hit.similarity for hit in hits], confidence)
    return ResultView(safe_name(name), pictures[0][0], shown, _scale([hit.explanation for hit in hits]), doubt)


def build_pair_view(a: Source, a_name: str, b: Source, b_name: str, explanation: Explanation) -> ResultView:
    """The same of two pictures without an index: `b` as the only hit of `a`."""
    (first, _), (second, note) = _read_display(a), _read_display(b)
    hit = HitView(
        rank=1,
        name=safe_name(b_name),
        folder="",
        label=None,
        similarity=explanation.similarity,
        verdict=explanation.verdict,
        index_rank=None,
        picture=second,
        explanation=explanation,
        note=note,
    )
    return ResultView(safe_name(a_name), first, (hit,), _scale([explanation]))


def share_scale(results: Sequence[ResultView]) -> list[ResultView]:
    """The same with heatmaps on the largest of their scales, so that they can be told apart across results."""
    scale = max((shown.scale for shown in results), default=0.0)
    return [replace(shown, scale=scale) for shown in results]


def side_views(view: ResultView, hit: HitView, titles: tuple[str, str] = ("query", "hit")) -> tuple[SideView, SideView]:
    """The query and one of its hits, as sheets, pages and files show them."""
    first, second = (hit.explanation.query, hit.explanation.hit) if hit.explanation else (None, None)
    return (
        _side_view(view, hit, titles[0], view.name, view.picture, first),
        _side_view(view, hit, titles[1], hit.name, hit.picture, second),
    )


def heatmap_shape(results: Sequence[ResultView]) -> tuple[int, ...] | None:
    """Return the (rows, columns) of the first heatmap, or None if there is none."""
    explanations = (hit.explanation for view in results for hit in view.hits)
    return next((explanation.query.factual.shape for explanation in explanations if explanation), None)


def draw_pair_matches(view: ResultView, hit: HitView) -> tuple[Image.Image, Image.Image] | None:
    """The query and a hit with what corresponds in them; None where that was not asked for, or nothing does."""
    found = hit.explanation.correspondence if hit.explanation else None
    if found is None or not found.matches or view.picture is None or hit.picture is None:
        return None
    return draw_matches(view.picture, found, second=False), draw_matches(hit.picture, found, second=True)


def _read_display(source: Source) -> tuple[Image.Image | None, str | None]:
    """The display picture, or None and why."""
    try:
        return display_picture(source), None
    except PictureError as error:
        return None, f"cannot be shown: it {error.reason}"


def _hit_view(hit: Hit, picture: Image.Image | None, note: str | None) -> HitView:
    found = hit.note or note
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
        note=safe_name(found) if found else None,
    )


def _scale(explanations: Sequence[Explanation | None]) -> float:
    found = [explanation for explanation in explanations if explanation]
    return max((max(each.query.magnitude, each.hit.magnitude) for each in found), default=0.0)


def _side_view(
    view: ResultView, hit: HitView, title: str, name: str, picture: Image.Image | None, heatmaps: Heatmaps | None
) -> SideView:
    identical = hit.explanation is not None and hit.explanation.identical
    strength = heatmaps.magnitude / view.scale if heatmaps and view.scale > 0 else 0.0
    missing = IDENTICAL if identical else hit.note or "no explanation"
    if heatmaps and hit.explanation and not identical and hit.explanation.is_nearly_empty(heatmaps):
        heatmaps, missing = None, ALMOST_NONE
    return SideView(title, name, picture, None if identical else heatmaps, strength, hit.verdict, missing)


def low_confidence_note(similarities: Sequence[float], confidence: float) -> str | None:
    """Return the sentence that no hit is as similar as `confidence`; None if one is, or if there are no hits."""
    best = max(similarities, default=confidence)
    if best >= confidence:
        return None
    return (
        f"Nothing in this gallery is confidently similar: the best hit has {percent(best)}, less than the"
        f" {percent(confidence)} wanted."
    )
