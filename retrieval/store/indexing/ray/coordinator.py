"""The desk between workers and the driver: an actor where they ask, and the driver, who has the store, answers."""

from __future__ import annotations

import asyncio
from typing import Any

ClaimRequest = tuple[int, list[bytes]]
"""A block's number and the hashes of its contents."""


class Coordinator:
    """Lies beside the driver on its machine; all its calls run in one event loop."""

    def __init__(self) -> None:
        self._requests: list[tuple[ClaimRequest, asyncio.Future[list[bool]]]] = []
        self._taken: list[asyncio.Future[list[bool]]] = []
        self._is_any = asyncio.Event()
        self._enrolled: list[Any] = []

    async def enrol(self, worker: Any) -> None:
        """For a worker: gives a handle of itself."""
        self._enrolled.append(worker)

    async def enrolled(self) -> list[Any]:
        """For the driver: the workers of the execution that has ended, which are forgotten."""
        enrolled, self._enrolled = self._enrolled, []
        return enrolled

    async def ask(self, number: int, contents: list[bytes]) -> list[bool]:
        """For a worker: which of these contents it is to embed."""
        reply: asyncio.Future[list[bool]] = asyncio.get_running_loop().create_future()
        self._requests.append(((number, contents), reply))
        self._is_any.set()
        return await reply

    async def questions(self, replies: list[list[bool]]) -> list[ClaimRequest]:
        """For the driver: gives its replies to the questions that it had last, and takes the next, at least one."""
        for reply, waiting in zip(replies, self._taken, strict=True):
            if not waiting.done():  # whoever asked may be gone
                waiting.set_result(reply)
        self._taken = []
        await self._is_any.wait()
        self._is_any.clear()
        asked, self._requests = self._requests, []
        self._taken = [waiting for _, waiting in asked]
        return [question for question, _ in asked]
