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
from retrieval.server.contract.requests import Doubled, Id, Looking, Side, UploadName
from retrieval.server.contract.responses import (
    Copies,
    Copy,
    Doubles,
    Gallery,
    Health,
    Indexing,
    Picture,
    Pictures,
    Status,
    picture_out,
    version_of,
)
from retrieval.server.errors import Refused
from retrieval.server.services.queries import path_of
from retrieval.server.state import Holding, held, place
from retrieval.sources.location import Place
from retrieval.store.duplicates.search import NEAR, Rules
from retrieval.store.indexing.progress import read_under_way

router = APIRouter(prefix="/api", tags=["browsing"])
open_router = APIRouter(tags=["running"])

Here = Annotated[Holding, Depends(held)]
Wide = Annotated[Side, Query(description="The longest side in pixels.")]
Version = Annotated[str | None, Query(max_length=64, description="With the one that was told, it is kept for long.")]

MOST_FOLDERS = 2000
_FOR_LONG = "private, max-age=31536000, immutable"
_JPEG: dict[int | str, dict[str, Any]] = {200: {"content": {"image/jpeg": {}}}}


@router.get("/status")
def status(here: Here) -> Status:
    """What the store holds."""
    engine = here.service.engine
    catalogue = engine.catalogue
    counts = catalogue.counts()
    return Status(
        model=engine.bundle.card.name,
        fingerprint=engine.bundle.fingerprint,
        calibrated=engine.calibration is not None,
        pictures=sum(count.pictures for count in counts),
        galleries=[
            Gallery(folder=safe_name(count.root), pictures=count.pictures, missing=count.missing) for count in counts
        ],
        labels=[safe_name(label) for label in catalogue.labels()],
        failed=len(catalogue.failures()),
        indexing=_indexing(here),
        indexing_error=here.indexer.error and safe_name(here.indexer.error),
        methods=[str(method) for method in MethodName],
        slow_methods=sorted(map(str, SLOW_METHODS)),
        default_method=str(DEFAULT_METHOD),
    )


@router.post("/index", status_code=HTTPStatus.ACCEPTED)
def bring_up_to_date(here: Here) -> Status:
    """Take new and changed pictures of the known galleries into the store; /api/status tells how far it is."""
    here.indexer.start()
    return status(here)


@router.get("/folders")
def folders(here: Here) -> list[str]:
    """The folders that hold pictures, as filters take them; at most 2,000."""
    return [safe_name(folder) for folder in here.folders()[:MOST_FOLDERS]]


@router.get("/pictures")
def pictures(wanted: Annotated[Looking, Query()], here: Here) -> Pictures:
    """Look through the gallery, in the order of paths."""
    catalogue = here.service.engine.catalogue
    chosen = here.selected(wanted)
    found = catalogue.listed(chosen, _path(wanted.after) if wanted.after else b"", wanted.most)
    return Pictures(
        total=catalogue.count_selected(chosen),
        pictures=[picture_out(listed) for listed in found],
        next=base64.urlsafe_b64encode(found[-1].path).decode() if len(found) == wanted.most else None,
    )


@router.get("/pictures/{picture}")
def picture(picture: Id, here: Here) -> Picture:
    """What is known of an indexed picture."""
    return picture_out(here.service.listed(picture))


@router.get("/pictures/{picture}/image", response_class=Response, responses=_JPEG)
async def image(picture: Id, here: Here, side: Wide = Side.medium, version: Version = None) -> Response:
    """An indexed picture as a JPEG, upright, no larger than asked for; its file itself is never sent."""
    with here.images_gate.entered():
        known = here.images.kept(version, side) if version else None
        if known is None:
            listed = await here.service.in_thread(here.service.listed, picture)
            known = await _drawn(here, path_of(listed), version_of(listed), side)
            version = version if version == version_of(listed) else None
        return _jpeg(known, kept=version is not None)


@router.get("/uploads/{upload}/image", response_class=Response, responses=_JPEG)
async def uploaded_image(upload: UploadName, here: Here, side: Wide = Side.medium, version: Version = None) -> Response:
    """An upload as a JPEG."""
    with here.images_gate.entered():
        return _jpeg(await _drawn(here, here.uploads.find(upload), upload, side), kept=True)


@router.get("/duplicates", dependencies=[Depends(place)])
async def duplicates(wanted: Annotated[Doubled, Query()], here: Here) -> Doubles:
    """Find pictures that are there more than once: equal files, and the same photograph saved anew."""
    service = here.service
    among = await service.in_thread(here.selected, wanted)
    rules = Rules(None if wanted.identical else wanted.near or NEAR, wanted.alike, among)
    return await service.call_slowly(lambda: _doubles(service.engine, rules, wanted.most))


@open_router.head("/health", include_in_schema=False)
@open_router.get("/health")
def health(here: Here) -> Health:
    """Whether the server runs and its store can be read. Needs no token."""
    here.service.engine.catalogue.count()
    return Health()


def _doubles(engine: Engine, rules: Rules, most: int) -> Doubles:
    found = engine.duplicates(rules)
    told = found.groups[:most]
    listed = engine.catalogue.pictures([member.id for group in told for member in group.members])
    return Doubles(
        groups=[
            Copies(
                kind=group.kind.value,
                pictures=[
                    Copy(
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


async def _drawn(here: Holding, file: Place, version: str, side: int) -> bytes:
    loop = asyncio.get_running_loop()
    return await loop.run_in_executor(here.drawers, here.images.make, file, version, side)


def _jpeg(image: bytes, kept: bool) -> Response:
    headers = {"cache-control": _FOR_LONG} if kept else None
    return Response(image, media_type="image/jpeg", headers=headers)


def _path(after: str) -> bytes:
    try:
        return base64.b64decode(after, altchars=b"-_", validate=True)
    except (binascii.Error, ValueError) as error:
        raise Refused(HTTPStatus.UNPROCESSABLE_ENTITY, "`after` must be the `next` of the part before") from error


def _indexing(here: Holding) -> Indexing | None:
    found = read_under_way(here.service.engine.catalogue)
    if found is not None:
        return Indexing(done=found.done, total=found.total, seconds=time.time() - found.began)
    return Indexing(done=0, total=None, seconds=0) if here.indexer.is_running else None
