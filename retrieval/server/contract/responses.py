"""Answers of the API, as OpenAPI describes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, Field

from indexes.catalogue.records import PictureDetails
from retrieval.common.errors import PictureError
from retrieval.common.text import safe_name
from retrieval.explain.correspondence import Cells, Correspondence, double_centre
from retrieval.explain.explanation import Explanation, Heatmaps
from retrieval.explain.hit import Hit
from retrieval.explain.verification import Verification
from retrieval.model.preprocessing import input_box
from retrieval.rendering.presentation import AS_WHOLES, missing_evidence
from retrieval.rendering.verification_text import VERIFICATION_HEADINGS, describe_support, verification_rows
from retrieval.sources.location import parse_location

RelativeBox = Annotated[
    list[float],
    Field(
        min_length=4,
        max_length=4,
        description="The part that the network sees and heatmaps cover: left, top, right, bottom, 0 to 1.",
    ),
]
Cell = Annotated[list[int], Field(min_length=2, max_length=2, description="Row and column, or their numbers.")]


class Problem(BaseModel):
    """Why a request failed."""

    error: str = Field(description="One sentence: what is wrong and what to do about it.")


class PictureOut(BaseModel):
    r"""An indexed picture. Names are display names: bytes that are not text are written as \xNN."""

    id: int
    name: str
    folder: str
    label: str | None
    width: int
    height: int
    taken_at: str | None = Field(description="EXIF's local time, ISO 8601.")
    size: int = Field(description="Bytes of the file.")
    image: str = Field(description="The address of the picture as JPEG; add &side=224, 448 or 1024.")
    seen: RelativeBox


class PicturesPage(BaseModel):
    """A page of the gallery, in the order of paths."""

    total: int
    pictures: list[PictureOut]
    next: str | None = Field(description="Pass it as `after` for the next page; null at the end.")


class Upload(BaseModel):
    """A picture that was sent. It is kept for a while, so that a link to its hits can be shared."""

    upload: str = Field(description="The SHA-256 of its bytes.")
    width: int
    height: int
    image: str
    seen: RelativeBox


QueryPicture = PictureOut | Upload


class HitOut(BaseModel):
    """A hit of a query. `rank` is by the head, `index_rank` by the index before rescoring."""

    rank: int
    picture: PictureOut
    similarity: float
    distance: float
    verdict: Literal["similar", "different"]
    probability: float | None = Field(description="That it shows the same kind; null without statistics or labels.")
    familiarity: float | None = Field(
        description="The share of the gallery's pictures whose nearest is as far as this hit, or farther."
    )
    plain_similarity: float = Field(description="The model's own, whatever the gallery.")
    plain_distance: float
    index_rank: int
    index_distance: float
    note: str | None
    copies: list[PictureOut] = Field(
        default=[], description="Near-duplicates of this hit, which are not hits themselves."
    )


class CoverageOut(BaseModel):
    """What as many hits as were needed are worth."""

    coverage: float = Field(description="The probability that one of them shows the same kind, as requested.")
    measured: float = Field(description="The share of labelled pictures for which that held.")
    pictures: int


class Hits(BaseModel):
    """The hits of a query, best first."""

    type: Literal["hits"] = "hits"
    query: QueryPicture
    threshold: float
    similarity_by: Literal["gallery", "model"] = Field(
        description="What judges pairs: what is usual in the gallery, or the model alone."
    )
    calibrated: bool
    confidence: float | None = Field(description="As it was set by the request.")
    confident: bool = Field(description="Not foreign, and one hit reaches `confidence`.")
    familiarity: float | None = Field(description="The best of the hits'.")
    foreign: bool | None = Field(description="Whether nothing in the gallery looks like the query.")
    doubt: str | None = Field(description="A sentence if the hits are not confident.")
    coverage: CoverageOut | None
    pool: int
    hits: list[HitOut]


class HeatmapsOut(BaseModel):
    """One picture's heatmaps, rows from top to bottom, values from 0 to 1, where 1 is `magnitude`."""

    factual: list[list[float]]
    counterfactual: list[list[float]]
    magnitude: float
    missing: str | None = Field(description="Why there is nothing to draw, if so.")


class RegionPair(BaseModel):
    """Cells [row, column] of both pictures that match, with their share of the similarity; `holds`: hiding shows it."""

    share: float
    holds: bool
    query: list[Cell]
    hit: list[Cell]


class Matches(BaseModel):
    """Correspondences: for each cell of the query (rows) the strength of each cell of the hit, 0 to 1."""

    query_grid: Cell
    hit_grid: Cell
    table: list[list[float]]
    regions: list[RegionPair]


class VerificationOut(BaseModel):
    """The effect on the similarity of blurring a fifth of a picture."""

    support: str
    sentence: str = Field(serialization_alias="told")
    headings: Sequence[str]
    rows: Sequence[Sequence[str]]


class PairHeatmaps(BaseModel):
    """The heatmaps of both pictures, and their check if one was made."""

    query: HeatmapsOut
    hit: HeatmapsOut
    verification: VerificationOut | None


class ExplanationOut(PairHeatmaps):
    """Why a hit got its verdict."""

    type: Literal["explanation"] = "explanation"
    rank: int
    method: str
    distance: float
    verdict: Literal["similar", "different"]
    identical: bool
    glance: str | None = Field(
        description="Set if these heatmaps are the first glance, by a quick method: says whether others follow."
    )
    wholes: str | None = Field(description="A sentence if no region of either picture matters by itself.")
    gradcam: PairHeatmaps | None = Field(description="The paper's Grad-CAM of the pair; null if that is the method.")
    matches: Matches | None


class Unexplained(BaseModel):
    """Why a hit has no explanation."""

    type: Literal["unexplained"] = "unexplained"
    rank: int
    error: str


class End(BaseModel):
    """The last line of a stream, with the seconds that the query took."""

    type: Literal["end"] = "end"
    seconds: dict[str, float]


class QueryOut(Hits):
    """A query's hits with their explanations, in the order of the hits."""

    explanations: list[ExplanationOut | Unexplained]
    seconds: dict[str, float]


class DuplicatePicture(BaseModel):
    """A picture of a group, with its relation and similarity to the first, which is the one to keep."""

    picture: PictureOut
    kind: Literal["identical", "near-identical", "alike"] | None
    similarity: float


class DuplicateGroup(BaseModel):
    """Two or more pictures that are the same, the one to keep first."""

    kind: Literal["identical", "near-identical", "alike"]
    pictures: list[DuplicatePicture]


class DuplicatesOut(BaseModel):
    """The duplicates of a selection, and the number of spare pictures and bytes."""

    groups: list[DuplicateGroup]
    total: int
    spare: int
    spare_bytes: int
    unread: int = Field(description="Files that could not be read.")
    seconds: float


class Indexing(BaseModel):
    """The progress of indexing; `total` is null until the files are counted."""

    done: int
    total: int | None
    seconds: float


class Gallery(BaseModel):
    """A gallery's folder with the number of its pictures."""

    folder: str
    pictures: int
    missing: int


class Status(BaseModel):
    """What the store holds, and whether it is being indexed."""

    model: str
    fingerprint: str
    similarity: str = Field(description="What judges pairs, in words.")
    calibrated: bool
    pictures: int
    galleries: list[Gallery]
    labels: list[str]
    failed: int
    indexing: Indexing | None
    indexing_error: str | None = Field(description="Why the last indexing by this server failed, if it did.")
    methods: list[str]
    slow_methods: list[str] = Field(description="Methods that take seconds a picture, and only for one hit at a time.")
    default_method: str


class Health(BaseModel):
    """The server answers and its store can be read."""

    status: Literal["ok"] = "ok"


def picture_out(details: PictureDetails) -> PictureOut:
    """Return an indexed picture with display names."""
    location = parse_location(details.path)
    return PictureOut(
        **details._replace(label=safe_name(details.label) if details.label else None)._asdict(),
        name=safe_name(location.name),
        folder=safe_name(location.parent),
        image=f"api/pictures/{details.id}/image?version={version_of(details)}",
        seen=seen_share(details.width, details.height),
    )


def version_of(details: PictureDetails) -> str:
    """Return a version that changes with the picture's content."""
    return details.hash.hex()[:16]


def seen_share(width: int, height: int) -> list[float]:
    """Return the part that the network sees: left, top, right, bottom, in shares of the picture."""
    left, top, right, bottom = input_box(width, height)
    return [left / width, top / height, right / width, bottom / height]


def hit_out(hit: Hit, details: Mapping[int, PictureDetails], copies: Sequence[Hit]) -> HitOut:
    """Return a hit with its near-duplicates, given the details of all by id."""
    values = vars(replace(hit, note=safe_name(hit.note) if hit.note else None))
    others = [picture_out(details[copy.id]) for copy in copies]
    return HitOut(**values | {"picture": picture_out(details[hit.id]), "copies": others})


def explanation_out(
    rank: int, explanation: Explanation | PictureError, glance: str | None = None
) -> ExplanationOut | Unexplained:
    """Return a hit's explanation, or why there is none; `glance` is set if it is only the first glance."""
    if isinstance(explanation, PictureError):
        return Unexplained(rank=rank, error=safe_name(f"cannot be explained: the file {explanation.reason}"))
    return ExplanationOut(
        rank=rank,
        method=explanation.method,
        distance=explanation.distance,
        verdict=explanation.verdict,
        identical=explanation.identical,
        glance=glance,
        wholes=_wholes(explanation),
        gradcam=PairHeatmaps(**_pair(explanation.gradcam)) if explanation.gradcam else None,
        matches=_matches(explanation.correspondence) if explanation.correspondence else None,
        **_pair(explanation),
    )


def _wholes(explanation: Explanation) -> str | None:
    if not explanation.as_wholes:
        return None
    return f"The pictures {AS_WHOLES[explanation.verdict]}: no region of either matters by itself."


def _pair(explanation: Explanation) -> dict[str, Any]:
    return {
        "query": _maps(explanation, explanation.query),
        "hit": _maps(explanation, explanation.hit),
        "verification": _verification_out(explanation.verification) if explanation.verification else None,
    }


def _maps(explanation: Explanation, heatmaps: Heatmaps) -> HeatmapsOut:
    return HeatmapsOut(
        factual=_round(heatmaps.factual),
        counterfactual=_round(heatmaps.counterfactual),
        magnitude=heatmaps.magnitude,
        missing=missing_evidence(explanation, heatmaps),
    )


def _matches(correspondence: Correspondence) -> Matches:
    beyond = np.maximum(double_centre(correspondence.table), 0)
    largest = float(beyond.max())
    return Matches(
        query_grid=list(correspondence.shape),
        hit_grid=list(correspondence.other_shape),
        table=_round(beyond / largest if largest > 0 else beyond, 2),
        regions=[
            RegionPair(share=match.share, holds=match.holds, query=_cells(match.first), hit=_cells(match.second))
            for match in correspondence.matches
        ],
    )


def _verification_out(verification: Verification) -> VerificationOut:
    return VerificationOut(
        support=verification.support,
        sentence=describe_support(verification),
        headings=VERIFICATION_HEADINGS,
        rows=verification_rows(verification, ("query", "hit")),
    )


def _cells(cells: Cells) -> list[list[int]]:
    return [list(cell) for cell in sorted(cells)]


def _round(values: NDArray[np.floating], digits: int = 3) -> list[list[float]]:
    rounded: list[list[float]] = np.round(values.astype(np.float64), digits).tolist()
    return rounded
