"""What a web server sends, never more than was asked for; and what its page of a folder leads to."""

from __future__ import annotations

import asyncio
from html.parser import HTMLParser
from typing import Any
from urllib.parse import urljoin

from fsspec.asyn import sync

from retrieval.errors import PictureError

_PAGE_BYTES = 2**28
_SLOWEST, _PATIENCE = 100_000, 60.0  # bytes a second, and the seconds that any answer may take beside
_CHUNK = 2**16


def body(system: Any, address: str, most: int, start: int | None = None, size: int | None = None) -> bytes:
    """What lies at an address, or `size` bytes of it from `start` on, where no more than `most` come.

    A server may send the whole of a file of which a part was asked for. Raises PictureError, and what aiohttp raises.
    """
    answer: bytes = sync(system.loop, _body, system, address, most, start, size)
    return answer


async def _body(system: Any, address: str, most: int, start: int | None, size: int | None) -> bytes:
    headers = {"Accept-Encoding": "identity"}  # what is packed may be of any size
    if start is not None and size is not None:
        headers["Range"] = f"bytes={start}-{start + size - 1}"
    session = await system.set_session()
    async with (
        asyncio.timeout(_PATIENCE + (size or most) / _SLOWEST),
        session.get(system.encode_url(address), headers=headers) as response,
    ):
        if response.status in (404, 410):
            raise FileNotFoundError(address)
        response.raise_for_status()
        if start is None or size is None:
            return await _received(response, most)
        if response.status == 206:
            return await _received(response, size)
        whole = await _received(response, most, start + size)
        return whole[start:]


async def _received(response: Any, most: int, wanted: int | None = None) -> bytes:
    """All of an answer, or what is `wanted` of its beginning. Raises PictureError where that is more than `most`."""
    received = bytearray()
    async for chunk in response.content.iter_chunked(_CHUNK):
        received += chunk
        if wanted is not None and len(received) >= wanted:
            return bytes(received[:wanted])
        if len(received) > most:
            raise PictureError(f"is more than the {most / 1e9:.1f} GB that are fetched")
    return bytes(received)


def links(system: Any, folder: str) -> list[str]:
    """The addresses that a folder's page leads to. Raises as `body` does."""
    page = _Links()
    page.feed(body(system, f"{folder}/", _PAGE_BYTES).decode("utf-8", "surrogateescape"))
    return [address for link in page.found if (address := _joined(f"{folder}/", link))]


class _Links(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "a":
            self.found += [value.strip() for name, value in attrs if name == "href" and value]


def _joined(page: str, link: str) -> str:
    try:
        return urljoin(page, link)
    except ValueError:  # no address
        return ""
