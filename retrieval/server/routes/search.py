"""Search routes of the API: uploads, queries, explanations of pairs, and results as a page."""

import time
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from http import HTTPStatus
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import BaseModel

from retrieval.common.errors import PictureError
from retrieval.common.settings import THRESHOLD
from retrieval.explain.confidence import judge_hits
from retrieval.explain.hit import Hit
from retrieval.rendering.html import render_hits_page
from retrieval.rendering.presentation import build_result_view
from retrieval.server.contract import responses as out
from retrieval.server.contract.requests import ExplainParams, QueryParams, StoredQueryParams
from retrieval.server.errors import RequestRefused
from retrieval.server.services.forms import how_to_send, is_form, picture_bytes
from retrieval.server.services.queries import ExplainedHit, QueryAnswer, QueryJob, QuerySubject
from retrieval.server.state import LaterSlot, ServerState, State, client_of, query_slot
from retrieval.store.maintenance.coverage import CoverageRule

router = APIRouter(prefix="/api", tags=["asking"])

NDJSON = "application/x-ndjson"
_IN_TURN = [Depends(query_slot)]
_BINARY = {"type": "string", "format": "binary"}
_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "description": "The bytes of a picture's file, as they are, or a form with the file.",
        "content": {
            "image/*": {"schema": _BINARY},
            "application/octet-stream": {"schema": _BINARY},
            "multipart/form-data": {"schema": {"type": "object", "properties": {"file": _BINARY}}},
        },
    }
}
_STREAM: dict[int | str, dict[str, Any]] = {
    200: {"content": {NDJSON: {"schema": {"type": "string", "description": "With `stream`: one JSON object a line."}}}}
}


@router.post("/uploads", openapi_extra=_BODY)
async def upload(request: Request, state: State, take_slot: LaterSlot) -> out.Upload:
    """Send a picture, to search with it later."""
    return _upload_out(await _receive_picture(request, state, take_slot))


@router.post("/query", response_model=out.QueryOut, responses=_STREAM, openapi_extra=_BODY)
async def query_by_upload(
    request: Request, params: Annotated[QueryParams, Query()], state: State, take_slot: LaterSlot
) -> Any:
    """Find the pictures most similar to one that is sent, and why."""
    started = time.perf_counter()
    subject = await _receive_picture(request, state, take_slot)
    return await _respond(request, state, subject, _upload_out(subject), params, started)


@router.get("/query", response_model=out.QueryOut, responses=_STREAM, dependencies=_IN_TURN)
async def query(request: Request, params: Annotated[StoredQueryParams, Query()], state: State) -> Any:
    """Find the pictures most similar to an upload, or to an indexed picture, which is itself no hit, and why."""
    started = time.perf_counter()
    subject, query_out = await _load_subject(state, params.picture, params.upload)
    return await _respond(request, state, subject, query_out, params, started)


@router.get("/explain", dependencies=_IN_TURN)
async def explain(params: Annotated[ExplainParams, Query()], state: State) -> out.ExplanationOut | out.Unexplained:
    """Explain an indexed picture as a hit of another one, or of an upload."""
    subject, _ = await _load_subject(state, params.picture, params.upload)
    hit = await state.service.compare(subject, params.hit)
    explained = await anext(state.service.explain(subject, [hit], params.options))
    return out.explanation_out(hit.rank, explained.result)


@router.get("/export", response_class=Response, responses={200: {"content": {"text/html": {}}}}, dependencies=_IN_TURN)
async def export(params: Annotated[StoredQueryParams, Query()], state: State) -> Response:
    """Save a query's result as a self-contained page."""
    subject, query_out = await _load_subject(state, params.picture, params.upload)
    answer = await _run_query(state, subject, params)
    hits = {hit.rank: hit for hit in answer.hits}
    if params.explain:
        async for explained in state.service.explain_soon(answer.subject, answer.hits, params.options):
            hits[explained.hit.rank] = _with_explanation(explained)
    name = query_out.name if isinstance(query_out, out.PictureOut) else "the picture that was sent"
    view = await state.service.run_in_thread(build_result_view, subject.file, name, [*hits.values()], params.confidence)
    html = await state.service.run_in_thread(render_hits_page, [view])
    return Response(html, media_type="text/html", headers={"content-disposition": 'attachment; filename="hits.html"'})


async def _receive_picture(request: Request, state: ServerState, take_slot: Callable[[], None]) -> QuerySubject:
    """Store the picture in a request's body; take a slot once it is here, as that may take long."""
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise RequestRefused(
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "the body is compressed: send the picture's bytes as they are"
        )
    client, kind = client_of(request), request.headers.get("content-type", "")
    state.query_limit.require_room(client)
    length = request.headers.get("content-length")
    declared = int(length) if length and not is_form(kind) else None
    file = await state.uploads.receive(picture_bytes(request.stream(), kind), declared, client)
    take_slot()
    try:
        return await state.service.load_upload(file)
    except PictureError as error:
        how = how_to_send(kind, await state.uploads.head(file))
        await state.uploads.delete(file)
        if how:
            raise RequestRefused(HTTPStatus.UNPROCESSABLE_ENTITY, f"{error}: {how}") from error
        raise


async def _load_subject(
    state: ServerState, picture: int | None, upload: str | None
) -> tuple[QuerySubject, out.QueryPicture]:
    if (picture is None) == (upload is None):
        raise RequestRefused(HTTPStatus.UNPROCESSABLE_ENTITY, "give one of the two: picture or upload")
    if upload is not None:
        subject = await state.service.load_upload(await state.uploads.find(upload))
        return subject, _upload_out(subject)
    assert picture is not None
    details = await state.service.run_in_thread(state.service.find_picture, picture)
    return await state.service.load_indexed(details), out.picture_out(details)


def _upload_out(subject: QuerySubject) -> out.Upload:
    name = subject.file.name
    return out.Upload(
        upload=name,
        width=subject.width,
        height=subject.height,
        image=f"api/uploads/{name}/image?version={name[:16]}",
        seen=out.seen_share(subject.width, subject.height),
    )


async def _run_query(state: ServerState, subject: QuerySubject, params: QueryParams) -> QueryAnswer:
    selection = await state.service.run_in_thread(state.resolve_filters, params)
    rule = await state.service.run_in_thread(_coverage_rule, state, params)
    job = QueryJob(subject, params.top, selection, params.min_similarity, params.collapse, rule)
    return await state.service.run_query(job)


def _coverage_rule(state: ServerState, params: QueryParams) -> CoverageRule | None:
    return None if params.coverage is None else state.service.engine.store.coverage_rule(params.coverage)


async def _respond(
    request: Request,
    state: ServerState,
    subject: QuerySubject,
    query_out: out.QueryPicture,
    params: QueryParams,
    started: float,
) -> out.QueryOut | StreamingResponse:
    answer = await _run_query(state, subject, params)
    hits = await state.service.run_in_thread(_hits_out, state, answer, query_out, params)
    explanations = _explain_hits(state, answer, params)
    hits_seconds = time.perf_counter() - started

    def seconds() -> dict[str, float]:
        return {"hits": hits_seconds, "total": time.perf_counter() - started}

    async def lines() -> AsyncIterator[str]:
        yield _line(hits)
        async for explanation in explanations:
            yield _line(explanation)
        yield _line(out.End(seconds=seconds()))

    if params.stream:
        return StreamingResponse(lines(), media_type=NDJSON)
    settled = dict[int, out.ExplanationOut | out.Unexplained]()
    async for explanation in explanations:
        settled[explanation.rank] = explanation
        if await request.is_disconnected():
            break
    return out.QueryOut(**dict(hits), explanations=[*settled.values()], seconds=seconds())


async def _explain_hits(
    state: ServerState, answer: QueryAnswer, params: QueryParams
) -> AsyncIterator[out.ExplanationOut | out.Unexplained]:
    """Yield each hit's explanations as they are ready, unless the query wants none."""
    if not params.explain:
        return
    try:
        async for each in state.service.explain_soon(answer.subject, answer.hits, params.options):
            yield out.explanation_out(each.hit.rank, each.result, each.glance)
    except PictureError as error:  # the query's own file is gone or broken since it was indexed
        for hit in answer.hits:
            yield out.Unexplained(rank=hit.rank, error=f"cannot be explained: the query {error.reason}")


def _line(part: BaseModel) -> str:
    return part.model_dump_json(by_alias=True) + "\n"


def _hits_out(state: ServerState, answer: QueryAnswer, query_out: out.QueryPicture, params: QueryParams) -> out.Hits:
    similarity, rule = state.service.engine.store.similarity, answer.coverage
    return out.Hits(
        query=query_out,
        threshold=THRESHOLD,
        similarity_by=similarity.by,
        calibrated=similarity.is_calibrated,
        **vars(judge_hits(answer.hits, params.confidence)),
        coverage=out.CoverageOut.model_validate(rule, from_attributes=True) if rule else None,
        pool=answer.pool,
        hits=[out.hit_out(hit, answer.details, answer.near_duplicates[hit.id]) for hit in answer.hits],
    )


def _with_explanation(explained: ExplainedHit) -> Hit:
    if isinstance(explained.result, PictureError):
        return replace(explained.hit, note=f"cannot be explained: the file {explained.result.reason}")
    return replace(explained.hit, explanation=explained.result, note=explained.glance or explained.hit.note)
