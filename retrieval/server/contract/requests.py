"""Parameters of the API."""

from enum import IntEnum
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from retrieval.common.settings import DEFAULT_METHOD, SLOW_METHODS, ExplainOptions, MethodName

Id = Annotated[int, Field(ge=1, le=2**63 - 1, description="The id of an indexed picture.")]
UploadName = Annotated[str, Field(pattern="^[0-9a-f]{64}$", description="The name that /api/uploads gave.")]

MOST_CHECKED = 24
"""Hits of a query with `verify`."""


class ImageSide(IntEnum):
    """The sizes of images that are sent: few, so that each is made once."""

    small = 224
    medium = 448
    large = 1024


class Detail(IntEnum):
    """The sides of pictures for finer heatmaps: each takes a network of its own."""

    fine = 448
    finer = 896


class Filters(BaseModel):
    """Which pictures to select."""

    model_config = ConfigDict(extra="forbid")

    label: str | None = Field(None, max_length=1000, description="Only pictures with this label.")
    folder: str | None = Field(None, max_length=5000, description="Only pictures in this folder and below it.")
    since: str | None = Field(None, max_length=30, description="Taken from this day, month or year on: 2024, 2024-05.")
    until: str | None = Field(None, max_length=30, description="Taken until the end of this day, month or year.")


class GalleryParams(Filters):
    """A page of the gallery."""

    after: str | None = Field(None, max_length=10_000, description="`next` of the page before.")
    most: int = Field(60, ge=1, le=200, description="How many pictures on a page.")


class DuplicateParams(Filters):
    """What counts as a duplicate."""

    near: float | None = Field(
        None, ge=0.5, le=1, description="Agreement of details that makes two the same photograph. [default: tested]"
    )
    identical: bool = Field(False, description="Only equal files; no picture is opened.")
    alike: float | None = Field(None, ge=0.7, le=1, description="Also group pictures that the model finds so similar.")
    most: int = Field(500, ge=1, le=5000, description="How many groups to list at most.")


class ExplainFields(BaseModel):
    """How to explain pairs."""

    method: MethodName = Field(
        DEFAULT_METHOD,
        description="The method of the heatmaps; scorecam and sbsm take seconds; xgradcam and hirescam are gradcam.",
    )
    detail: Detail | None = Field(None, description="The side of pictures for finer heatmaps, of one hit at a time.")
    verify: bool = Field(False, description="Check each heatmap: hide the region it marks and measure the effect.")
    correspond: bool = Field(False, description="Give the regions of both pictures that correspond.")

    @property
    def options(self) -> ExplainOptions:
        """The engine's options."""
        return ExplainOptions(self.method, self.detail, self.verify, self.correspond)


class QueryParams(Filters, ExplainFields):
    """A query."""

    top: int = Field(12, ge=1, le=100, description="How many hits.")
    min_similarity: float = Field(0, ge=0, le=1, description="Only hits at least this similar.")
    confidence: float | None = Field(
        None,
        ge=0,
        le=1,
        description="Give a `doubt` if no hit has this probability, or this similarity if `similarity_by` is model.",
    )
    coverage: float | None = Field(
        None,
        ge=0.01,
        le=0.999,
        description="In place of `top`: as many hits as are needed so that one shows the same kind with this"
        " probability, by the labels of a calibrated store.",
    )
    collapse: bool = Field(False, description="Put near-duplicates of a hit under it.")
    explain: bool = Field(True, description="Explain the hits.")
    stream: bool = Field(False, description="Send lines of JSON as they are ready: hits, each explanation, end.")

    @model_validator(mode="after")
    def _is_bounded(self) -> Self:
        """Refuse a query that would keep the others waiting for long."""
        if self.explain and self.method in SLOW_METHODS:
            raise ValueError(f"{self.method} takes seconds a picture: use /api/explain for one hit")
        if self.explain and self.verify and self.top > MOST_CHECKED:
            raise ValueError(f"with verify, top is at most {MOST_CHECKED}: use /api/explain for other hits")
        filters = (self.label, self.folder, self.since, self.until, self.min_similarity, self.collapse)
        if self.coverage and (any(filters) or (self.explain and self.verify)):
            raise ValueError("with coverage, leave out filters, min_similarity, collapse and verify")
        if self.explain and self.detail:
            raise ValueError("detail is for one hit: use /api/explain for it")
        return self


class StoredQueryParams(QueryParams):
    """A query with either an indexed picture or an upload."""

    picture: Id | None = None
    upload: UploadName | None = None


class ExplainParams(ExplainFields):
    """An indexed picture or an upload, and the indexed picture to compare it with."""

    model_config = ConfigDict(extra="forbid")

    picture: Id | None = None
    upload: UploadName | None = None
    hit: Id

    @model_validator(mode="after")
    def _is_bounded(self) -> Self:
        if self.method in SLOW_METHODS and self.detail is Detail.finer:
            raise ValueError(f"detail is at most {Detail.fine} for {self.method}")
        return self
