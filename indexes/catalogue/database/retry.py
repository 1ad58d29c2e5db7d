"""What a restarted or lost server interrupts is asked again, for a while."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

from indexes.errors import ConnectionLostError
from indexes.retry import NEVER, retry

P = ParamSpec("P")
T = TypeVar("T")

LOST_RETRY_SECONDS = 10.0
"""Seconds from when a server was lost: one that crashed is back in about two."""

_PAUSES = 0.1, 1.0  # seconds: the first, the longest


def retry_lost(function: Callable[P, T]) -> Callable[P, T]:
    """Ask again where a server was lost meanwhile: for what reads, and what leaves the same when it is done twice.

    A transaction of which the end was not confirmed may have been committed or not.
    """

    @wraps(function)
    def ask(*args: P.args, **kwargs: P.kwargs) -> T:
        return retry(lambda is_repeat: function(*args, **kwargs), _deadline, *_PAUSES)

    return ask


def _deadline(error: Exception, since: float) -> float:
    return error.lost_at + LOST_RETRY_SECONDS if isinstance(error, ConnectionLostError) else NEVER
