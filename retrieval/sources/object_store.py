"""What lies on object stores and web servers, through fsspec: asked again for a while where one does not answer."""

from __future__ import annotations

import random
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from functools import cache
from threading import Event, Lock
from typing import Any, NamedTuple, TypeVar

from retrieval.common.errors import GalleryError, PassingError, PictureError
from retrieval.sources.location import told_text

T = TypeVar("T")

PATIENCE = 15.0
"""Seconds for which a call is repeated that a server did not answer, or answered with an error of its own."""

MOST_BYTES = 2**30
"""A picture's file with more is not fetched: it would be held in memory."""

_TOLD = 120  # characters of a server's own words
_HUNG = 10.0  # seconds after which a first call that failed was waited for long enough
_SILENCE = 5.0  # seconds for which a server that was given up is not asked
_PAUSES = 0.25, 4.0  # seconds between two calls: at first, at most
_EXTRAS = {"s3": "s3", "gs": "gcs", "http": "http", "https": "http"}
_DEFINITE = (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError, UnicodeError)
_CREDENTIALS = "NoCredentialsError", "PartialCredentialsError", "ProfileNotFound"
_REFUSALS = (
    *_CREDENTIALS,
    "HttpError",
    "InvalidURL",
    "InvalidUrlClientError",
    "InvalidUrlRedirectClientError",
    "NonHttpUrlClientError",
    "NonHttpUrlRedirectClientError",
    "ParamValidationError",
)
_URL = re.compile(r""",? ?url=(?:'[^']*'|"[^"]*")|["']?[a-z]+://\S+""")  # which may have secrets, and is told beside
_VERSIONS = ("ETag", "etag", "generation", "md5Hash", "content_md5", "Content-MD5")
_LATEST = 2**63 / 10**9  # seconds
_BEGINNING, _MICROSECOND = datetime(1970, 1, 1, tzinfo=UTC), timedelta(microseconds=1)
_TIMES = ("LastModified", "Last-Modified", "last_modified", "mtime", "updated", "modified")


class Unreachable(PassingError):
    """What lies at an address cannot be had, as its server does not answer; `server` says which."""

    def __init__(self, server: str, reason: str) -> None:
        server = told_text(server)
        super().__init__(f"cannot be read: {server} does not answer ({reason})")
        self.server = server


@contextmanager
def answering() -> Iterator[None]:
    """Ends what is done in it with a GalleryError where a server does not answer: not one picture is at fault."""
    try:
        yield
    except Unreachable as error:
        reason = error.reason.removeprefix("cannot be read: ")
        remedy = "what was indexed stays, and the same command goes on where this one stopped"
        raise GalleryError(f"{reason}: {remedy}") from error


class Entry(NamedTuple):
    """A file or folder: its address, size in bytes (None: not told), mtime in nanoseconds (0: not told).

    `version` tells contents apart, such as an ETag; None where none was told.
    """

    address: str
    is_folder: bool
    size: int | None
    mtime: int
    version: str | None


def listed(folder: str) -> list[Entry]:
    """What lies directly in a folder. Raises PictureError, Unreachable among them, and GalleryError."""
    system = file_system(_scheme(folder))
    if is_web(folder):
        from retrieval.sources.web import links

        found = [_linked(address) for address in _asked(folder, lambda: links(system, folder))]
    else:
        found = [_entry(system, each) for each in _asked(folder, lambda: system.ls(f"{folder}/", detail=True))]
    unique = {entry.address: entry for entry in found}
    return [entry for entry in unique.values() if _lies_in(folder, entry.address)]


def examined(address: str) -> Entry:
    """What is told of one file. Raises PictureError, Unreachable among them, and GalleryError."""
    system = file_system(_scheme(address))
    return _entry(system, _asked(address, lambda: _info(system, address)))._replace(address=address)


def _info(system: Any, address: str) -> dict[str, Any]:
    if is_web(address):
        from retrieval.sources.web import told

        return told(system, address)
    found: dict[str, Any] = system.info(address)
    return found


def fetched(address: str, size: int | None = None, start: int | None = None) -> bytes:
    """A file's bytes, of which there are `size` (None: it is asked), or so many from `start` on.

    Raises PictureError, Unreachable among them.
    """
    system = file_system(_scheme(address))
    if size is None:
        size = examined(address).size
    if size is not None and size > MOST_BYTES:
        raise PictureError(f"has {size / 1e9:.1f} GB, more than the {MOST_BYTES / 1e9:.1f} that are fetched")
    if start is not None and size == 0:
        return b""  # of which no range can be asked for
    if is_web(address):
        from retrieval.sources.web import body

        return _asked(address, lambda: body(system, address, MOST_BYTES, start, size))
    if start is None:
        whole: bytes = _asked(address, lambda: system.cat_file(address))
        return whole
    assert size is not None
    part: bytes = _asked(address, lambda: system.cat_file(address, start=start, end=start + size))
    return part


def copied(address: str, file: str, is_over: Event) -> None:
    """Write a file's bytes into a local one, until nobody waits for it. Raises PictureError, Unreachable among them."""
    from fsspec.callbacks import Callback

    class Watch(Callback):  # type: ignore[misc]
        def relative_update(self, inc: int = 1) -> None:
            if is_over.is_set():
                raise PictureError("is not waited for any more")

    system = file_system(_scheme(address))
    if is_web(address):
        from retrieval.sources.web import copy

        _asked(address, lambda: copy(system, address, file, is_over))
    else:
        _asked(address, lambda: system.get_file(address, file, callback=Watch()))


def is_web(address: str) -> bool:
    """Whether a web server answers for it."""
    return address.startswith(("http://", "https://"))


def _scheme(address: str) -> str:
    return address.partition("://")[0]


@cache
def file_system(scheme: str) -> Any:
    """fsspec's file system of a scheme, which remembers no listings and leaves repeating to us."""
    import fsspec

    try:
        kind = fsspec.get_filesystem_class(scheme)
    except ValueError as error:
        raise GalleryError(
            f"{scheme}:// is no kind of address that is known here: give a folder, s3://…, gs://… or https://…"
        ) from error
    except ImportError as error:
        extra = _EXTRAS.get(scheme)
        remedy = f"pip install 'retrieve-explain[{extra}]'" if extra else str(error).rstrip(".")
        raise GalleryError(f"{scheme}:// needs what is not installed: {remedy}") from error
    system = kind(use_listings_cache=False, **_settings(scheme))
    if scheme == "s3":
        system.retries = 1  # of each call, beside botocore's
    return system


def _settings(scheme: str) -> dict[str, Any]:
    if scheme == "s3":
        from fsspec.config import conf

        own = conf.get("s3", {}).get("config_kwargs", {})
        return {"config_kwargs": {"retries": {"total_max_attempts": 1}, "max_pool_connections": 32} | own}
    if scheme in ("http", "https"):
        import aiohttp

        return {"client_kwargs": {"timeout": aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=15)}}
    return {}


# --- answers, and none

_lock = Lock()
_silent: dict[str, tuple[float, str]] = {}
"""Servers that were given up: until when nobody asks them anew, and why."""


def _asked(address: str, call: Callable[[], T]) -> T:
    """What a call gives; one that fails by the server's fault is repeated. Raises PictureError."""
    server = "/".join(address.split("/")[:3]).partition("?")[0]
    silent_until, why = _silent.get(server, (0.0, ""))
    if time.monotonic() < silent_until:
        raise Unreachable(server, why)
    started, until = time.monotonic(), 0.0
    pauses = _pauses()
    while True:
        try:
            answer = call()
        except PictureError:
            raise
        except Exception as error:
            cause = _cause(error)
            if _is_definite(cause):
                raise PictureError(_told(cause)) from error
            pause, now = next(pauses), time.monotonic()
            until = until or now + (PATIENCE if now - started < _HUNG else 0.0)
            if now + pause > until or server in _silent:
                _give_up(server, address, cause)
            time.sleep(pause)
        else:
            with _lock:
                _silent.pop(server, None)
            return answer


def _pauses() -> Iterator[float]:
    pause, most = _PAUSES
    while True:
        yield pause * random.uniform(0.5, 1)
        pause = min(2 * pause, most)


def _give_up(server: str, address: str, cause: BaseException) -> None:
    """One file may be at fault, or the whole server: what answers for its folder tells."""
    folder = address.rpartition("/")[0] if address.count("/") > 2 else address
    try:
        _info(file_system(_scheme(address)), folder)
        answers = True
    except Exception as error:
        answers = _is_definite(_cause(error))
    if answers:
        raise PassingError(f"cannot be read: {_told(cause)}") from cause
    with _lock:
        _silent[server] = time.monotonic() + _SILENCE, _told(cause)
    raise Unreachable(server, _told(cause)) from cause


def _cause(error: BaseException) -> BaseException:
    """The error below fsspec's own, which says of whatever a web server answers that the file is not there."""
    below = error.__cause__
    if not isinstance(error, FileNotFoundError) or below is None or isinstance(below, FileNotFoundError):
        return error
    return error if _status(below) in (404, 410) else below


def _status(error: BaseException) -> int | None:
    """The HTTP status that an error tells."""
    for told in (error, error.__cause__):
        if isinstance(status := getattr(told, "status", None), int):
            return status
        response = getattr(told, "response", None)
        if isinstance(response, dict):
            status = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
            if isinstance(status, int):
                return status
    return None


def _is_definite(error: BaseException) -> bool:
    """Whether asking again would change nothing."""
    status = _status(error)
    if status is not None:
        return status < 500 and status not in (408, 425, 429)
    return isinstance(error, _DEFINITE) or type(error).__name__ in _REFUSALS


def _told(error: BaseException) -> str:
    if isinstance(error, FileNotFoundError) or _status(error) == 404:
        return "does not exist"
    words = _URL.sub("", str(getattr(error, "strerror", None) or error)).split()
    if type(error).__name__ in _CREDENTIALS:
        words = ["cannot", "be", "read", "without", "credentials:", *words]
    return told_text(" ".join(words) if words else type(error).__name__)[:_TOLD]


# --- what is told of files


def _entry(system: Any, told: dict[str, Any]) -> Entry:
    name = system.unstrip_protocol(told["name"])
    is_folder = told["type"] == "directory"
    version = next((told_text(str(told[key])) for key in _VERSIONS if told.get(key)), None)
    time_told = next((told[key] for key in _TIMES if told.get(key)), None)
    return Entry(name.rstrip("/") if is_folder else name, is_folder, told.get("size"), _nanoseconds(time_told), version)


def _nanoseconds(told: object) -> int:
    if isinstance(told, str):
        try:
            told = datetime.fromisoformat(told) if told[:1].isdigit() else parsedate_to_datetime(told)
        except (ValueError, OverflowError):
            return 0
    if isinstance(told, datetime):
        moment = told if told.tzinfo else told.replace(tzinfo=UTC)
        since = (moment - _BEGINNING) // _MICROSECOND * 1000
        return since if abs(since) < 2**63 else 0
    return nanoseconds(told) if isinstance(told, int | float) else 0


def nanoseconds(seconds: float) -> int:
    """A time that may be any, as the catalogue can keep it: 0 where it is none."""
    return int(seconds * 10**9) if abs(seconds) < _LATEST else 0


def _linked(address: str) -> Entry:
    """What a page leads to."""
    return Entry(address.rstrip("/"), address.endswith("/"), None, 0, None)


def _lies_in(folder: str, address: str) -> bool:
    """Whether this is the address of something in the folder: a page of a web server links to much else."""
    name = address.removeprefix(f"{folder}/")
    if name in ("", address) or "/" in name:
        return False
    return not (is_web(address) and set(name) & set("?#"))
