"""The progress of long work, reported while it runs, and logged under `retrieval`."""

import logging
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TypeVar

from retrieval.common.text import safe_name

T = TypeVar("T")

_LOGGER = logging.getLogger("retrieval")

Total = int | Callable[[], int | None] | None
"""How many items a stage has, a function that counts them (called only if the total is shown), or None: not known."""


class WorkStage:
    """One stage of the work. This one shows nothing; a subclass shows a bar."""

    def advance(self, count: int = 1) -> None:
        """Report that so many more items are done."""

    def track(self, items: Iterable[T]) -> Iterator[T]:
        """Yield the items, and advance by one after each."""
        for item in items:
            yield item
            self.advance()

    def expect(self, total: Total) -> None:
        """Set how many items there are in all."""

    def note(self, text: str) -> None:
        """Show a short text beside the bar, such as the loss."""


SILENT_STAGE = WorkStage()


class Progress:
    """The progress of a piece of work. This one is only logged; a subclass shows it on a console."""

    def stage(self, title: str, total: Total = None, announce: bool = False) -> AbstractContextManager[WorkStage]:
        """Open a stage of the work. With `announce`, its title is printed even if no bar can be shown."""
        return _logged_stage(title)

    def one_line(self) -> AbstractContextManager[None]:
        """Let the stages that are opened within share one line instead of one line each."""
        return nullcontext()

    def message(self, sentence: str) -> None:
        """Print a sentence that stays."""
        _LOGGER.info(safe_name(sentence))


@contextmanager
def _logged_stage(title: str) -> Iterator[WorkStage]:
    started = time.perf_counter()
    yield SILENT_STAGE
    if title:
        _LOGGER.info("%s: %.2f s", title, time.perf_counter() - started)


SILENT = Progress()
