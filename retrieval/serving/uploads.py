"""Pictures that were asked with: kept in a folder under the hash of their content, the oldest dropped first."""

from __future__ import annotations

import asyncio
import hashlib
import os
import tempfile
from collections.abc import AsyncIterator
from http import HTTPStatus
from pathlib import Path
from typing import BinaryIO

from starlette.requests import ClientDisconnect

from retrieval.serving.terms import UPLOAD_SECONDS, Refused

KEPT_BYTES = 1_000_000_000
"""How much is kept; links to older uploads then ask for the picture again."""

_GONE = "that picture is no longer kept here: drop it again"


class Uploads:
    """Files in a folder that only this user can read. A picture is known by the SHA-256 of its bytes, in hex."""

    def __init__(self, folder: Path, max_upload: int, kept: int = KEPT_BYTES) -> None:
        self.folder = folder
        self.max_upload = max_upload
        self._kept = kept

    async def receive(self, body: AsyncIterator[bytes], declared: int | None) -> str:
        """Write a picture's bytes to the folder as they come; its name. Raises Refused."""
        if declared is not None and declared > self.max_upload:
            raise self._too_large()
        handle, work = tempfile.mkstemp(dir=self.folder, prefix="coming-")
        try:
            with os.fdopen(handle, "wb") as file:
                async with asyncio.timeout(UPLOAD_SECONDS):
                    name, size = await self._written(body, file)
            if not size:
                raise Refused(HTTPStatus.BAD_REQUEST, "no picture came: send a picture's bytes as the request's body")
            os.replace(work, self.folder / name)
        except ClientDisconnect as error:
            raise Refused(HTTPStatus.BAD_REQUEST, "the picture did not arrive whole: send it again") from error
        except TimeoutError as error:
            raise Refused(HTTPStatus.REQUEST_TIMEOUT, "the picture took too long to arrive: send it again") from error
        finally:
            Path(work).unlink(missing_ok=True)
        self._drop_oldest(name)
        return name

    def find(self, name: str) -> Path:
        """A kept picture's file. Raises Refused where it is not there."""
        file = self.folder / name
        try:
            if not _is_name(name):
                raise FileNotFoundError
            os.utime(file)  # used now, so not the oldest
        except FileNotFoundError as error:
            raise Refused(HTTPStatus.NOT_FOUND, _GONE) from error
        return file

    async def _written(self, body: AsyncIterator[bytes], file: BinaryIO) -> tuple[str, int]:
        digest, size = hashlib.sha256(), 0
        async for chunk in body:
            size += len(chunk)
            if size > self.max_upload:
                raise self._too_large()
            digest.update(chunk)
            file.write(chunk)
        return digest.hexdigest(), size

    def _too_large(self) -> Refused:
        return Refused(
            HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
            f"the picture has more than {self.max_upload / 1e6:,.0f} MB: send a smaller one,"
            " or start the server with a larger --max-upload",
        )

    def _drop_oldest(self, but: str) -> None:
        kept = sorted(
            ((entry.stat(), entry.path) for entry in os.scandir(self.folder) if _is_name(entry.name)),
            key=lambda each: (os.path.basename(each[1]) == but, each[0].st_mtime_ns),
        )[:-1]
        total = sum(stat.st_size for stat, _ in kept) + (self.folder / but).stat().st_size
        for stat, path in kept:
            if total <= self._kept:
                return
            total -= stat.st_size
            Path(path).unlink(missing_ok=True)


def _is_name(name: str) -> bool:
    return len(name) == 64 and not set(name) - set("0123456789abcdef")
