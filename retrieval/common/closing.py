"""Resources closed if their set-up fails."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol


class Closable(Protocol):
    """An object that holds a resource until it is closed."""

    def close(self) -> None:
        """Release the resource."""


@contextmanager
def close_on_error(resource: Closable) -> Iterator[None]:
    """Close the resource if the block raises; else it stays open."""
    try:
        yield
    except BaseException:
        resource.close()
        raise
