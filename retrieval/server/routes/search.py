"""The part of the API that asks: queries by upload or by indexed picture, pairs explained, results as a page."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from dataclasses import replace
from http import HTTPStatus
from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import BaseModel

from retrieval.common.errors import PictureError
from retrieval.common.settings import THRESHOLD
from retrieval.common.text import unsure
from retrieval.explain.explanation import Explanation, verdict_of
from retrieval.explain.hit import Hit
from retrieval.rendering.hits_page import page
from retrieval.rendering.presentation import prepare
from retrieval.server.contract.requests import PairWanted, Wanted, WantedOf
from retrieval.server.contract.responses import (
    End,
    ExplanationOut,
    Found,
    Hits,
    Picture,
    Unexplained,
    Upload,
    explanation_out,
    hit_out,
    picture_out,
    seen_share,
)
from retrieval.server.errors import Refused
from retrieval.server.services.queries import Answer, Ask, Subject, path_of
from retrieval.server.state import Holding, held, place

router = APIRouter(prefix="/api", tags=["asking"], dependencies=[Depends(place)])

LINES = "application/x-ndjson"
_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "description": "The bytes of a picture's file, as they are.",
        "content": {
            kind: {"schema": {"type": "string", "format": "binary"}} for kind in ("image/*", "application/octet-stream")
        },
    }
}
_STREAM: dict[int | str, dict[str, Any]] = {
    200: {"content": {LINES: {"schema": {"type": "string", "description": "With `stream`: one JSON object a line."}}}}
}
Here = Annotated[Holding, Depends(held)]


@router.post("/uploads", openapi_extra=_BODY)
async def upload(request: Request, here: Here) -> Upload:
    """Send a picture, to ask with it later."""
    name, subject = await _received(request, here)
    return _upload_out(name, subject)


@router.post("/query", response_model=Found, responses=_STREAM, openapi_extra=_BODY)
async def query_by_upload(request: Request, wanted: Annotated[Wanted, Query()], here: Here) -> Any:
    """Find what is most similar to a picture that is sent, and why."""
    started = time.perf_counter()
    name, subject = await _received(request, here)
    return await _answered(here, subject, _upload_out(name, subject), wanted, started)


@router.get("/query", response_model=Found, responses=_STREAM)
async def query(wanted: Annotated[WantedOf, Query()], here: Here) -> Any:
    """Find what is most similar to an indexed picture, which is itself no hit, or to an upload, and why."""
    started = time.perf_counter()
    subject, shown = await _subject(here, wanted.picture, wanted.upload)
    return await _answered(here, subject, shown, wanted, started)


@router.get("/explain")
async def explain(wanted: Annotated[PairWanted, Query()], here: Here) -> ExplanationOut | Unexplained:
    """Explain an indexed picture as a hit of another one, or of an upload."""
    subject, _ = await _subject(here, wanted.picture, wanted.upload)
    hit = await _as_hit(here, subject, wanted.hit)
    async for (found,) in here.service.explain(subject, [hit], wanted.how):
        return explanation_out(hit.rank, found)
    raise AssertionError("one hit has one explanation")


@router.get("/export", response_class=Response, responses={200: {"content": {"text/html": {}}}})
async def export(wanted: Annotated[WantedOf, Query()], here: Here) -> Response:
    """A query's result as a page that is whole in itself."""
    subject, shown = await _subject(here, wanted.picture, wanted.upload)
    answer = await _asked(here, subject, wanted)
    hits = list(answer.hits)
    if wanted.explain:
        explained = [each async for some in here.service.explain(answer.subject, hits, wanted.how) for each in some]
        hits = [_with_explanation(hit, found) for hit, found in zip(hits, explained, strict=True)]
    name = shown.name if isinstance(shown, Picture) else "the picture that was sent"
    ready = await here.service.in_thread(prepare, subject.file, name, hits, wanted.confidence)
    html = await here.service.in_thread(page, [ready])
    return Response(html, media_type="text/html", headers={"content-disposition": 'attachment; filename="hits.html"'})


async def _received(request: Request, here: Holding) -> tuple[str, Subject]:
    """The picture that a request's body has."""
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise Refused(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "the body is compressed: send the picture's bytes as they are")
    declared = request.headers.get("content-length")
    name = await here.uploads.receive(request.stream(), int(declared) if declared else None)
    file = here.uploads.find(name)
    try:
        return name, await here.service.uploaded(file)
    except PictureError:
        file.unlink(missing_ok=True)
        raise


async def _subject(here: Holding, picture: int | None, upload: str | None) -> tuple[Subject, Picture | Upload]:
    if (picture is None) == (upload is None):
        raise Refused(HTTPStatus.UNPROCESSABLE_ENTITY, "give one of the two: picture or upload")
    if upload is not None:
        subject = await here.service.uploaded(here.uploads.find(upload))
        return subject, _upload_out(upload, subject)
    assert picture is not None
    listed = await here.service.in_thread(here.service.listed, picture)
    return await here.service.indexed(listed), picture_out(listed)


def _upload_out(name: str, subject: Subject) -> Upload:
    return Upload(
        upload=name,
        width=subject.width,
        height=subject.height,
        image=f"api/uploads/{name}/image?version={name[:16]}",
        seen=seen_share(subject.width, subject.height),
    )


async def _asked(here: Holding, subject: Subject, wanted: Wanted) -> Answer:
    among = await here.service.in_thread(here.selected, wanted)
    return await here.service.ask(Ask(subject, wanted.top, among, wanted.min_similarity, wanted.collapse))


async def _answered(
    here: Holding, subject: Subject, shown: Picture | Upload, wanted: Wanted, started: float
) -> Found | StreamingResponse:
    answer = await _asked(here, subject, wanted)
    hits = await here.service.in_thread(_hits_out, here, answer, shown, wanted)
    parts = _parts(here, answer, hits, wanted, started)
    if wanted.stream:
        return StreamingResponse(_lines(parts), media_type=LINES)
    told = [each async for each in parts]
    explanations = [each for each in told if isinstance(each, ExplanationOut | Unexplained)]
    end = next(each for each in told if isinstance(each, End))
    return Found(**dict(hits), explanations=explanations, seconds=end.seconds)


async def _parts(here: Holding, answer: Answer, hits: Hits, wanted: Wanted, started: float) -> AsyncIterator[BaseModel]:
    """The hits, then each explanation as it is ready, then the end."""
    yield hits
    seconds = {"hits": time.perf_counter() - started}
    if wanted.explain:
        rank = 0
        try:
            async for some in here.service.explain(answer.subject, answer.hits, wanted.how):
                for found in some:
                    rank += 1
                    yield explanation_out(rank, found)
        except PictureError as error:  # the query's own file is gone or broken since it was indexed
            for hit in answer.hits[rank:]:
                yield Unexplained(rank=hit.rank, error=f"cannot be explained: the query {error.reason}")
    yield End(seconds=seconds | {"total": time.perf_counter() - started})


async def _lines(parts: AsyncIterator[BaseModel]) -> AsyncIterator[str]:
    async for part in parts:
        yield part.model_dump_json() + "\n"


def _hits_out(here: Holding, answer: Answer, shown: Picture | Upload, wanted: Wanted) -> Hits:
    similarities = [hit.similarity for hit in answer.hits]
    return Hits(
        query=shown,
        threshold=THRESHOLD,
        calibrated=here.service.engine.calibration is not None,
        confidence=wanted.confidence,
        confident=any(similarity >= wanted.confidence for similarity in similarities),
        doubt=unsure(similarities, wanted.confidence),
        pool=answer.pool,
        hits=[
            hit_out(hit, answer.listed[hit.id], [answer.listed[copy.id] for copy in answer.copies.get(hit.id, [])])
            for hit in answer.hits
        ],
    )


async def _as_hit(here: Holding, subject: Subject, picture: int) -> Hit:
    """An indexed picture as the only hit of another one."""
    service = here.service
    listed = await service.in_thread(service.listed, picture)
    other = await service.indexed(listed)
    subject = subject if subject.descriptor is not None else await service.described(subject)
    assert subject.descriptor is not None
    assert other.descriptor is not None
    own, others = subject.descriptor, other.descriptor[None]
    distance = float((await service.call(lambda: service.engine.distances(own, others)))[0])
    cosine = float(own @ others[0] / max(float(np.linalg.norm(own) * np.linalg.norm(others[0])), 1e-12))
    return Hit(
        rank=1,
        id=picture,
        path=path_of(listed),
        label=listed.label,
        similarity=1 - distance,
        distance=distance,
        verdict=verdict_of(distance),
        index_rank=1,
        index_distance=1 - cosine,
        width=listed.width,
        height=listed.height,
    )


def _with_explanation(hit: Hit, found: Explanation | PictureError) -> Hit:
    if isinstance(found, PictureError):
        return replace(hit, note=f"cannot be explained: the file {found.reason}")
    return replace(hit, explanation=found)
