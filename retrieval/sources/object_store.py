"""Files on object stores and web servers, through fsspec, with retries while a server does not answer."""

import inspect
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from functools import cache
from threading import Event
from typing import Any, NamedTuple, NoReturn, TypeVar

from indexes.retry import NEVER, retry
from retrieval.common.errors import GalleryError, PictureError, TransientPictureError, first_line
from retrieval.sources.entries import PictureFile
from retrieval.sources.location import storable_text

T = TypeVar("T")

RETRY_SECONDS = 15.0
"""Seconds for which a call is retried that a server did not answer, or answered with an error of its own."""

MOST_BYTES = 2**30
"""The largest picture's file that is fetched: it is held in memory."""

_MAX_MESSAGE = 120  # characters of a server's own words
_SLOW_CALL = 10.0  # seconds; a call that took longer to fail is not retried
_COOLDOWN = 5.0  # seconds for which an unreachable server is not called
_BACKOFF = 0.25, 4.0  # seconds between two calls: at first, at most
_USUAL = "give a folder, s3://…, gs://… or https://…"
_EXTRAS = {"s3": "s3", "gs": "gcs", "http": "http", "https": "http"}
_PERMANENT = (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError, UnicodeError)
_CREDENTIAL_ERRORS = "NoCredentialsError", "PartialCredentialsError", "ProfileNotFound"
_PERMANENT_NAMES = *_CREDENTIAL_ERRORS, "HttpError", "InvalidURL", "NonHttpUrlClientError", "ParamValidationError"
# An address may have secrets, and the message names it anyway.
_URL = re.compile(r""",? ?url=(?:'[^']*'|"[^"]*")|["']?[a-z]+://\S+""")
_VERSIONS = ("ETag", "etag", "generation", "md5Hash", "content_md5", "Content-MD5")
_LATEST = 2**63 / 10**9  # seconds
_EPOCH, _MICROSECOND = datetime(1970, 1, 1, tzinfo=UTC), timedelta(microseconds=1)
_TIMES = ("LastModified", "Last-Modified", "last_modified", "mtime", "updated", "modified")


class UnreachableError(TransientPictureError):
    """A file that cannot be read because its server does not answer."""

    def __init__(self, server: str, reason: str) -> None:
        super().__init__(f"cannot be read: {storable_text(server)} does not answer ({reason})")


@contextmanager
def abort_if_unreachable() -> Iterator[None]:
    """Turn UnreachableError into GalleryError, which ends the work: the server is at fault, not one picture."""
    try:
        yield
    except UnreachableError as error:
        reason = error.reason.removeprefix("cannot be read: ")
        remedy = "what was indexed is kept, and the same command continues where this one stopped"
        raise GalleryError(f"{reason}: {remedy}") from error


class RemoteEntry(NamedTuple):
    """A file or folder: its address, size in bytes (None: unknown), mtime in nanoseconds (0: unknown).

    `version` identifies the content, as an ETag does; None if the server gives none.
    """

    address: str
    is_folder: bool
    size: int | None = None
    mtime: int = 0
    version: str | None = None

    def to_picture(self, path: bytes, label: str | None = None) -> PictureFile:
        """Return the file under this path of the catalogue."""
        modified = f"{self.size}-{self.mtime}" if self.mtime else ""
        return PictureFile(path, self.size or 0, self.mtime, self.version or modified, label)


def list_remote(folder: str) -> list[RemoteEntry]:
    """List what lies directly in a folder. Raises PictureError, UnreachableError among them, and GalleryError."""
    system = file_system(_scheme(folder))
    if is_web(folder):
        from retrieval.sources.web import links

        addresses = _retry(folder, lambda: links(system, folder))
        entries = [RemoteEntry(each.rstrip("/"), each.endswith("/")) for each in addresses]
    else:
        infos = _retry(folder, lambda: system.ls(f"{folder}/", detail=True))
        entries = [_parse_entry(system, info) for info in infos]
    unique = {entry.address: entry for entry in entries}
    return [entry for entry in unique.values() if _lies_in(folder, entry.address)]


def stat_remote(address: str) -> RemoteEntry:
    """Look up one file or folder. Raises PictureError, UnreachableError among them, and GalleryError."""
    system = file_system(_scheme(address))
    return _parse_entry(system, _retry(address, lambda: _info(system, address)))._replace(address=address)


def _info(system: Any, address: str) -> Any:
    if is_web(address):
        from retrieval.sources.web import read_info

        return read_info(system, address)
    return system.info(address)


def fetch_remote(address: str, size: int | None = None, start: int | None = None) -> bytes:
    """Fetch a file of `size` bytes (None: look it up first), or `size` bytes from `start` on.

    Raises PictureError, UnreachableError among them.
    """
    system = file_system(_scheme(address))
    if size is None:
        size = stat_remote(address).size
    check_size(size or 0)
    if start is not None and size == 0:
        return b""  # no range is empty
    if is_web(address):
        from retrieval.sources.web import read_body

        return _retry(address, lambda: read_body(system, address, MOST_BYTES, start, size))
    end = None if start is None else start + (size or 0)
    content: bytes = _retry(address, lambda: system.cat_file(address, start=start, end=end))
    return content


def check_size(size: int) -> None:
    """Raise PictureError if a picture's file has too many bytes to be held in memory."""
    if size > MOST_BYTES:
        raise PictureError(f"has {size / 1e9:.1f} GB, more than the {MOST_BYTES / 1e9:.1f} GB that are read")


def download(address: str, file: str, cancelled: Event) -> None:
    """Download into a local file. Raises PictureError, UnreachableError among them, also once `cancelled` is set."""
    from fsspec.callbacks import Callback

    class Cancellable(Callback):  # type: ignore[misc]
        def relative_update(self, inc: int = 1) -> None:
            if cancelled.is_set():
                raise PictureError("is no longer needed")

    system = file_system(_scheme(address))
    if is_web(address):
        from retrieval.sources.web import download_http

        _retry(address, lambda: download_http(system, address, file, cancelled))
    else:
        _retry(address, lambda: system.get_file(address, file, callback=Cancellable()))


def is_web(address: str) -> bool:
    """Return whether an address is a web server's."""
    return address.startswith(("http://", "https://"))


def _scheme(address: str) -> str:
    return address.partition("://")[0]


@cache
def file_system(scheme: str) -> Any:
    """Return fsspec's file system of a scheme, without a cache of listings and without its own retries."""
    import fsspec

    try:
        kind = fsspec.get_filesystem_class(scheme)
    except ValueError as error:
        raise GalleryError(f"{scheme}:// is not a supported kind of address: {_USUAL}") from error
    except ImportError as error:
        extra = _EXTRAS.get(scheme)
        remedy = f"pip install '.[{extra}]'" if extra else str(error).rstrip(".")
        raise GalleryError(f"{scheme}:// needs a package that is not installed: {remedy}") from error
    options = {"use_listings_cache": False, **_settings(scheme)}
    try:
        inspect.signature(kind.__init__).bind(None, **options)
    except TypeError as error:  # one needs the name of a server or an archive besides
        raise GalleryError(f"{scheme}:// cannot be opened by an address alone: {_USUAL}") from error
    try:
        system = kind(**options)
    except Exception as error:  # one may look for its server at once, or for another program
        reason = storable_text(first_line(error))[:_MAX_MESSAGE]
        raise GalleryError(f"{scheme}:// cannot be used here ({reason}): {_USUAL}") from error
    if scheme == "s3":
        system.retries = 1  # s3fs's attempts; botocore's are set below
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


# --- Retries

_unreachable: dict[str, tuple[float, str]] = {}
"""Servers that did not answer: until when they are not called, and why."""


def _retry(address: str, call: Callable[[], T]) -> T:
    """Return what the call returns, and repeat it after failures of the server. Raises PictureError."""
    server = "/".join(address.split("/")[:3]).partition("?")[0]
    started = time.monotonic()
    silent_until, reason = _unreachable.get(server, (0.0, ""))
    if started < silent_until:
        raise UnreachableError(server, reason)

    def deadline(error: Exception, since: float) -> float:
        if isinstance(error, PictureError) or _is_permanent(_cause(error)) or server in _unreachable:
            return NEVER
        return since + (RETRY_SECONDS if since - started < _SLOW_CALL else 0.0)

    try:
        result = retry(lambda is_repeat: call(), deadline, *_BACKOFF)
    except PictureError:
        raise
    except Exception as error:
        cause = _cause(error)
        if _is_permanent(cause):
            raise PictureError(_describe_error(cause)) from error
        _give_up(server, address, cause)
    _unreachable.pop(server, None)
    return result


def _give_up(server: str, address: str, cause: BaseException) -> NoReturn:
    """One file may be at fault, or the whole server: what answers for its folder tells."""
    folder = address.rpartition("/")[0] if address.count("/") > 2 else address
    try:
        _info(file_system(_scheme(address)), folder)
        answers = True
    except Exception as error:
        answers = _is_permanent(_cause(error))
    reason = _describe_error(cause)
    if answers:
        raise TransientPictureError(f"cannot be read: {reason}") from cause
    _unreachable[server] = time.monotonic() + _COOLDOWN, reason
    raise UnreachableError(server, reason) from cause


def _cause(error: BaseException) -> BaseException:
    """Return the cause of an fsspec error: fsspec raises FileNotFoundError whatever a web server answers."""
    below = error.__cause__
    if not isinstance(error, FileNotFoundError) or below is None or isinstance(below, FileNotFoundError):
        return error
    return error if _status(below) in (404, 410) else below


def _status(error: BaseException) -> int | None:
    """Return the HTTP status of an error, or None."""
    for candidate in (error, error.__cause__):
        response = getattr(candidate, "response", None)
        metadata = response.get("ResponseMetadata", {}) if isinstance(response, dict) else {}
        status = getattr(candidate, "status", metadata.get("HTTPStatusCode"))
        if isinstance(status, int):
            return status
    return None


def _is_permanent(error: BaseException) -> bool:
    """Return whether a retry cannot help."""
    status = _status(error)
    if status is not None:
        return status < 500 and status not in (408, 425, 429)
    return isinstance(error, _PERMANENT) or any(kind.__name__ in _PERMANENT_NAMES for kind in type(error).__mro__)


def _describe_error(error: BaseException) -> str:
    if isinstance(error, FileNotFoundError) or _status(error) == 404:
        return "does not exist"
    words = _URL.sub("", str(getattr(error, "strerror", None) or error)).split()
    if type(error).__name__ in _CREDENTIAL_ERRORS:
        words = ["cannot", "be", "read", "without", "credentials:", *words]
    return storable_text(" ".join(words) if words else type(error).__name__)[:_MAX_MESSAGE]


# --- Entries


def _parse_entry(system: Any, info: dict[str, Any]) -> RemoteEntry:
    name = system.unstrip_protocol(info["name"])
    is_folder = info.get("type") == "directory"
    size = info.get("size")  # a server may send any number
    size = size if isinstance(size, int) and 0 <= size < 2**63 else None
    version = next((storable_text(str(info[key])) for key in _VERSIONS if info.get(key)), None)
    mtime = _parse_mtime(next((info[key] for key in _TIMES if info.get(key)), None))
    return RemoteEntry(name.rstrip("/") if is_folder else name, is_folder, size, mtime, version)


def _parse_mtime(value: object) -> int:
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value) if value[:1].isdigit() else parsedate_to_datetime(value)
        except (ValueError, OverflowError):
            return 0
    if isinstance(value, datetime):
        moment = value if value.tzinfo else value.replace(tzinfo=UTC)
        since = (moment - _EPOCH) // _MICROSECOND * 1000
        return since if abs(since) < 2**63 else 0
    return to_nanoseconds(value) if isinstance(value, int | float) else 0


def to_nanoseconds(seconds: float) -> int:
    """Convert a time to the catalogue's nanoseconds; 0 if it is out of range or not a number."""
    return int(seconds * 10**9) if abs(seconds) < _LATEST else 0


def _lies_in(folder: str, address: str) -> bool:
    """Return whether an address lies directly in the folder: a web page links elsewhere too."""
    name = address.removeprefix(f"{folder}/")
    if name in ("", address) or "/" in name:
        return False
    return not (is_web(address) and set(name) & set("?#"))
