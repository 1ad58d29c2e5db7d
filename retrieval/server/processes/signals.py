"""The signals that stop a server."""

import signal
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from types import FrameType

TERMINAL_SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGHUP", "SIGBREAK") if hasattr(signal, name))
"""Ctrl-C, a closed terminal, and Ctrl-Break of Windows: a terminal sends them to all processes of a server."""

STOP_SIGNALS = (*TERMINAL_SIGNALS, signal.SIGTERM)


@contextmanager
def handle_signals(signals: Iterable[signal.Signals], stop: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Call `stop` on these signals.

    Terminal signals that this process was started to ignore, as nohup does, stay ignored.
    """
    ignored = [each for each in TERMINAL_SIGNALS if signal.getsignal(each) is signal.SIG_IGN]
    before = {each: signal.signal(each, stop) for each in signals if each not in ignored}
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


@contextmanager
def delay_terminal_signals() -> Iterator[None]:
    """Deliver terminal signals only afterwards; a process started here begins with them blocked."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, TERMINAL_SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def ignore_terminal_signals() -> None:
    """Leave terminal signals to the parent; those that were delayed are dropped."""
    for each in TERMINAL_SIGNALS:
        signal.signal(each, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, TERMINAL_SIGNALS)
