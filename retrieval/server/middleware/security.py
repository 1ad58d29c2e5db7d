"""Security checks of every request (host name, origin, token) and security headers of every answer.

A page of another site can make a browser send requests here, from its own pages or under a name that it points at
this machine (DNS rebinding), and a user of another machine can send them directly. None of them gets an answer.
"""

import asyncio
import hashlib
import hmac
import socket
import time
from collections.abc import Iterator
from contextlib import suppress
from http import HTTPStatus
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from retrieval.server.config import ServerConfig, is_loopback, parse_address
from retrieval.server.errors import RequestRefused, refusal_response

COOKIE = "retrieve_token"
_READ_SECONDS = 15.0  # for a client to read an answer, and more the longer it is
_READ_RATE = 10_000  # bytes a second
_PUBLIC = ("/health",)  # says no more than that the server runs
_FILES = ("/static/", "/swagger/")
_OWN_SITE = ("same-origin", "none")
_SAFE = ("GET", "HEAD", "OPTIONS")

_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self';"
    " manifest-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS = {
    "content-security-policy": _POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), microphone=(), geolocation=()",
}


class SecurityMiddleware:
    """ASGI middleware around the whole application."""

    def __init__(self, app: ASGIApp, config: ServerConfig) -> None:
        self._app = app
        self._config = config
        names = ["localhost", "127.0.0.1", "::1", config.host, *config.hosts]
        if not is_loopback(config.host):
            names.append(socket.gethostname())
        self._names = frozenset(name.lower() for name in names)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
            return
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        waited, sent = 0.0, 0  # seconds for the client to read, and bytes

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                answer = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    answer.setdefault(name, value)
                answer.setdefault("cache-control", "no-cache" if scope["path"].startswith(_FILES) else "no-store")
                if "://" in (location := answer.get("location", "")):  # of a path with or without its last slash
                    parts = urlsplit(location)
                    target = relative_address(_raw_path(scope), unquote(parts.path))
                    answer["location"] = target + (f"?{parts.query}" if parts.query else "")
                if headers.get("origin") in self._config.origins:
                    answer["cross-origin-resource-policy"] = "cross-origin"
            nonlocal waited, sent
            began = time.monotonic()
            try:
                async with asyncio.timeout(_READ_SECONDS + sent / _READ_RATE - waited):
                    await send(message)
            except TimeoutError as error:  # a client that does not read, or hardly, may not keep a slot
                raise ClientDisconnect from error
            waited += time.monotonic() - began
            sent += len(message.get("body", b""))

        try:
            self._check_host(headers)
            self._check_origin(scope, headers)
            if scope["path"] not in _PUBLIC and not self._has_token(scope, headers):
                parameters = dict(parse_qsl(scope["query_string"].decode("latin-1")))
                if scope["method"] == "GET" and self._is_token(parameters.pop("token", "")):
                    redirect = _redirect_with_cookie(scope, parameters, self._config.token or "")
                    await redirect(scope, receive, send_with_headers)
                    return
                raise RequestRefused(
                    HTTPStatus.UNAUTHORIZED,
                    "the token is missing or wrong: open the address that the server printed,"
                    " or send the header Authorization: Bearer TOKEN",
                )
        except RequestRefused as refusal:
            answer = refusal_response(refusal)
            answer.headers["connection"] = "close"
            await answer(scope, receive, send_with_headers)
            return
        with suppress(ClientDisconnect):
            await self._app(scope, receive, send_with_headers)

    def _check_host(self, headers: Headers) -> None:
        name = _host_name(headers.get("host", ""))
        if name not in self._names and not (self._config.token and parse_address(name)):
            raise RequestRefused(
                HTTPStatus.MISDIRECTED_REQUEST,
                "this server does not answer under that name: use the address that it printed, or start it with"
                " --allow-host NAME",
            )

    def _check_origin(self, scope: Scope, headers: Headers) -> None:
        """Refuse requests of another site's pages, except for a followed link."""
        origin, site = headers.get("origin"), headers.get("sec-fetch-site", "none")
        if origin in self._config.origins:
            return
        follows_link = (
            scope["method"] in _SAFE
            and not scope["path"].startswith("/api/")
            and headers.get("sec-fetch-mode") == "navigate"
            and headers.get("sec-fetch-dest", "document") == "document"
        )
        foreign = origin is not None and origin.partition("://")[2].lower() != headers.get("host", "").lower()
        if foreign or (site not in _OWN_SITE and not follows_link):
            raise RequestRefused(
                HTTPStatus.FORBIDDEN,
                "the request comes from a page of another site: start the server with --allow-origin SITE to allow it",
            )

    def _has_token(self, scope: Scope, headers: Headers) -> bool:
        if self._config.token is None:
            return True
        if scope["method"] == "OPTIONS" and headers.get("origin") in self._config.origins:
            return True  # a preflight request, which carries no token
        kind, _, bearer = headers.get("authorization", "").partition(" ")
        if kind.lower() == "bearer" and self._is_token(bearer.strip()):
            return True
        return any(self._is_token(each) for each in tokens_in_cookies(headers))

    def _is_token(self, given: str) -> bool:
        return hmac.compare_digest(given.encode(), (self._config.token or "").encode()) and bool(given)


def _redirect_with_cookie(scope: Scope, parameters: dict[str, str], token: str) -> Response:
    """Redirect to the address without its token, which is kept in a cookie.

    Both stay below the path that a proxy has this server at, which is not known here: the new address is relative, and
    the cookie is for the folder of the old one.
    """
    location = relative_address(_raw_path(scope), scope["path"])
    if parameters:
        location += f"?{urlencode(parameters)}"
    name = f"{COOKIE}_{hashlib.sha256(token.encode()).hexdigest()[:8]}"  # another server on this host has another one
    cookie = f"{name}={quote(token, safe='')}; HttpOnly; SameSite=Lax"  # Lax: links to here work
    if _raw_path(scope).count("/") > 1:
        cookie += "; Path=/"
    return RedirectResponse(location, HTTPStatus.SEE_OTHER, {"set-cookie": cookie})


def _raw_path(scope: Scope) -> str:
    """Return the path as the client wrote it."""
    raw = scope.get("raw_path")
    return raw.decode("latin-1") if raw else quote(scope["path"])


def relative_address(path: str, target: str) -> str:
    """Return the address of a path of this server, relative to another path, as the client wrote it."""
    return ("../" * (path.count("/") - 1) or "./") + quote(target.lstrip("/\\"))


def tokens_in_cookies(headers: Headers) -> Iterator[str]:
    """Yield the tokens in cookies, whatever other programs on this host have put beside them."""
    for pair in ";".join(headers.getlist("cookie")).split(";"):
        name, _, value = pair.strip().partition("=")
        if name.startswith(COOKIE):
            yield unquote(value.strip().strip('"'))


def _host_name(host: str) -> str:
    """Return the name in a Host header, without port and brackets."""
    try:
        return (urlsplit(f"//{host}").hostname or "").lower()
    except ValueError:
        return ""
