"""The picture in a request's body: the body as it is, or the file of a form."""

from collections.abc import AsyncIterator
from http import HTTPStatus
from typing import Any

from retrieval.server.errors import RequestRefused

_HOW = "send a picture's bytes as the body (curl --data-binary @photo.jpg) or as a form (curl -F file=@photo.jpg)"
_CURL_D = "if curl sent it by -d, which changes the bytes, use --data-binary @photo.jpg or -F file=@photo.jpg"


async def picture_bytes(body: AsyncIterator[bytes], content_type: str) -> AsyncIterator[bytes]:
    """Yield the bytes of the picture in a body as they arrive. Raises RequestRefused."""
    if not is_form(content_type):
        async for chunk in body:
            yield chunk
        return
    form = _Form(content_type)
    async for chunk in body:
        for part in form.file_bytes(chunk):
            yield part
    form.require_end()


def is_form(content_type: str) -> bool:
    """Return whether a body is a form, as `curl -F` and the forms of web pages send it."""
    return content_type.strip().lower().startswith("multipart/")


def how_to_send(content_type: str, head: bytes) -> str | None:
    """Return how to send a picture, if what came in its place says that this was not known."""
    if content_type.strip().lower().startswith("application/x-www-form-urlencoded") and not head.isascii():
        return _CURL_D
    return f"that is text: {_HOW}" if head.isascii() and b"\0" not in head else None


class _Form:
    """A form that arrives in pieces. Its only part must be a file."""

    def __init__(self, content_type: str) -> None:
        from python_multipart.multipart import MultipartParser, parse_options_header

        boundary = parse_options_header(content_type)[1].get(b"boundary")
        if not boundary or len(boundary) > 70:  # as RFC 2046 has it
            raise _refusal(f"the form has no boundary in its Content-Type: {_HOW}")
        self._options = parse_options_header
        self._header, self._value = b"", b""
        self._parts: list[bytes] = []
        self._files = 0
        self._has_ended = False
        calls: dict[str, Any] = {
            "on_header_field": self._add_to_header,
            "on_header_value": self._add_to_value,
            "on_header_end": self._end_header,
            "on_headers_finished": self._begin_part,
            "on_part_data": lambda data, start, end: self._parts.append(bytes(data[start:end])),
            "on_end": self._end,
        }
        self._disposition = b""
        self._parser = MultipartParser(boundary, calls)

    def file_bytes(self, chunk: bytes) -> list[bytes]:
        """Return what a piece of the body has of the file."""
        from python_multipart.exceptions import FormParserError

        self._parts = []
        try:
            self._parser.write(chunk)
        except FormParserError as error:
            raise _refusal(f"the form is damaged: {_HOW}") from error
        return self._parts

    def require_end(self) -> None:
        """Raise RequestRefused if the form is not whole, or has no file."""
        if not self._has_ended:
            raise _refusal("the form did not arrive whole: send it again")
        if not self._files:
            raise _refusal(f"the form has no file: {_HOW}")

    def _add_to_header(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def _add_to_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _end_header(self) -> None:
        if self._header.lower() == b"content-disposition":
            self._disposition = self._value
        self._header, self._value = b"", b""

    def _begin_part(self) -> None:
        options = self._options(self._disposition.decode("latin-1"))[1]
        self._disposition = b""
        if b"filename" not in options:
            name = options.get(b"name", b"").decode("utf-8", "replace")[:40]
            raise _refusal(f"the form has a field {name!r}: only a file goes there, and options go in the address")
        self._files += 1
        if self._files > 1:
            raise _refusal("the form has several files: send one picture a request")

    def _end(self) -> None:
        self._has_ended = True


def _refusal(sentence: str) -> RequestRefused:
    return RequestRefused(HTTPStatus.BAD_REQUEST, sentence)
