"""What a request may ask for: the parameters of the API."""

from __future__ import annotations

from enum import IntEnum
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from retrieval.common.settings import CONFIDENCE, DEFAULT_METHOD, SLOW_METHODS, ExplainOptions, MethodName

Id = Annotated[int, Field(ge=1, le=2**63 - 1, description="The id of an indexed picture.")]
UploadName = Annotated[str, Field(pattern="^[0-9a-f]{64}$", description="The name of an upload, as it was answered.")]

MOST_HITS = 100
MOST_CHECKED = 24
"""Hits of a query whose heatmaps are checked."""


class ImageSide(IntEnum):
    """How large pictures are sent: few sizes, so that each is made once."""

    small = 224
    medium = 448
    large = 1024


class Detail(IntEnum):
    """At what sides heatmaps may be made: for each a network is held."""

    fine = 448
    finer = 896


class Filters(BaseModel):
    """Which pictures count."""

    model_config = ConfigDict(extra="forbid")

    label: str | None = Field(None, max_length=1000, description="Only pictures with this label.")
    folder: str | None = Field(None, max_length=5000, description="Only pictures below this folder.")
    since: str | None = Field(None, max_length=30, description="Taken from this day on, such as 2024, 2024-05.")
    until: str | None = Field(None, max_length=30, description="Taken until the end of this day, month or year.")


class GalleryParams(Filters):
    """A part of a gallery."""

    after: str | None = Field(None, max_length=10_000, description="`next` of the part before.")
    most: int = Field(60, ge=1, le=200, description="How many pictures at once.")


class DuplicateParams(Filters):
    """What counts as a duplicate."""

    near: float | None = Field(
        None, ge=0.5, le=1, description="Agreement of details from which two are the same photograph. [a tried one]"
    )
    identical: bool = Field(False, description="Only equal files; no picture is looked at.")
    alike: float | None = Field(None, ge=0.7, le=1, description="Also groups that the model finds so alike.")
    most: int = Field(500, ge=1, le=5000, description="How many groups are told at most.")


class ExplainFields(BaseModel):
    """How pairs are explained."""

    method: MethodName = Field(DEFAULT_METHOD, description="How heatmaps are made; scorecam and sbsm take seconds.")
    detail: Detail | None = Field(None, description="The side of pictures for finer heatmaps, of one hit at a time.")
    verify: bool = Field(False, description="Check each heatmap: hide what it names, and see.")
    correspond: bool = Field(False, description="Tell what in one picture corresponds to what in the other.")

    @property
    def options(self) -> ExplainOptions:
        """The same as the engine takes it."""
        return ExplainOptions(self.method, self.detail, self.verify, self.correspond)


class QueryParams(Filters, ExplainFields):
    """A query."""

    top: int = Field(12, ge=1, le=MOST_HITS, description="How many hits.")
    min_similarity: float = Field(0, ge=0, le=1, description="Only hits at least this similar.")
    confidence: float = Field(CONFIDENCE, ge=0, le=1, description="Say so where no hit is at least this similar.")
    collapse: bool = Field(False, description="Put near-duplicates of a hit under it.")
    explain: bool = Field(True, description="Explain the hits.")
    stream: bool = Field(False, description="Lines of JSON as they are ready: hits, each explanation, end.")

    @model_validator(mode="after")
    def _is_bounded(self) -> Self:
        """One query may not keep the others waiting for long."""
        if self.explain and self.method in SLOW_METHODS:
            raise ValueError(f"{self.method} takes seconds a picture: ask /api/explain for one hit")
        if self.explain and self.verify and self.top > MOST_CHECKED:
            raise ValueError(f"with verify, top is at most {MOST_CHECKED}: ask /api/explain for other hits")
        if self.explain and self.detail:
            raise ValueError("detail is for one hit: ask /api/explain for it")
        return self


class StoredQueryParams(QueryParams):
    """A query with an indexed picture or an upload: one of the two."""

    picture: Id | None = None
    upload: UploadName | None = None


class ExplainParams(ExplainFields):
    """An indexed picture or an upload, and the indexed picture that it is compared with."""

    model_config = ConfigDict(extra="forbid")

    picture: Id | None = None
    upload: UploadName | None = None
    hit: Id

    @model_validator(mode="after")
    def _is_bounded(self) -> Self:
        if self.method in SLOW_METHODS and self.detail is Detail.finer:
            raise ValueError(f"detail is at most {Detail.fine} for {self.method}")
        return self
