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
from retrieval.explain.explanation import Explanation, verdict_of
from retrieval.explain.hit import Hit
from retrieval.rendering.hits_page import render_hits_page
from retrieval.rendering.presentation import build_result_view, low_confidence_note
from retrieval.server.contract.requests import ExplainParams, QueryParams, StoredQueryParams
from retrieval.server.contract.responses import (
    End,
    ExplanationOut,
    Hits,
    PictureOut,
    QueryOut,
    Unexplained,
    Upload,
    explanation_out,
    hit_out,
    picture_out,
    seen_share,
)
from retrieval.server.errors import RequestRefused
from retrieval.server.services.queries import QueryAnswer, QueryJob, QuerySubject, picture_location
from retrieval.server.state import ServerState, get_state, query_slot

router = APIRouter(prefix="/api", tags=["asking"], dependencies=[Depends(query_slot)])

NDJSON = "application/x-ndjson"
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
    200: {"content": {NDJSON: {"schema": {"type": "string", "description": "With `stream`: one JSON object a line."}}}}
}
State = Annotated[ServerState, Depends(get_state)]


@router.post("/uploads", openapi_extra=_BODY)
async def upload(request: Request, state: State) -> Upload:
    """Send a picture, to ask with it later."""
    name, subject = await _receive_picture(request, state)
    return _upload_out(name, subject)


@router.post("/query", response_model=QueryOut, responses=_STREAM, openapi_extra=_BODY)
async def query_by_upload(request: Request, params: Annotated[QueryParams, Query()], state: State) -> Any:
    """Find what is most similar to a picture that is sent, and why."""
    started = time.perf_counter()
    name, subject = await _receive_picture(request, state)
    return await _respond(state, subject, _upload_out(name, subject), params, started)


@router.get("/query", response_model=QueryOut, responses=_STREAM)
async def query(params: Annotated[StoredQueryParams, Query()], state: State) -> Any:
    """Find what is most similar to an indexed picture, which is itself no hit, or to an upload, and why."""
    started = time.perf_counter()
    subject, shown = await _load_subject(state, params.picture, params.upload)
    return await _respond(state, subject, shown, params, started)


@router.get("/explain")
async def explain(params: Annotated[ExplainParams, Query()], state: State) -> ExplanationOut | Unexplained:
    """Explain an indexed picture as a hit of another one, or of an upload."""
    subject, _ = await _load_subject(state, params.picture, params.upload)
    hit = await _as_hit(state, subject, params.hit)
    async for (found,) in state.service.explain(subject, [hit], params.options):
        return explanation_out(hit.rank, found)
    raise AssertionError("one hit has one explanation")


@router.get("/export", response_class=Response, responses={200: {"content": {"text/html": {}}}})
async def export(params: Annotated[StoredQueryParams, Query()], state: State) -> Response:
    """A query's result as a page that is whole in itself."""
    subject, shown = await _load_subject(state, params.picture, params.upload)
    answer = await _run_query(state, subject, params)
    hits = list(answer.hits)
    if params.explain:
        explained = [
            each async for some in state.service.explain(answer.subject, hits, params.options) for each in some
        ]
        hits = [_with_explanation(hit, found) for hit, found in zip(hits, explained, strict=True)]
    name = shown.name if isinstance(shown, PictureOut) else "the picture that was sent"
    ready = await state.service.run_in_thread(build_result_view, subject.file, name, hits, params.confidence)
    html = await state.service.run_in_thread(render_hits_page, [ready])
    return Response(html, media_type="text/html", headers={"content-disposition": 'attachment; filename="hits.html"'})


async def _receive_picture(request: Request, state: ServerState) -> tuple[str, QuerySubject]:
    """The picture that a request's body has."""
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise RequestRefused(
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "the body is compressed: send the picture's bytes as they are"
        )
    declared = request.headers.get("content-length")
    name = await state.uploads.receive(request.stream(), int(declared) if declared else None)
    file = state.uploads.find(name)
    try:
        return name, await state.service.load_upload(file)
    except PictureError:
        file.unlink(missing_ok=True)
        raise


async def _load_subject(
    state: ServerState, picture: int | None, upload: str | None
) -> tuple[QuerySubject, PictureOut | Upload]:
    if (picture is None) == (upload is None):
        raise RequestRefused(HTTPStatus.UNPROCESSABLE_ENTITY, "give one of the two: picture or upload")
    if upload is not None:
        subject = await state.service.load_upload(state.uploads.find(upload))
        return subject, _upload_out(upload, subject)
    assert picture is not None
    listed = await state.service.run_in_thread(state.service.find_picture, picture)
    return await state.service.load_indexed(listed), picture_out(listed)


def _upload_out(name: str, subject: QuerySubject) -> Upload:
    return Upload(
        upload=name,
        width=subject.width,
        height=subject.height,
        image=f"api/uploads/{name}/image?version={name[:16]}",
        seen=seen_share(subject.width, subject.height),
    )


async def _run_query(state: ServerState, subject: QuerySubject, params: QueryParams) -> QueryAnswer:
    among = await state.service.run_in_thread(state.resolve_filters, params)
    return await state.service.run_query(QueryJob(subject, params.top, among, params.min_similarity, params.collapse))


async def _respond(
    state: ServerState, subject: QuerySubject, query_out: PictureOut | Upload, params: QueryParams, started: float
) -> QueryOut | StreamingResponse:
    answer = await _run_query(state, subject, params)
    hits = await state.service.run_in_thread(_hits_out, state, answer, query_out, params)
    parts = _parts(state, answer, hits, params, started)
    if params.stream:
        return StreamingResponse(_lines(parts), media_type=NDJSON)
    told = [each async for each in parts]
    explanations = [each for each in told if isinstance(each, ExplanationOut | Unexplained)]
    end = next(each for each in told if isinstance(each, End))
    return QueryOut(**dict(hits), explanations=explanations, seconds=end.seconds)


async def _parts(
    state: ServerState, answer: QueryAnswer, hits: Hits, params: QueryParams, started: float
) -> AsyncIterator[BaseModel]:
    """The hits, then each explanation as it is ready, then the end."""
    yield hits
    seconds = {"hits": time.perf_counter() - started}
    if params.explain:
        rank = 0
        try:
            async for some in state.service.explain(answer.subject, answer.hits, params.options):
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


def _hits_out(state: ServerState, answer: QueryAnswer, query_out: PictureOut | Upload, params: QueryParams) -> Hits:
    similarities = [hit.similarity for hit in answer.hits]
    return Hits(
        query=query_out,
        threshold=THRESHOLD,
        calibrated=state.service.engine.calibration is not None,
        confidence=params.confidence,
        confident=any(similarity >= params.confidence for similarity in similarities),
        doubt=low_confidence_note(similarities, params.confidence),
        pool=answer.pool,
        hits=[
            hit_out(
                hit, answer.listed[hit.id], [answer.listed[copy.id] for copy in answer.near_duplicates.get(hit.id, [])]
            )
            for hit in answer.hits
        ],
    )


async def _as_hit(state: ServerState, subject: QuerySubject, picture_id: int) -> Hit:
    """An indexed picture as the only hit of another one."""
    service = state.service
    listed = await service.run_in_thread(service.find_picture, picture_id)
    other = await service.load_indexed(listed)
    subject = subject if subject.descriptor is not None else await service.ensure_descriptor(subject)
    assert subject.descriptor is not None
    assert other.descriptor is not None
    own, others = subject.descriptor, other.descriptor[None]
    distance = float((await service.call(lambda: service.engine.queries.distances(own, others)))[0])
    cosine = float(own @ others[0] / max(float(np.linalg.norm(own) * np.linalg.norm(others[0])), 1e-12))
    return Hit(
        rank=1,
        id=picture_id,
        path=picture_location(listed),
        label=listed.label,
        similarity=1 - distance,
        distance=distance,
        verdict=verdict_of(distance),
        index_rank=1,
        index_distance=1 - cosine,
        width=listed.width,
        height=listed.height,
    )


def _with_explanation(hit: Hit, explanation: Explanation | PictureError) -> Hit:
    if isinstance(explanation, PictureError):
        return replace(hit, note=f"cannot be explained: the file {explanation.reason}")
    return replace(hit, explanation=explanation)
