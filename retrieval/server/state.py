"""The parts of a running server that its routes share."""

import os
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from typing import Annotated

from fastapi import Depends, Request

from indexes.catalogue.records import Selection
from retrieval.common.errors import GalleryError
from retrieval.common.text import safe_name
from retrieval.engine import Engine
from retrieval.server.config import ServerConfig, client_address
from retrieval.server.contract.requests import Filters
from retrieval.server.services.background_indexing import BackgroundIndexer
from retrieval.server.services.queries import QueryService
from retrieval.server.services.queueing import ConcurrencyLimit
from retrieval.server.services.thumbnails import CACHE_BYTES, ThumbnailCache
from retrieval.server.services.uploads import LEAST_ARRIVING, Uploads
from retrieval.server.shared_folders import SharedFolders
from retrieval.store.filters import make_selection

MAX_IMAGE_REQUESTS = 512
"""Requests for images in work at once: a page makes a few dozen."""


class ServerState:
    """One server's parts. `query_limit` bounds the requests to the engine, `image_limit` those for images."""

    def __init__(
        self, engine: Engine, open_engine: Callable[[], Engine], config: ServerConfig, shared: SharedFolders
    ) -> None:
        self.service = QueryService(engine)
        self.uploads = Uploads(shared.uploads, config.max_upload, most_arriving=max(config.slots, LEAST_ARRIVING))
        self.indexer = BackgroundIndexer(open_engine, shared.indexing)
        self.query_limit = ConcurrencyLimit(config.slots)
        self.images = ThumbnailCache(CACHE_BYTES // config.processes)
        self.image_limit = ConcurrencyLimit(MAX_IMAGE_REQUESTS)
        self.image_threads = ThreadPoolExecutor(2, thread_name_prefix="drawer")
        self._folders: tuple[str, list[bytes]] = ("", [])

    def folders(self) -> list[bytes]:
        """Return every folder that has pictures, read again if the catalogue has changed."""
        catalogue = self.service.engine.catalogue
        generation = catalogue.generation
        if self._folders[0] != generation:
            self._folders = generation, catalogue.pictures.folders()
        return self._folders[1]

    def resolve_filters(self, filters: Filters) -> Selection:
        """Return the selection that filters describe; they may have display names. Raises GalleryError."""
        label = filters.label
        if label is not None:
            labels = self.service.engine.catalogue.pictures.labels()
            label = next((name for name in labels if safe_name(name) == label), label)
        selection = make_selection(label, None, filters.since, filters.until)
        if filters.folder is None:
            return selection
        return replace(selection, folder=self._resolve_folder(filters.folder))

    def _resolve_folder(self, display_name: str) -> bytes:
        """Return the folder that has pictures, or contains one that has, by its display name."""
        prefix = display_name.replace(os.sep, "/").rstrip("/") + "/"
        for folder in self.folders():
            name = safe_name(folder) + "/"
            if name.startswith(prefix):
                depth = name[len(prefix) :].count("/")
                return os.fsencode("/".join(os.fsdecode(folder).split("/")[: -depth or None]))
        raise GalleryError(f"{display_name} is no folder of the gallery: choose one that the page lists")

    def close(self) -> None:
        """Stop the threads."""
        self.service.close()
        self.image_threads.shutdown(wait=False, cancel_futures=True)


async def get_state(request: Request) -> ServerState:
    """Return the state of the server that received a request."""
    state = request.app.state.server
    assert isinstance(state, ServerState)
    return state


State = Annotated[ServerState, Depends(get_state)]


def client_of(request: Request) -> str:
    """Return the client that a request counts for."""
    return client_address(request.scope.get("client"))


async def query_slot(request: Request, state: State) -> AsyncIterator[None]:
    """Hold a slot of the query limit until the answer is sent. Raises RequestRefused if there is none."""
    with state.query_limit.slot(client_of(request)):
        yield


async def later_slot(request: Request, state: State) -> AsyncIterator[Callable[[], None]]:
    """Give a function that takes such a slot, for a request whose picture has to arrive first."""
    with ExitStack() as held:
        yield lambda: held.enter_context(state.query_limit.slot(client_of(request)))


LaterSlot = Annotated[Callable[[], None], Depends(later_slot)]
