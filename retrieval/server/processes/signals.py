"""The signals by which a server is told to stop."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from types import FrameType

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Ctrl-C, a request to end, a closed terminal."""


@contextmanager
def handle_signals(signals: Iterable[signal.Signals], stop: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Call `stop` on these signals.

    Ctrl-C and a closed terminal are left alone where whoever started this has it ignore them, as nohup does.
    """
    ignored = [each for each in (signal.SIGINT, signal.SIGHUP) if signal.getsignal(each) is signal.SIG_IGN]
    before = {each: signal.signal(each, stop) for each in signals if each not in ignored}
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
