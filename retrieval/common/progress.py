"""How far a piece of work is: what it calls while it runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

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
