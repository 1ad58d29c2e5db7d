"""The ASGI application: the routes of the API, the page's files, and the middleware around them."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from fastapi import FastAPI, Response
from fastapi.responses import FileResponse, JSONResponse
from fastapi.staticfiles import StaticFiles
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp

from retrieval.engine import Engine
from retrieval.explain.illustrated import HEATMAP_KINDS
from retrieval.rendering.overlay import colour_map
from retrieval.server.config import ServerConfig
from retrieval.server.errors import PROBLEM_RESPONSES, explain_errors
from retrieval.server.middleware.metrics import Metrics, MetricsMiddleware
from retrieval.server.middleware.security import SecurityMiddleware
from retrieval.server.routes import gallery, search
from retrieval.server.shared_folders import SharedFolders
from retrieval.server.state import ServerState

_PUBLISH_SECONDS = 0.5


def make_app(engine: Engine, open_engine: Callable[[], Engine], config: ServerConfig, shared: SharedFolders) -> ASGIApp:
    """Return the application over an engine that nothing else uses; `open_engine` opens another for indexing.

    `shared` are the server's folders, which all its processes use.
    """
    is_one_of_several = config.processes > 1

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        app.state.server = state = ServerState(engine, open_engine, config, shared)
        publishing = asyncio.create_task(_publish_metrics(metrics)) if is_one_of_several else None
        try:
            yield
        finally:
            if publishing:
                publishing.cancel()
            state.close()

    app = FastAPI(
        title="retrieve",
        summary="Find the pictures that look like this one, and see why.",
        version="1",
        servers=[{"url": "./"}],  # wherever a proxy has this server
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
        responses=PROBLEM_RESPONSES,
    )
    metrics = Metrics(
        lambda: app.state.server.query_limit.inside,
        lambda: app.state.server.service.waiting,
        engine.catalogue.pictures.count,
        shared.metrics if is_one_of_several else None,
    )
    app.include_router(search.router)
    app.include_router(gallery.router)
    app.include_router(gallery.public_router)
    app.add_api_route(
        "/metrics",
        lambda: Response(metrics.render(), media_type=CONTENT_TYPE_LATEST),
        tags=["running"],
        summary="Metrics for Prometheus",
        response_class=Response,
        responses={200: {"content": {"text/plain": {}}}},
    )
    _serve_files(app)
    explain_errors(app)
    guarded: ASGIApp = app
    if config.origins:
        guarded = CORSMiddleware(
            app, allow_origins=config.origins, allow_methods=["GET", "POST"], allow_headers=["authorization"]
        )
    return SecurityMiddleware(MetricsMiddleware(guarded, metrics), config)


async def _publish_metrics(metrics: Metrics) -> None:
    """Report again and again to the other processes what is in work in this one."""
    while True:
        metrics.publish()
        await asyncio.sleep(_PUBLISH_SECONDS)


def _serve_files(app: FastAPI) -> None:
    """Serve the page, its heatmap colours and the API's documentation, all from files of this machine."""
    static = Path(__file__).parent / "static"
    colours = {kind: colour_map(kind).tolist() for kind in HEATMAP_KINDS}
    app.mount("/static", StaticFiles(directory=static))
    app.mount("/swagger", StaticFiles(packages=[("fastapi_offline", "static")]))

    def static_file(name: str) -> Callable[[], FileResponse]:
        return lambda: FileResponse(static / name, headers={"cache-control": "no-cache"})

    app.add_api_route("/", static_file("index.html"), methods=["GET", "HEAD"], include_in_schema=False)
    app.add_api_route("/docs", static_file("docs.html"), include_in_schema=False)
    app.add_api_route("/favicon.ico", static_file("icon.svg"), include_in_schema=False)
    app.add_api_route("/colours.json", lambda: JSONResponse(colours), include_in_schema=False)
