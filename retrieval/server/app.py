"""The application: routes, errors in one sentence, the page's files, and what stands before and around them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from http import HTTPStatus
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp

from indexes.errors import StoreError
from retrieval.common.errors import RetrievalError
from retrieval.common.text import safe_name
from retrieval.engine import Engine
from retrieval.rendering.overlay import colour_map
from retrieval.rendering.presentation import HEATMAP_KINDS
from retrieval.server.config import ServerConfig
from retrieval.server.contract.responses import Problem
from retrieval.server.errors import RequestRefused
from retrieval.server.middleware.metrics import CONTENT_TYPE, Metrics, MetricsMiddleware
from retrieval.server.middleware.security import SecurityMiddleware
from retrieval.server.routes import gallery, search
from retrieval.server.services.background_indexing import BackgroundIndexer
from retrieval.server.services.queries import QueryService
from retrieval.server.services.queueing import ConcurrencyLimit
from retrieval.server.services.thumbnails import CACHE_BYTES, ThumbnailCache
from retrieval.server.services.uploads import Uploads
from retrieval.server.shared_folders import SharedFolders
from retrieval.server.state import ServerState

_PUBLISH_SECONDS = 0.5

_PROBLEMS: dict[int | str, dict[str, Any]] = {
    status: {"model": Problem, "description": description}
    for status, description in (
        (400, "The body is empty."),
        (401, "The token is missing or wrong."),
        (403, "A page of another site asked."),
        (404, "There is no such picture."),
        (409, "An indexing goes on already."),
        (413, "The picture's file is too large."),
        (415, "The body is compressed."),
        (422, "The picture or a value cannot be used."),
        (503, "Too many requests are in work: ask again after the seconds in Retry-After."),
        (507, "The server's disk has no room for it."),
    )
}


def make_app(engine: Engine, open_engine: Callable[[], Engine], config: ServerConfig, shared: SharedFolders) -> ASGIApp:
    """The application over an engine that nothing else uses; `open_engine` gives indexing one of its own.

    `shared` are the server's folders, which its other processes have too where there are several.
    """
    is_one_of_several = config.processes > 1

    @asynccontextmanager
    async def running(app: FastAPI) -> AsyncIterator[None]:
        holding = ServerState(
            config,
            QueryService(engine),
            Uploads(shared.uploads, config.max_upload),
            BackgroundIndexer(open_engine, shared.indexing),
            ConcurrencyLimit(config.slots),
            ThumbnailCache(CACHE_BYTES // config.processes),
        )
        app.state.holding = holding
        noting = asyncio.create_task(_publish_metrics(metrics)) if is_one_of_several else None
        try:
            yield
        finally:
            if noting:
                noting.cancel()
            holding.close()

    app = FastAPI(
        title="retrieve",
        summary="Find the pictures that look like this one, and see why.",
        version="1",
        docs_url=None,
        redoc_url=None,
        lifespan=running,
        responses=_PROBLEMS,
    )
    metrics = Metrics(
        lambda: app.state.holding.gate.inside,
        lambda: app.state.holding.service.waiting,
        engine.catalogue.pictures.count,
        shared.metrics if is_one_of_several else None,
    )
    app.include_router(search.router)
    app.include_router(gallery.router)
    app.include_router(gallery.public_router)
    app.add_api_route(
        "/metrics",
        lambda: Response(metrics.render(), media_type=CONTENT_TYPE),
        tags=["running"],
        summary="Figures for Prometheus",
        response_class=Response,
        responses={200: {"content": {"text/plain": {}}}},
    )
    _serve_files(app)
    _explain_errors(app)
    guarded: ASGIApp = app
    if config.origins:
        guarded = CORSMiddleware(
            app, allow_origins=config.origins, allow_methods=["GET", "POST"], allow_headers=["authorization"]
        )
    return SecurityMiddleware(MetricsMiddleware(guarded, metrics), config)


async def _publish_metrics(metrics: Metrics) -> None:
    """Tell the other processes again and again what is in work in this one."""
    while True:
        metrics.publish()
        await asyncio.sleep(_PUBLISH_SECONDS)


def _serve_files(app: FastAPI) -> None:
    """The page, the colours of its heatmaps, and the API's documentation, all from files of this machine."""
    static = Path(__file__).parent / "static"
    colours = {kind: colour_map(kind).tolist() for kind in HEATMAP_KINDS}
    app.mount("/static", StaticFiles(directory=static))
    app.mount("/swagger", StaticFiles(packages=[("fastapi_offline", "static")]))

    def told(name: str) -> Callable[[], FileResponse]:
        return lambda: FileResponse(static / name, headers={"cache-control": "no-cache"})

    app.add_api_route("/", told("index.html"), methods=["GET", "HEAD"], include_in_schema=False)
    app.add_api_route("/docs", told("docs.html"), include_in_schema=False)
    app.add_api_route("/favicon.ico", told("icon.svg"), include_in_schema=False)
    app.add_api_route("/colours.json", lambda: JSONResponse(colours), include_in_schema=False)


def _explain_errors(app: FastAPI) -> None:
    """Every error as one sentence under `error`."""

    @app.exception_handler(RequestRefused)
    def refused(request: Request, error: RequestRefused) -> Response:
        headers = {"retry-after": str(error.retry_after)} if error.retry_after is not None else None
        return _problem(error.status, str(error), headers)

    @app.exception_handler(RetrievalError)
    def not_used(request: Request, error: RetrievalError) -> Response:
        return _problem(HTTPStatus.UNPROCESSABLE_ENTITY, safe_name(str(error)))

    @app.exception_handler(StoreError)
    def no_store(request: Request, error: StoreError) -> Response:
        return _problem(HTTPStatus.INTERNAL_SERVER_ERROR, safe_name(str(error)))

    @app.exception_handler(RequestValidationError)
    def not_valid(request: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        where = ".".join(str(each) for each in first["loc"][1:])
        said = first["msg"].removeprefix("Value error, ")
        return _problem(HTTPStatus.UNPROCESSABLE_ENTITY, safe_name(f"{where}: {said}" if where else said))

    @app.exception_handler(HTTPException)
    def no_route(request: Request, error: HTTPException) -> Response:
        return _problem(HTTPStatus(error.status_code), f"{error.detail}: /docs lists what there is", error.headers)

    @app.exception_handler(Exception)
    def not_foreseen(request: Request, error: Exception) -> Response:
        return _problem(HTTPStatus.INTERNAL_SERVER_ERROR, "the server has a fault, which its log tells: report it")


def _problem(status: HTTPStatus, sentence: str, headers: Mapping[str, str] | None = None) -> JSONResponse:
    return JSONResponse({"error": sentence}, status, headers)
