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
from retrieval.common.text import safe_name, unsure
from retrieval.explain.explanation import Explanation, Heatmaps, Verdict
from retrieval.model.preprocessing import Source
from retrieval.rendering.correspondence_regions import with_matches
from retrieval.rendering.overlay import Kind, display_picture, overlay

if TYPE_CHECKING:  # only a type here: two pictures are explained without any store
    from retrieval.explain.hit import Hit

KINDS: tuple[Kind, Kind] = ("factual", "counterfactual")
IDENTICAL = "identical: nothing to explain"
ALMOST_NONE = "almost no evidence: all of it would move the similarity by less than half a percentage point"
NO_HITS = "No hits: nothing in the index answers this query."
MEANING: dict[Kind, str] = {"factual": "speaks for the verdict", "counterfactual": "speaks against the verdict"}
_STRENGTHS = ((0.02, "none"), (0.25, "faint"), (0.6, "moderate"))  # below these shares of the strongest; else strong


@dataclass(frozen=True)
class ShownHit:
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
class Shown:
    """A query with its hits, in display pictures. `scale` is the largest magnitude of all its heatmaps.

    `doubt` says that no hit is confidently similar, where none is.
    """

    name: str
    picture: Image.Image | None
    hits: tuple[ShownHit, ...]
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
    def all(self) -> set[Path]:
        """Every file of the pair."""
        matches = (self.matches,) if self.matches else ()
        return {*(self.query or ()), *(self.hit or ()), *matches}


@dataclass(frozen=True)
class Side:
    """One picture of a pair, its heatmaps on the query's scale: `strength`, 0 to 1, is of the largest magnitude."""

    title: str
    name: str
    picture: Image.Image | None
    heatmaps: Heatmaps | None
    strength: float
    verdict: Verdict
    missing: str  # what stands in the place of heatmaps that are None

    def overlaid(self, kind: Kind) -> Image.Image | None:
        """The picture with a heatmap; None where one of the two is missing."""
        if self.picture is None or self.heatmaps is None:
            return None
        return overlay(self.picture, getattr(self.heatmaps, kind), kind, self.strength)

    def caption(self, kind: Kind) -> str:
        """What the heatmap speaks for or against."""
        return f"{'for' if kind == 'factual' else 'against'} “{self.verdict}”"

    def evidence(self, kind: Kind) -> str:
        """How strong the strongest place is, in a word."""
        peak = self.strength * float(getattr(self.heatmaps, kind).max()) if self.heatmaps else 0.0
        return next((word for limit, word in _STRENGTHS if peak < limit), "strong")


def prepare(query: Source, name: str, hits: Sequence[Hit], confidence: float = CONFIDENCE) -> Shown:
    """Read the display pictures of a query and its hits. What cannot be read is listed with a note.

    Where no hit is at least as similar as `confidence` (0 to 1), that is said.
    """
    with ThreadPoolExecutor(2) as threads:
        pictures = list(threads.map(_display, [query, *(hit.path for hit in hits)]))
    shown = tuple(_shown_hit(hit, *read) for hit, read in zip(hits, pictures[1:], strict=True))
    doubt = unsure([hit.similarity for hit in hits], confidence)
    return Shown(safe_name(name), pictures[0][0], shown, _scale([hit.explanation for hit in hits]), doubt)


def prepare_pair(a: Source, a_name: str, b: Source, b_name: str, explanation: Explanation) -> Shown:
    """The same of two pictures without an index: `b` as the only hit of `a`."""
    (first, _), (second, note) = _display(a), _display(b)
    hit = ShownHit(
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
    return Shown(safe_name(a_name), first, (hit,), _scale([explanation]))


def on_one_scale(results: Sequence[Shown]) -> list[Shown]:
    """The same with heatmaps on the largest of their scales, so that they can be told apart across results."""
    scale = max((shown.scale for shown in results), default=0.0)
    return [replace(shown, scale=scale) for shown in results]


def sides(shown: Shown, hit: ShownHit, titles: tuple[str, str] = ("query", "hit")) -> tuple[Side, Side]:
    """The query and one of its hits, as sheets, pages and files show them."""
    first, second = (hit.explanation.query, hit.explanation.hit) if hit.explanation else (None, None)
    return (
        _side(shown, hit, titles[0], shown.name, shown.picture, first),
        _side(shown, hit, titles[1], hit.name, hit.picture, second),
    )


def matches_of(shown: Shown, hit: ShownHit) -> tuple[Image.Image, Image.Image] | None:
    """The query and a hit with what corresponds in them; None where that was not asked for, or nothing does."""
    found = hit.explanation.correspondence if hit.explanation else None
    if found is None or not found.matches or shown.picture is None or hit.picture is None:
        return None
    return with_matches(shown.picture, found, second=False), with_matches(hit.picture, found, second=True)


def _display(source: Source) -> tuple[Image.Image | None, str | None]:
    """The display picture, or None and why."""
    try:
        return display_picture(source), None
    except PictureError as error:
        return None, f"cannot be shown: it {error.reason}"


def _shown_hit(hit: Hit, picture: Image.Image | None, note: str | None) -> ShownHit:
    found = hit.note or note
    return ShownHit(
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


def _side(
    shown: Shown, hit: ShownHit, title: str, name: str, picture: Image.Image | None, heatmaps: Heatmaps | None
) -> Side:
    identical = hit.explanation is not None and hit.explanation.identical
    strength = heatmaps.magnitude / shown.scale if heatmaps and shown.scale > 0 else 0.0
    missing = IDENTICAL if identical else hit.note or "no explanation"
    if heatmaps and hit.explanation and not identical and hit.explanation.has_almost_none(heatmaps):
        heatmaps, missing = None, ALMOST_NONE
    return Side(title, name, picture, None if identical else heatmaps, strength, hit.verdict, missing)
