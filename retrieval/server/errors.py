"""The errors of the API: each answer is one sentence under `error`."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from indexes.errors import StoreError
from retrieval.common.errors import RetrievalError
from retrieval.common.text import safe_name
from retrieval.server.contract.responses import Problem

PROBLEM_RESPONSES: dict[int | str, dict[str, Any]] = {
    status: {"model": Problem, "description": description}
    for status, description in (
        (400, "The body is empty, or a form without a file."),
        (401, "The token is missing or wrong."),
        (403, "The request comes from a page of another site."),
        (404, "There is no such picture."),
        (409, "Indexing is running already."),
        (408, "The picture took too long to arrive."),
        (413, "The picture's file is too large."),
        (415, "The body is compressed."),
        (422, "The picture or a value cannot be used."),
        (503, "Too many requests are in work: repeat it after the seconds in Retry-After."),
        (507, "The server's disk has no room for it."),
    )
}


class RequestRefused(RetrievalError):
    """A request that is not answered, with an HTTP status and one sentence that says why and what to do."""

    def __init__(self, status: HTTPStatus, sentence: str, retry_after: int | None = None) -> None:
        super().__init__(sentence)
        self.status = status
        self.retry_after = retry_after


def refusal_response(refusal: RequestRefused) -> Response:
    """Return the answer to a refused request."""
    headers = {} if refusal.retry_after is None else {"retry-after": str(refusal.retry_after)}
    if refusal.status == HTTPStatus.UNAUTHORIZED:
        headers["www-authenticate"] = "Bearer"
    return _problem(refusal.status, str(refusal), headers)


def explain_errors(app: FastAPI) -> None:
    """Answer every error with one sentence under `error`."""
    for kind in (RetrievalError, StoreError, RequestValidationError, HTTPException, Exception):
        app.add_exception_handler(kind, _error_response)


def _error_response(request: Request, error: Exception) -> Response:
    match error:
        case RequestRefused():
            return refusal_response(error)
        case RetrievalError():
            return _problem(HTTPStatus.UNPROCESSABLE_ENTITY, safe_name(str(error)))
        case StoreError():
            return _problem(HTTPStatus.INTERNAL_SERVER_ERROR, safe_name(str(error)))
        case RequestValidationError():
            first = error.errors()[0]
            field = ".".join(map(str, first["loc"][1:]))
            message = first["msg"].removeprefix("Value error, ")
            return _problem(HTTPStatus.UNPROCESSABLE_ENTITY, safe_name(f"{field}: {message}" if field else message))
        case HTTPException():
            return _problem(error.status_code, f"{error.detail}: see /docs for the API", error.headers)
        case _:
            return _problem(HTTPStatus.INTERNAL_SERVER_ERROR, "the server has a fault, which is in its log: report it")


def _problem(status: int, sentence: str, headers: Mapping[str, str] | None = None) -> JSONResponse:
    return JSONResponse({"error": sentence}, status, headers)
