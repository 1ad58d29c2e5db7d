"""The part of the API that looks: the gallery, its pictures, what the store holds, and bringing it up to date."""

from __future__ import annotations

import asyncio
import base64
import binascii
import time
from http import HTTPStatus
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Response

from retrieval.common.settings import DEFAULT_METHOD, SLOW_METHODS, MethodName
from retrieval.common.text import safe_name
from retrieval.engine import Engine
from retrieval.server.contract.requests import DuplicateParams, GalleryParams, Id, ImageSide, UploadName
from retrieval.server.contract.responses import (
    DuplicateGroup,
    DuplicatePicture,
    DuplicatesOut,
    Gallery,
    Health,
    Indexing,
    PictureOut,
    Pictures,
    Status,
    picture_out,
    version_of,
)
from retrieval.server.errors import RequestRefused
from retrieval.server.services.queries import picture_location
from retrieval.server.state import ServerState, get_state, query_slot
from retrieval.sources.location import PictureLocation
from retrieval.store.duplicates.search import MIN_AGREEMENT, DuplicateRules
from retrieval.store.indexing.progress import read_progress

router = APIRouter(prefix="/api", tags=["browsing"])
public_router = APIRouter(tags=["running"])

State = Annotated[ServerState, Depends(get_state)]
SideParam = Annotated[ImageSide, Query(description="The longest side in pixels.")]
Version = Annotated[str | None, Query(max_length=64, description="With the one that was told, it is kept for long.")]

MOST_FOLDERS = 2000
_IMMUTABLE = "private, max-age=31536000, immutable"
_JPEG: dict[int | str, dict[str, Any]] = {200: {"content": {"image/jpeg": {}}}}


@router.get("/status")
def status(state: State) -> Status:
    """What the store holds."""
    engine = state.service.engine
    catalogue = engine.catalogue
    counts = catalogue.scans.root_counts()
    return Status(
        model=engine.bundle.card.name,
        fingerprint=engine.bundle.fingerprint,
        calibrated=engine.calibration is not None,
        pictures=sum(count.pictures for count in counts),
        galleries=[
            Gallery(folder=safe_name(count.root), pictures=count.pictures, missing=count.missing) for count in counts
        ],
        labels=[safe_name(label) for label in catalogue.pictures.labels()],
        failed=len(catalogue.scans.failures()),
        indexing=_indexing(state),
        indexing_error=state.indexer.error and safe_name(state.indexer.error),
        methods=[str(method) for method in MethodName],
        slow_methods=sorted(map(str, SLOW_METHODS)),
        default_method=str(DEFAULT_METHOD),
    )


@router.post("/index", status_code=HTTPStatus.ACCEPTED)
def bring_up_to_date(state: State) -> Status:
    """Take new and changed pictures of the known galleries into the store; /api/status tells how far it is."""
    state.indexer.start()
    return status(state)


@router.get("/folders")
def folders(state: State) -> list[str]:
    """The folders that hold pictures, as filters take them; at most 2,000."""
    return [safe_name(folder) for folder in state.folders()[:MOST_FOLDERS]]


@router.get("/pictures")
def pictures(params: Annotated[GalleryParams, Query()], state: State) -> Pictures:
    """Look through the gallery, in the order of paths."""
    catalogue = state.service.engine.catalogue
    chosen = state.resolve_filters(params)
    found = catalogue.pictures.page(chosen, _decode_cursor(params.after) if params.after else b"", params.most)
    return Pictures(
        total=catalogue.pictures.count_selected(chosen),
        pictures=[picture_out(listed) for listed in found],
        next=base64.urlsafe_b64encode(found[-1].path).decode() if len(found) == params.most else None,
    )


@router.get("/pictures/{picture}")
def picture(picture: Id, state: State) -> PictureOut:
    """What is known of an indexed picture."""
    return picture_out(state.service.find_picture(picture))


@router.get("/pictures/{picture}/image", response_class=Response, responses=_JPEG)
async def image(picture: Id, state: State, side: SideParam = ImageSide.medium, version: Version = None) -> Response:
    """An indexed picture as a JPEG, upright, no larger than asked for; its file itself is never sent."""
    with state.image_limit.slot():
        known = state.images.get(version, side) if version else None
        if known is None:
            listed = await state.service.run_in_thread(state.service.find_picture, picture)
            known = await _render_image(state, picture_location(listed), version_of(listed), side)
            version = version if version == version_of(listed) else None
        return _jpeg(known, cacheable=version is not None)


@router.get("/uploads/{upload}/image", response_class=Response, responses=_JPEG)
async def uploaded_image(
    upload: UploadName, state: State, side: SideParam = ImageSide.medium, version: Version = None
) -> Response:
    """An upload as a JPEG."""
    with state.image_limit.slot():
        return _jpeg(await _render_image(state, state.uploads.find(upload), upload, side), cacheable=True)


@router.get("/duplicates", dependencies=[Depends(query_slot)])
async def duplicates(params: Annotated[DuplicateParams, Query()], state: State) -> DuplicatesOut:
    """Find pictures that are there more than once: equal files, and the same photograph saved anew."""
    service = state.service
    among = await service.run_in_thread(state.resolve_filters, params)
    rules = DuplicateRules(None if params.identical else params.near or MIN_AGREEMENT, params.alike, among)
    return await service.call_slowly(lambda: _find_duplicates(service.engine, rules, params.most))


@public_router.head("/health", include_in_schema=False)
@public_router.get("/health")
def health(state: State) -> Health:
    """Whether the server runs and its store can be read. Needs no token."""
    state.service.engine.catalogue.pictures.count()
    return Health()


def _find_duplicates(engine: Engine, rules: DuplicateRules, most: int) -> DuplicatesOut:
    found = engine.duplicates(rules)
    told = found.groups[:most]
    listed = engine.catalogue.pictures.get_many([member.id for group in told for member in group.members])
    return DuplicatesOut(
        groups=[
            DuplicateGroup(
                kind=group.kind.value,
                pictures=[
                    DuplicatePicture(
                        picture=picture_out(listed[member.id]),
                        kind=member.kind.value if member.kind else None,
                        similarity=member.similarity,
                    )
                    for member in group.members
                    if member.id in listed
                ],
            )
            for group in told
        ],
        total=len(found.groups),
        spare=found.spare,
        spare_bytes=found.spare_bytes,
        unread=len(found.unread),
        seconds=found.seconds,
    )


async def _render_image(state: ServerState, file: PictureLocation, version: str, side: int) -> bytes:
    loop = asyncio.get_running_loop()
    return await loop.run_in_executor(state.image_threads, state.images.make, file, version, side)


def _jpeg(image: bytes, cacheable: bool) -> Response:
    headers = {"cache-control": _IMMUTABLE} if cacheable else None
    return Response(image, media_type="image/jpeg", headers=headers)


def _decode_cursor(after: str) -> bytes:
    try:
        return base64.b64decode(after, altchars=b"-_", validate=True)
    except (binascii.Error, ValueError) as error:
        raise RequestRefused(
            HTTPStatus.UNPROCESSABLE_ENTITY, "`after` must be the `next` of the part before"
        ) from error


def _indexing(state: ServerState) -> Indexing | None:
    found = read_progress(state.service.engine.catalogue)
    if found is not None:
        return Indexing(done=found.done, total=found.total, seconds=time.time() - found.began)
    return Indexing(done=0, total=None, seconds=0) if state.indexer.is_running else None
