"""Progress of long work: what the work calls while it runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext


class WorkStage:
    """One stage of the work. This one shows nothing; a subclass shows a bar."""

    def advance(self, count: int = 1) -> None:
        """Report that so many more items are done."""

    def expect(self, total: int | None) -> None:
        """Say how many items there are in all; None while that is not known."""


class Progress:
    """The progress of a piece of work. This one shows nothing; a subclass shows it on a console."""

    def stage(self, title: str, total: int | None = None) -> AbstractContextManager[WorkStage]:
        """Open a stage with this title and so many items."""
        return nullcontext(WorkStage())

    def note(self, text: str) -> None:
        """Show a short text beside the current stage."""


SILENT = Progress()

Advance = Callable[[int], None]

Stage = Callable[[str, int], None]
"""Called with the title and the number of pictures of a stage that may take long, before it begins."""

Step = Callable[[str], None]
"""Called with the name of each step of a preparation before it begins."""

Track = Callable[[str, int], AbstractContextManager[Advance]]
"""Opened for each stage of the work with its name and its number of pictures; gives what is told of progress."""


@contextmanager
def untracked(stage: str, pictures: int) -> Iterator[Advance]:
    """A `Track` that tells nobody."""
    yield lambda done: None
