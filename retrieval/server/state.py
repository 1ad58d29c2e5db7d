"""What the routes share while a server runs."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from fastapi import Request

from indexes.catalogue.records import Selection
from retrieval.common.errors import GalleryError
from retrieval.common.text import safe_name
from retrieval.server.config import ServerConfig
from retrieval.server.contract.requests import Filters
from retrieval.server.services.background_indexing import BackgroundIndexer
from retrieval.server.services.queries import QueryService
from retrieval.server.services.queueing import ConcurrencyLimit
from retrieval.server.services.thumbnails import ThumbnailCache
from retrieval.server.services.uploads import Uploads
from retrieval.store.filters import make_selection

IMAGES_WAITING = 512
"""Pictures that may be asked for at once: a page asks for a few dozen."""


@dataclass
class ServerState:
    """One server's parts. `gate` bounds what asks the engine, `images_gate` what asks for pictures."""

    config: ServerConfig
    service: QueryService
    uploads: Uploads
    indexer: BackgroundIndexer
    query_limit: ConcurrencyLimit
    images: ThumbnailCache = field(default_factory=ThumbnailCache)
    image_limit: ConcurrencyLimit = field(default_factory=lambda: ConcurrencyLimit(IMAGES_WAITING))
    image_threads: ThreadPoolExecutor = field(
        default_factory=lambda: ThreadPoolExecutor(2, thread_name_prefix="drawer")
    )
    _folders: tuple[str, list[bytes]] = ("", [])

    def folders(self) -> list[bytes]:
        """Every folder that has pictures, read again where the catalogue has changed."""
        catalogue = self.service.engine.catalogue
        generation = catalogue.generation
        if self._folders[0] != generation:
            self._folders = generation, catalogue.pictures.folders()
        return self._folders[1]

    def resolve_filters(self, filters: Filters) -> Selection:
        """The pictures that filters leave; names may be given as they are shown. Raises GalleryError."""
        label = filters.label
        if label is not None:
            label = next(
                (each for each in self.service.engine.catalogue.pictures.labels() if safe_name(each) == label), label
            )
        chosen = make_selection(label, None, filters.since, filters.until)
        if filters.folder is None:
            return chosen
        return Selection(chosen.label, self._resolve_folder(filters.folder), chosen.since, chosen.until)

    def _resolve_folder(self, display_name: str) -> bytes:
        """A folder, or one above it, by its shown name."""
        wanted = display_name.rstrip("/") + "/"
        for folder in self.folders():
            name = safe_name(folder) + "/"
            if name.startswith(wanted):
                below = name[len(wanted) :].count("/")
                return os.fsencode("/".join(os.fsdecode(folder).split("/")[: -below or None]))
        raise GalleryError(f"{display_name} is no folder of the gallery: choose one that the page lists")

    def close(self) -> None:
        """Stop the threads."""
        self.service.close()
        self.image_threads.shutdown(wait=False, cancel_futures=True)


async def get_state(request: Request) -> ServerState:
    """The parts of the server that a request came to."""
    holding = request.app.state.holding
    assert isinstance(holding, ServerState)
    return holding


async def query_slot(request: Request) -> AsyncIterator[None]:
    """A place in the queue, until the answer is sent. Raises Refused where there is none."""
    with (await get_state(request)).query_limit.slot():
        yield
