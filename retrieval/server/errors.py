"""A request that is refused."""

from __future__ import annotations

from http import HTTPStatus

from retrieval.common.errors import RetrievalError


class RequestRefused(RetrievalError):
    """A request that is not answered: the HTTP status, and one sentence that says why and what to do."""

    def __init__(self, status: HTTPStatus, sentence: str, retry_after: int | None = None) -> None:
        super().__init__(sentence)
        self.status = status
        self.retry_after = retry_after
