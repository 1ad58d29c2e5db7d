"""The loop for everything that is tried again after a failure that may pass."""

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
    """Return `work(False)` or, after errors, `work(True)`; raise the last error once its deadline has passed.

    `deadline(error, since)` gives the monotonic time of the last attempt; `since` is when the first one failed. Pauses
    double from `first_pause` to `longest_pause` seconds; each lasts between half of that and all of it, at random, so
    that many who wait do not come back at once.
    """
    pause, since = first_pause, math.nan
    is_repeat = False
    while True:
        try:
            return work(is_repeat)
        except Exception as error:
            now = time.monotonic()
            since = since if is_repeat else now
            left = deadline(error, since) - now
            if left <= 0:
                raise
        time.sleep(min(left, random.uniform(pause / 2, pause)))
        pause, is_repeat = min(2 * pause, longest_pause), True
