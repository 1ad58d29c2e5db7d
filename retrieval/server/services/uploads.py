"""Pictures that clients send, kept in a folder under the hash of their content; the oldest are dropped first."""

import asyncio
import hashlib
import os
import stat
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from http import HTTPStatus
from pathlib import Path
from typing import BinaryIO

from starlette.requests import ClientDisconnect

from indexes.atomic_files import move_into_place
from retrieval.server.errors import RequestRefused
from retrieval.server.services.arrivals import Arrival, Arrivals

MAX_STORED_BYTES = 1_000_000_000
"""How much is kept; links to older uploads then ask for the picture again."""

LEAST_ARRIVING = 8
"""How many pictures may arrive at once, however short the queue is."""

_UNFINISHED = "coming-"
_ABANDONED_SECONDS = 3600.0  # after which a picture that has not arrived whole was left by a process that died


class Uploads:
    """Files in a folder, which several processes may share. An upload's name is the SHA-256 of its bytes, in hex.

    The event loop never waits for the disk: files are made, written, renamed and deleted by other threads.
    """

    def __init__(
        self, folder: Path, max_upload: int, max_bytes: int = MAX_STORED_BYTES, most_arriving: int = LEAST_ARRIVING
    ) -> None:
        self.folder = folder
        self.max_upload = max_upload
        self._max_bytes = max_bytes
        self._arrivals = Arrivals(most_arriving)

    async def receive(self, body: AsyncIterator[bytes], declared: int | None, client: str = "") -> Path:
        """Write a picture's bytes to the folder as they arrive; return its file. Raises RequestRefused."""
        if declared is not None and declared > self.max_upload:
            raise self._too_large()
        try:
            async with asyncio.timeout(None) as timeout:
                with self._arrivals.room(client, timeout) as arrival:
                    return await self._store(_noted(body, arrival))
        except ClientDisconnect as error:
            raise RequestRefused(HTTPStatus.BAD_REQUEST, "the picture did not arrive whole: send it again") from error
        except TimeoutError as error:
            raise RequestRefused(
                HTTPStatus.REQUEST_TIMEOUT, "the picture took too long to arrive: send it again"
            ) from error
        except OSError as error:
            raise RequestRefused(
                HTTPStatus.INSUFFICIENT_STORAGE,
                f"the picture cannot be kept ({error.strerror}): make room where the server keeps uploads,"
                " or start it with another folder for --uploads",
            ) from error

    async def find(self, name: str) -> Path:
        """Return an upload's file, which counts as used now. Raises RequestRefused if it is not there."""
        return await asyncio.to_thread(self._find, name)

    async def head(self, file: Path) -> bytes:
        """Return the first bytes of a file."""
        return await asyncio.to_thread(_head, file)

    async def delete(self, file: Path) -> None:
        """Delete a file, if it is there."""
        await asyncio.to_thread(file.unlink, missing_ok=True)

    def _find(self, name: str) -> Path:
        file = self.folder / name
        if not (_is_name(name) and _is_regular(file)):
            raise RequestRefused(HTTPStatus.NOT_FOUND, "that picture is no longer kept here: drop it again")
        with suppress(OSError):  # dropped meanwhile, which is reported when it is opened
            os.utime(file)
        return file

    async def _store(self, body: AsyncIterator[bytes]) -> Path:
        """Raise RequestRefused, ClientDisconnect, TimeoutError or OSError, and then leave nothing."""
        first = await anext(body, b"")  # before the disk is waited for: what has come already counts
        handle, work = await asyncio.to_thread(tempfile.mkstemp, dir=self.folder, prefix=_UNFINISHED)
        try:
            file = os.fdopen(handle, "wb")
            try:
                name, size = await self._write(_joined(first, body), file)
            finally:
                await asyncio.to_thread(file.close)
            if not size:
                raise RequestRefused(
                    HTTPStatus.BAD_REQUEST, "no picture came: send a picture's bytes as the request's body"
                )
            await asyncio.to_thread(move_into_place, Path(work), self.folder / name)
            await asyncio.to_thread(self._drop_oldest, name)
            return self.folder / name
        finally:
            await self.delete(Path(work))

    async def _write(self, body: AsyncIterator[bytes], file: BinaryIO) -> tuple[str, int]:
        digest, size = hashlib.sha256(), 0
        async for chunk in body:
            size += len(chunk)
            if size > self.max_upload:
                raise self._too_large()
            digest.update(chunk)
            await asyncio.to_thread(file.write, chunk)
        return digest.hexdigest(), size

    def _too_large(self) -> RequestRefused:
        return RequestRefused(
            HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
            f"the picture has more than {self.max_upload / 1e6:,.0f} MB: send a smaller one,"
            " or start the server with a larger --max-upload",
        )

    def _drop_oldest(self, protected: str) -> None:
        """Delete the uploads used least recently until the limit holds; other processes may do so at the same time."""
        files = sorted(self._files(), key=lambda file: (file[0] == protected, file[1].st_mtime_ns))
        total = sum(status.st_size for _, status in files)
        for name, status in files:
            if total <= self._max_bytes or name == protected:
                return
            total -= status.st_size
            with suppress(PermissionError):  # Windows deletes no file that is being read: the next upload does
                (self.folder / name).unlink(missing_ok=True)

    def _files(self) -> Iterator[tuple[str, os.stat_result]]:
        """Yield the uploads; delete pictures that will never arrive whole."""
        for entry in os.scandir(self.folder):
            with suppress(FileNotFoundError):  # another process has dropped it
                status = entry.stat(follow_symlinks=False)
                if not stat.S_ISREG(status.st_mode):
                    continue
                if _is_name(entry.name):
                    yield entry.name, status
                elif entry.name.startswith(_UNFINISHED) and time.time() - status.st_mtime > _ABANDONED_SECONDS:
                    os.unlink(entry.path)


async def _noted(body: AsyncIterator[bytes], arrival: Arrival) -> AsyncIterator[bytes]:
    async for chunk in body:
        arrival.add(len(chunk))
        yield chunk


async def _joined(first: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield first
    async for chunk in rest:
        yield chunk


def _head(file: Path) -> bytes:
    with file.open("rb") as opened:
        return opened.read(64)


def _is_regular(file: Path) -> bool:
    try:
        return stat.S_ISREG(file.lstat().st_mode)
    except OSError:
        return False


def _is_name(name: str) -> bool:
    return len(name) == 64 and not set(name) - set("0123456789abcdef")
