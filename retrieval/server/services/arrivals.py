"""The pictures that are arriving: each has as long as its rate earns, and the slowest makes room for the next."""

import asyncio
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus

from retrieval.server.errors import RequestRefused

GRACE_SECONDS = 10.0
"""For a picture to arrive, and a second more for every `LEAST_RATE` bytes of it that have."""

LEAST_RATE = 10_000

_SLOW_RATE = 50_000  # bytes a second: a picture that comes more slowly may have to make room
_HEAD_START = 0.25  # seconds at that rate, which each has on one that has come to a halt


class Arrival:
    """A picture that is arriving from a client."""

    def __init__(self, client: str, timeout: asyncio.Timeout) -> None:
        self.client = client
        self._timeout = timeout
        self._began = time.monotonic()
        self._received = 0
        self._has_given_up = False

    def add(self, count: int) -> None:
        """Note that so many bytes have come."""
        self._received += count
        self._end_in(self._began + GRACE_SECONDS + self._received / LEAST_RATE - time.monotonic())

    @property
    def rate(self) -> float:
        """Bytes a second, with the head start."""
        seconds = time.monotonic() - self._began
        return (self._received + _HEAD_START * _SLOW_RATE) / (seconds + _HEAD_START)

    def give_up(self) -> None:
        """Raise TimeoutError where the picture is received."""
        self._end_in(0)
        self._has_given_up = True

    def _end_in(self, seconds: float) -> None:
        if not (self._has_given_up or self._timeout.expired()):
            self._timeout.reschedule(asyncio.get_running_loop().time() + seconds)


class Arrivals:
    """Room for the pictures that arrive at once, in one event loop."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._arrivals = set[Arrival]()

    @contextmanager
    def room(self, client: str, timeout: asyncio.Timeout) -> Iterator[Arrival]:
        """Take a place, within a timeout that has been entered; if there is none, a slow picture gives up its own.

        That is the slowest of the client with the most. Raises RequestRefused if none is slow.
        """
        if len(self._arrivals) >= self._most:
            counts = Counter(each.client for each in self._arrivals)
            slow = [each for each in self._arrivals if each.rate < _SLOW_RATE]
            if not slow:
                raise RequestRefused(
                    HTTPStatus.SERVICE_UNAVAILABLE,
                    f"{self._most} pictures are arriving already: repeat this one in a moment",
                    1,
                )
            slowest = max(slow, key=lambda each: (counts[each.client], -each.rate))
            self._arrivals.remove(slowest)
            slowest.give_up()
        arrival = Arrival(client, timeout)
        self._arrivals.add(arrival)
        try:
            arrival.add(0)
            yield arrival
        finally:
            self._arrivals.discard(arrival)
