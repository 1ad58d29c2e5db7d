"""What a restarted or lost server interrupts is asked again, for a while."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

from indexes.errors import ConnectionLostError

P = ParamSpec("P")
T = TypeVar("T")

LOST_RETRY_SECONDS = 10.0
"""Seconds from when a server was lost: one that crashed is back in about two."""

_PAUSE, _LONGEST_PAUSE = 0.1, 1.0  # seconds before it is asked again; twice as long each time


def retry_lost(function: Callable[P, T]) -> Callable[P, T]:
    """Ask again where a server was lost meanwhile: for what reads, and what leaves the same when it is done twice.

    A transaction of which the end was not confirmed may have been committed or not.
    """

    @wraps(function)
    def ask(*args: P.args, **kwargs: P.kwargs) -> T:
        pause = _PAUSE
        while True:
            try:
                return function(*args, **kwargs)
            except ConnectionLostError as error:
                if time.monotonic() - error.lost_at > LOST_RETRY_SECONDS:
                    raise
            time.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)

    return ask
