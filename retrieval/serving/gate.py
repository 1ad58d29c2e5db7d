"""A bound on what is in work at once: past it a request is told to come again, so that memory never grows."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus

from retrieval.serving.terms import Refused

RETRY_AFTER = 1
"""Seconds after which a refused request may come again."""


class Gate:
    """Lets so many in at once. Used by one event loop, so it needs no lock."""

    def __init__(self, most: int, retry_after: int = RETRY_AFTER) -> None:
        self.most = most
        self._retry_after = retry_after
        self.inside = 0

    @contextmanager
    def entered(self) -> Iterator[None]:
        """A place inside, until this ends. Raises Refused where there is none."""
        if self.inside >= self.most:
            raise Refused(
                HTTPStatus.SERVICE_UNAVAILABLE,
                f"{self.most} requests are in work already: ask again in a moment",
                self._retry_after,
            )
        self.inside += 1
        try:
            yield
        finally:
            self.inside -= 1
