"""The loop for everything that is tried again after a failure that may pass."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

NEVER = -math.inf
"""The deadline of an error that is not worth another attempt."""


def retry(
    work: Callable[[bool], T], deadline: Callable[[Exception, float], float], first_pause: float, longest_pause: float
) -> T:
    """Return `work(False)` or, after errors, `work(True)`; raise the last error once its deadline is too near.

    `deadline(error, since)` gives the monotonic time after which no attempt begins; `since` is when the first one
    failed. Pauses grow from `first_pause` to `longest_pause` seconds by doubling; each lasts between half of that and
    all of it, at random, so that many who wait do not come back at once.
    """
    pause, since = first_pause, math.nan
    is_repeat = False
    while True:
        try:
            return work(is_repeat)
        except Exception as error:
            now = time.monotonic()
            since = since if is_repeat else now
            wait = random.uniform(pause / 2, pause)
            if now + wait > deadline(error, since):
                raise
        time.sleep(wait)
        pause, is_repeat = min(2 * pause, longest_pause), True
