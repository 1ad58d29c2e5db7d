"""What a web server sends, never more than was asked for; and what its page of a folder leads to."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from html.parser import HTMLParser
from threading import Event
from typing import Any
from urllib.parse import urljoin

from fsspec.asyn import sync

from retrieval.common.errors import PictureError

_PAGE_BYTES = 2**28
_MIN_RATE, _BASE_TIMEOUT = 20_000, 60.0  # bytes a second, and the seconds that any answer may take beside
_CHUNK = 2**16


def read_info(system: Any, address: str) -> dict[str, Any]:
    """What fsspec makes of the headers that a server sends for an address. Raises what aiohttp and fsspec raise."""
    found: dict[str, Any] = sync(system.loop, _read_info, system, address)
    return found


async def _read_info(system: Any, address: str) -> Any:
    async with asyncio.timeout(_BASE_TIMEOUT):
        return await system._info(address)


def read_body(system: Any, address: str, most: int, start: int | None = None, size: int | None = None) -> bytes:
    """What lies at an address, or `size` bytes of it from `start` on, where no more than `most` come.

    A server may send the whole of a file of which a part was asked for. Raises PictureError, and what aiohttp raises.
    """
    answer: bytes = sync(system.loop, _read_body, system, address, most, start, size)
    return answer


async def _read_body(system: Any, address: str, most: int, start: int | None, size: int | None) -> bytes:
    if start is None or size is None:
        async with _open_response(system, address) as (_, chunks):
            return await _collect(chunks, most)
    async with _open_response(system, address, Range=f"bytes={start}-{start + size - 1}") as (status, chunks):
        if status == 206:
            return await _collect(chunks, size)
        whole = await _collect(chunks, most, start + size)
        return whole[start:]


def download_http(system: Any, address: str, file: str, cancelled: Event) -> None:
    """Write what lies at an address into a file. Raises as `body` does, and PictureError once `is_over` is set."""
    sync(system.loop, _download, system, address, file, cancelled)


async def _download(system: Any, address: str, file: str, cancelled: Event) -> None:
    with open(file, "wb") as copied:
        async with _open_response(system, address) as (_, chunks):
            async for chunk in chunks:
                if cancelled.is_set():
                    raise PictureError("is not waited for any more")
                copied.write(chunk)


@asynccontextmanager
async def _open_response(system: Any, address: str, **headers: str) -> AsyncIterator[tuple[int, AsyncIterator[bytes]]]:
    """An answer's status, and what it brings, which must not come slower than the slowest that is waited for."""
    headers["Accept-Encoding"] = "identity"  # what is packed may be of any size
    session = await system.set_session()
    async with (
        asyncio.timeout(_BASE_TIMEOUT) as deadline,
        session.get(system.encode_url(address), headers=headers) as response,
    ):
        if response.status in (404, 410):
            raise FileNotFoundError(address)
        response.raise_for_status()
        yield response.status, _chunks(response, deadline)


async def _chunks(response: Any, deadline: asyncio.Timeout) -> AsyncIterator[bytes]:
    until = deadline.when()
    assert until is not None
    async for chunk in response.content.iter_chunked(_CHUNK):
        until += len(chunk) / _MIN_RATE
        deadline.reschedule(until)
        yield chunk


async def _collect(chunks: AsyncIterator[bytes], most: int, prefix_size: int | None = None) -> bytes:
    """All of an answer, or what is `wanted` of its beginning. Raises PictureError where that is more than `most`."""
    received = bytearray()
    async for chunk in chunks:
        received += chunk
        if prefix_size is not None and len(received) >= prefix_size:
            return bytes(received[:prefix_size])
        if len(received) > most:
            raise PictureError(f"is more than the {most / 1e9:.1f} GB that are fetched")
    return bytes(received)


def links(system: Any, folder: str) -> list[str]:
    """The addresses that a folder's page leads to. Raises as `body` does."""
    page = _LinkParser()
    page.feed(read_body(system, f"{folder}/", _PAGE_BYTES).decode("utf-8", "surrogateescape"))
    return [address for link in page.hrefs if (address := _join(f"{folder}/", link))]


class _LinkParser(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.hrefs: list[str] = []

    def parse_marked_section(self, i: int, report: bool = True) -> int:
        """Reads on after `<![if …]>`, at which the standard library gives up, as after a comment."""
        return self.parse_bogus_comment(i)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "a":
            self.hrefs += [value.strip() for name, value in attrs if name == "href" and value]


def _join(page: str, link: str) -> str:
    try:
        return urljoin(page, link)
    except ValueError:  # no address
        return ""
