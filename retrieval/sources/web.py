"""Bounded downloads from web servers, and the links of their pages of folders."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from functools import wraps
from html.parser import HTMLParser
from threading import Event
from typing import Any, Concatenate, ParamSpec, TypeVar
from urllib.parse import urljoin

from fsspec.asyn import sync

from retrieval.common.errors import PictureError

P = ParamSpec("P")
T = TypeVar("T")

_PAGE_BYTES = 2**28  # of a folder's page, at most
_MIN_RATE, _BASE_TIMEOUT = 20_000, 60.0  # bytes a second, and the seconds that any response may take besides
_CHUNK = 2**16


def _synchronous(function: Callable[Concatenate[Any, P], Coroutine[Any, Any, T]]) -> Callable[Concatenate[Any, P], T]:
    """Run a coroutine function of a file system on fsspec's event loop, and wait for its result."""

    @wraps(function)
    def call(system: Any, /, *args: P.args, **kwargs: P.kwargs) -> T:
        result: T = sync(system.loop, function, system, *args, **kwargs)
        return result

    return call


@_synchronous
async def read_info(system: Any, address: str) -> Any:
    """Return what fsspec makes of a server's headers for an address. Raises what aiohttp and fsspec raise."""
    async with asyncio.timeout(_BASE_TIMEOUT):
        return await system._info(address)


@_synchronous
async def read_body(system: Any, address: str, most: int, start: int | None = None, size: int | None = None) -> bytes:
    """Fetch an address, or `size` bytes of it from `start` on, but no more than `most` bytes.

    A server may send the whole file instead of the range. Raises PictureError, and what aiohttp raises.
    """
    if start is None or size is None:
        async with _open_response(system, address) as (_, chunks):
            return await _collect(chunks, most)
    async with _open_response(system, address, Range=f"bytes={start}-{start + size - 1}") as (status, chunks):
        if status == 206:
            return await _collect(chunks, size)
        whole = await _collect(chunks, most, start + size)
        return whole[start:]


@_synchronous
async def download_http(system: Any, address: str, file: str, cancelled: Event) -> None:
    """Download an address into a file. Raises as `read_body` does, and PictureError once `cancelled` is set."""
    with open(file, "wb") as out:
        async with _open_response(system, address) as (_, chunks):
            async for chunk in chunks:
                if cancelled.is_set():
                    raise PictureError("is no longer needed")
                out.write(chunk)


@asynccontextmanager
async def _open_response(system: Any, address: str, **headers: str) -> AsyncIterator[tuple[int, AsyncIterator[bytes]]]:
    """Open a response; yields its status and chunks. Raises TimeoutError if they come slower than `_MIN_RATE`."""
    headers["Accept-Encoding"] = "identity"  # a compressed body may be of any size
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
    """Return a response's bytes, or the first `prefix_size`. Raises PictureError if they are more than `most`."""
    received = bytearray()
    async for chunk in chunks:
        received += chunk
        if prefix_size is not None and len(received) >= prefix_size:
            return bytes(received[:prefix_size])
        if len(received) > most:
            raise PictureError(f"is more than the {most / 1e9:.1f} GB that are read")
    return bytes(received)


def links(system: Any, folder: str) -> list[str]:
    """Return the addresses that a folder's page links to. Raises as `read_body` does."""
    page = _LinkParser()
    page.feed(read_body(system, f"{folder}/", _PAGE_BYTES).decode("utf-8", "surrogateescape"))
    addresses = []
    for link in page.hrefs:
        with suppress(ValueError):  # malformed
            addresses.append(urljoin(f"{folder}/", link))
    return addresses


class _LinkParser(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.hrefs: list[str] = []

    def parse_marked_section(self, i: int, report: bool = True) -> int:
        """Skip `<![if …]>` as a comment; the standard library stops parsing there."""
        return self.parse_bogus_comment(i)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "a":
            self.hrefs += [value.strip() for name, value in attrs if name == "href" and value]
