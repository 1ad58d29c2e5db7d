"""What a restarted or lost server interrupts is asked again, a few times."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

from indexes.errors import LostError

P = ParamSpec("P")
T = TypeVar("T")

_PAUSES = (0.1, 0.5, 1.0, 2.0, 4.0)  # seconds: a server that crashed is back in about two


def again(asked: Callable[P, T]) -> Callable[P, T]:
    """Ask again where a server was lost meanwhile: for what reads, and what leaves the same when it is done twice.

    A transaction of which the end was not confirmed may have been committed or not.
    """

    @wraps(asked)
    def ask(*args: P.args, **kwargs: P.kwargs) -> T:
        for pause in (*_PAUSES, None):
            try:
                return asked(*args, **kwargs)
            except LostError as error:
                error.was_tried = error.was_tried or pause is None
                if error.was_tried:
                    raise
            assert pause is not None
            time.sleep(pause)
        raise AssertionError

    return ask
