"""Gallery routes of the API: pictures, folders, duplicates, the store's status, and indexing."""

import asyncio
import base64
import time
from http import HTTPStatus
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request, Response

from retrieval.common.settings import DEFAULT_METHOD, SLOW_METHODS, MethodName
from retrieval.common.text import safe_name
from retrieval.engine import Engine
from retrieval.server.contract import responses as out
from retrieval.server.contract.requests import DuplicateParams, GalleryParams, Id, ImageSide, UploadName
from retrieval.server.errors import RequestRefused
from retrieval.server.state import ServerState, State, client_of, query_slot
from retrieval.sources.location import PictureLocation, parse_location
from retrieval.store.duplicates.search import MIN_AGREEMENT, DuplicateRules
from retrieval.store.indexing.progress import IndexingProgress

router = APIRouter(prefix="/api", tags=["browsing"])
public_router = APIRouter(tags=["running"])

SideParam = Annotated[ImageSide, Query(description="The longest side in pixels.")]
Version = Annotated[str | None, Query(max_length=64, description="If it is the current one, browsers keep the image.")]

MOST_FOLDERS = 2000
_JPEG: dict[int | str, dict[str, Any]] = {200: {"content": {"image/jpeg": {}}}}


@router.get("/status")
def status(state: State) -> out.Status:
    """Report what the store holds."""
    engine, indexer = state.service.engine, state.indexer.state()
    found = engine.status()
    return out.Status(
        model=engine.bundle.card.name,
        fingerprint=engine.bundle.fingerprint,
        similarity=found.similarity.description if found.similarity else "",
        calibrated=found.is_calibrated,
        pictures=found.pictures,
        galleries=[out.Gallery(**vars(count), folder=safe_name(count.root)) for count in found.galleries],
        labels=[safe_name(label) for label in found.labels],
        failed=found.failed,
        indexing=_indexing(found.progress, indexer.is_running),
        indexing_error=indexer.error and safe_name(indexer.error),
        methods=[str(method) for method in MethodName],
        slow_methods=sorted(map(str, SLOW_METHODS)),
        default_method=str(DEFAULT_METHOD),
    )


@router.post("/index", status_code=HTTPStatus.ACCEPTED)
def bring_up_to_date(state: State) -> out.Status:
    """Index new and changed pictures of the known galleries; /api/status reports the progress."""
    state.indexer.start()
    return status(state)


@router.get("/folders")
def folders(state: State) -> list[str]:
    """List the folders that have pictures, as filters take them; at most 2,000."""
    return [safe_name(folder) for folder in state.folders()[:MOST_FOLDERS]]


@router.get("/pictures")
def pictures(params: Annotated[GalleryParams, Query()], state: State) -> out.PicturesPage:
    """List the gallery's pictures in the order of paths."""
    catalogue = state.service.engine.catalogue
    selection = state.resolve_filters(params)
    after = _decode_cursor(params.after) if params.after else b""
    page = catalogue.pictures.page(selection, after, params.most)
    return out.PicturesPage(
        total=catalogue.pictures.count_selected(selection),
        pictures=[out.picture_out(details) for details in page],
        next=base64.urlsafe_b64encode(page[-1].path).decode() if len(page) == params.most else None,
    )


@router.get("/pictures/{picture}")
def picture(picture: Id, state: State) -> out.PictureOut:
    """Return the details of an indexed picture."""
    return out.picture_out(state.service.find_picture(picture))


@router.get("/pictures/{picture}/image", response_class=Response, responses=_JPEG)
async def image(
    request: Request, picture: Id, state: State, side: SideParam = ImageSide.medium, version: Version = None
) -> Response:
    """Send an indexed picture as a JPEG, upright, no larger than `side`; its file itself is never sent.

    It is sent only while the file is there and has the content that was indexed.
    """
    with state.image_limit.slot(client_of(request)):
        details = await asyncio.to_thread(state.service.find_picture, picture)
        jpeg = await _thumbnail(state, parse_location(details.path), details.hash, side)
        return _jpeg(request, jpeg, f"{version}-{side}" if version == out.version_of(details) else None)


@router.get("/uploads/{upload}/image", response_class=Response, responses=_JPEG)
async def uploaded_image(
    request: Request, upload: UploadName, state: State, side: SideParam = ImageSide.medium, version: Version = None
) -> Response:
    """Send an upload as a JPEG."""
    with state.image_limit.slot(client_of(request)):
        jpeg = await _thumbnail(state, await state.uploads.find(upload), bytes.fromhex(upload), side)
        return _jpeg(request, jpeg, f"{upload}-{side}")


@router.get("/duplicates", dependencies=[Depends(query_slot)])
async def duplicates(params: Annotated[DuplicateParams, Query()], state: State) -> out.DuplicatesOut:
    """Find duplicate pictures: equal files, and the same photograph saved anew."""
    service = state.service
    selection = await service.run_in_thread(state.resolve_filters, params)
    rules = DuplicateRules(None if params.identical else params.near or MIN_AGREEMENT, params.alike, selection)
    return await service.call_slowly(lambda: _find_duplicates(service.engine, rules, params.most))


@public_router.head("/health", include_in_schema=False)
@public_router.get("/health")
def health(state: State) -> out.Health:
    """Check that the server runs and its store can be read. Needs no token."""
    state.service.engine.catalogue.pictures.count()
    return out.Health()


def _find_duplicates(engine: Engine, rules: DuplicateRules, most: int) -> out.DuplicatesOut:
    duplicates = engine.duplicates(rules)
    groups = duplicates.groups[:most]
    details = engine.catalogue.pictures.get_many([member.id for group in groups for member in group.members])
    return out.DuplicatesOut(
        groups=[
            out.DuplicateGroup(
                kind=group.kind.value,
                pictures=[
                    out.DuplicatePicture(**vars(member), picture=out.picture_out(details[member.id]))
                    for member in group.members
                    if member.id in details
                ],
            )
            for group in groups
        ],
        total=len(duplicates.groups),
        spare=duplicates.spare,
        spare_bytes=duplicates.spare_bytes,
        unread=len(duplicates.unread),
        seconds=duplicates.seconds,
    )


async def _thumbnail(state: ServerState, file: PictureLocation, content: bytes, side: int) -> bytes:
    jpeg = await asyncio.to_thread(state.images.get, file, content, side)
    if jpeg is None:
        loop = asyncio.get_running_loop()
        jpeg = await loop.run_in_executor(state.image_threads, state.images.make, file, content, side)
    return jpeg


def _jpeg(request: Request, image: bytes, tag: str | None) -> Response:
    """Return the answer with an image; with a tag, browsers keep it, and ask whether it is still the same."""
    headers = {} if tag is None else {"cache-control": "private, no-cache", "etag": f'"{tag}"'}
    if tag is not None and request.headers.get("if-none-match") == headers["etag"]:
        return Response(status_code=HTTPStatus.NOT_MODIFIED, headers=headers)
    return Response(image, media_type="image/jpeg", headers=headers)


def _decode_cursor(after: str) -> bytes:
    try:
        return base64.b64decode(after, altchars=b"-_", validate=True)
    except ValueError as error:
        raise RequestRefused(
            HTTPStatus.UNPROCESSABLE_ENTITY, "`after` must be the `next` of the page before"
        ) from error


def _indexing(progress: IndexingProgress | None, is_running: bool) -> out.Indexing | None:
    if progress is not None:
        return out.Indexing(done=progress.done, total=progress.total, seconds=time.time() - progress.began)
    return out.Indexing(done=0, total=None, seconds=0) if is_running else None
