"""The log of `retrieval` on the console, for -v."""

import logging
from collections.abc import Callable

from rich.text import Text

from retrieval.commands.shared.console import print_message, stderr
from retrieval.common.text import safe_name


class _ConsoleHandler(logging.Handler):
    """Prints a record with the seconds since the start, above any progress bar."""

    def emit(self, record: logging.LogRecord) -> None:
        seconds = f"{record.relativeCreated / 1000:7.2f} s "
        stderr.print(Text.assemble((seconds, "dim"), safe_name(record.getMessage())))


class _WarningHandler(logging.Handler):
    """Prints a warning: something was damaged, and the work goes on without it."""

    def emit(self, record: logging.LogRecord) -> None:
        print_message(record.getMessage(), "warning")


_HANDLER, _WARNINGS = _ConsoleHandler(), _WarningHandler(logging.WARNING)


def show_warnings() -> None:
    """Print the warnings of both packages from now on."""
    for name in ("retrieval", "indexes"):
        logging.getLogger(name).addHandler(_WARNINGS)


def show_logs(level: int) -> Callable[[], None]:
    """Show messages of level INFO, from 2 on also DEBUG; calls add up. Return what ends it."""
    logger = logging.getLogger("retrieval")
    logger.setLevel(logging.INFO if level + (_HANDLER in logger.handlers) == 1 else logging.DEBUG)
    logger.addHandler(_HANDLER)
    return lambda: logger.removeHandler(_HANDLER)
