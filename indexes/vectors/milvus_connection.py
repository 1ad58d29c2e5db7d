"""The connection to a Milvus: made at the first call, with retries and errors in words."""

from __future__ import annotations

import json
import logging
import os
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from indexes.errors import StoreError
from indexes.retry import NEVER, retry
from indexes.vectors.index_address import MilvusAddress

T = TypeVar("T")

TOKEN_VARIABLE = "RETRIEVE_MILVUS_TOKEN"
MISSING = "an index on Milvus needs more packages: pip install '.[milvus]'"

_PATIENCE = 30.0  # seconds since the first failure in which a call is retried
_FIRST_PATIENCE = 3.0  # for an address that is new and may be wrong
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 4.0  # seconds
_CONNECT = 5.0  # seconds
_OPEN_SECONDS = 0.5  # in which a file that fails to open is tried again
LONG_TIMEOUT = 900.0
"""Seconds that a call may take in which the server processes a whole collection."""

_SHORT, _LONG = "60s", f"{LONG_TIMEOUT:.0f}s"  # for other calls; for those
_LONG_CALLS = ("CreateIndex", "Flush", "LoadCollection")
_SERVICE = "milvus.proto.milvus.MilvusService"
_OPTIONS = {
    "grpc.service_config": json.dumps(
        {
            "methodConfig": [
                {"name": [{}], "timeout": _SHORT},
                {"name": [{"service": _SERVICE, "method": method} for method in _LONG_CALLS], "timeout": _LONG},
            ]
        }
    ),
    "grpc.initial_reconnect_backoff_ms": 100,
    "grpc.max_reconnect_backoff_ms": 2000,
}

# What Milvus's own codes mean: https://github.com/milvus-io/milvus/blob/master/pkg/util/merr/errors.go
_UNAVAILABLE, _TOO_MANY, _RATE = 2, 4, 8
NOT_FOUND, NOT_LOADED = 100, 101


class _FileInUse(Exception):
    """The error of a file that is open in another process, which may soon close it."""

    retriable = True  # as pymilvus marks its own errors


class MilvusConnection:
    """A connection that a process shares for one Milvus; the last user who releases it ends it."""

    def __init__(self, address: MilvusAddress, folder: Path) -> None:
        self.address = address
        self.users = 0
        self._file = None if address.file is None else Path(os.path.abspath(folder / address.file))
        self.key = str(self._file or address.uri), os.environ.get(TOKEN_VARIABLE, "")
        self._client: Any = None
        self._lock = threading.RLock()

    def run(self, work: Callable[[Any, bool], T], patience: float | None = None) -> T:
        """Return what `work(client, is_repeat)` returns; each call of that client is one attempt.

        It is repeated while it fails for a transient reason: the server is down, too slow, or limits the rate. Raises
        StoreError.
        """
        self._check_packages()

        def deadline(error: Exception, since: float) -> float:
            is_worthwhile = not isinstance(error, StoreError) and _is_transient(error)
            return since + (patience or _PATIENCE) if is_worthwhile else NEVER

        try:
            return retry(lambda again: work(self._get_client(), again), deadline, _FIRST_PAUSE, _LONGEST_PAUSE)
        except StoreError:
            raise
        except Exception as error:
            raise self._to_store_error(error) from error

    def check(self) -> None:
        """Check that the server answers; for a file, which is made at its first use, only check the packages."""
        if self._file is None:
            self.run(lambda client, again: client.list_collections(), _FIRST_PATIENCE)
        else:
            self._check_packages()

    def acquire(self) -> None:
        """Count one more user, who releases the connection in the end."""
        with _REGISTRY_LOCK:
            self.users += 1

    def release(self) -> None:
        """Count one user less; the last one ends the connection."""
        with _REGISTRY_LOCK:
            self.users -= 1
            if self.users > 0:
                return
            _REGISTRY.pop(self.key, None)
        self._disconnect()

    def _check_packages(self) -> None:
        try:
            import pymilvus  # noqa: F401

            if self._file is not None:
                import milvus_lite  # noqa: F401
        except ImportError as error:
            raise StoreError(f"{self.address.text}: {MISSING}") from error
        for name in ("pymilvus", "milvus_lite"):  # both print what is reported here in one sentence
            logging.getLogger(name).setLevel(logging.CRITICAL + 1)

    def _get_client(self) -> _SingleAttempt:
        with self._lock:
            if self._client is None:
                self._client = self._connect() if self._file is None else self._open(self._file)
            return _SingleAttempt(self._client)

    def _connect(self) -> Any:
        from pymilvus import MilvusClient

        token = os.environ.get(TOKEN_VARIABLE, "")
        return MilvusClient(self.address.uri, token=token, timeout=_CONNECT, dedicated=True, grpc_options=_OPTIONS)

    def _open(self, file: Path) -> Any:
        from pymilvus import MilvusClient
        from pymilvus.exceptions import ConnectionConfigException

        try:
            file.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(f"{file} cannot be made ({error.strerror}): give another --index") from error

        def open_client(again: bool) -> Any:
            _check_unlocked(file)
            return MilvusClient(os.fspath(file), timeout=_CONNECT, dedicated=True, grpc_options=_OPTIONS)

        def deadline(error: Exception, since: float) -> float:  # another process may just have looked at the lock
            return since + _OPEN_SECONDS if isinstance(error, ConnectionConfigException) else NEVER

        try:
            return retry(open_client, deadline, _FIRST_PAUSE, _FIRST_PAUSE)
        except ConnectionConfigException as error:  # all that milvus-lite says, whatever it was
            raise StoreError(
                f"{file} cannot be opened: it cannot be written or is damaged; allow writing there, or delete it and"
                " run `retrieve index` again"
            ) from error

    def _disconnect(self) -> None:
        with self._lock:
            if self._client is not None:
                self._client.close()
                self._client = None
                if self._file is not None:
                    from milvus_lite.server_manager import server_manager_instance

                    server_manager_instance.release_server(os.fspath(self._file))

    def _to_store_error(self, error: Exception) -> StoreError:
        where = self.address.text
        if isinstance(error, _FileInUse):
            return StoreError(
                f"{where} is open in another process: try again when that has finished, or run a server, which many"
                " can use (docs/SCALING.md)"
            )
        codes = _grpc_codes(error)
        if codes & {"UNAUTHENTICATED", "PERMISSION_DENIED"}:
            return StoreError(f"{where} refuses the token: set {TOKEN_VARIABLE} to a valid one, as user:password")
        message = " ".join(str(getattr(error, "message", None) or error).split()) or type(error).__name__
        if _is_transient(error):
            problem = "does not answer in time" if "DEADLINE_EXCEEDED" in codes else "cannot be reached"
            return StoreError(
                f"{where} {problem}: check that it runs there, then run the command again; nothing is lost"
            )
        return StoreError(f"{where} fails, as Milvus says: {message[:300]}")


class _SingleAttempt:
    """A client whose calls are one attempt each: `run` repeats what may be repeated."""

    def __init__(self, client: Any) -> None:
        self._client = client

    def __getattr__(self, name: str) -> Any:
        return partial(getattr(self._client, name), retry_times=0)


_REGISTRY: dict[tuple[str, str], MilvusConnection] = {}
_REGISTRY_LOCK = threading.Lock()


def shared_connection(address: MilvusAddress, folder: Path) -> MilvusConnection:
    """Return the process's connection to an address, for the caller to release; `folder` is the store's."""
    with _REGISTRY_LOCK:
        connection = MilvusConnection(address, folder)
        connection = _REGISTRY.setdefault(connection.key, connection)
        connection.users += 1
        return connection


def _check_unlocked(file: Path) -> None:
    """Raise _FileInUse if another process has the file open, which milvus-lite reports like any other failure."""
    from filelock import FileLock, Timeout  # whose locks are of the same kind as milvus-lite's

    lock = file / "LOCK"
    try:
        if lock.exists():  # else it would be made
            with FileLock(lock, blocking=False):
                pass
    except Timeout as error:
        raise _FileInUse from error
    except OSError:  # which milvus-lite will report
        return


def error_code(error: BaseException) -> int | None:
    """Return Milvus's own code of an error, or None."""
    code = getattr(error, "code", None)
    return code if isinstance(code, int) else None


def _grpc_codes(error: BaseException) -> set[str]:
    """Return the names of gRPC's codes of an error and of its causes."""
    names: set[str] = set()
    seen: list[BaseException] = []
    cause: BaseException | None = error
    while cause is not None and cause not in seen:  # pymilvus makes errors the causes of themselves
        code = getattr(cause, "code", None)
        name = getattr(code() if callable(code) else code, "name", None)
        names |= {name} if isinstance(name, str) else set()
        seen.append(cause)
        cause = cause.__cause__
    return names


def _is_transient(error: BaseException) -> bool:
    """Return whether the same request may succeed later."""
    names = _grpc_codes(error)
    if names & {"UNAUTHENTICATED", "PERMISSION_DENIED", "INVALID_ARGUMENT", "UNIMPLEMENTED"}:
        return False
    if names & {"UNAVAILABLE", "DEADLINE_EXCEEDED", "ABORTED"}:
        return True
    if "RESOURCE_EXHAUSTED" in names:  # too many requests, or too large a message
        return "larger than max" not in str(error)
    return error_code(error) in (_UNAVAILABLE, _TOO_MANY, _RATE) or getattr(error, "retriable", False) is True
