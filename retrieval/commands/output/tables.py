"""Tables and lists in a terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

T = TypeVar("T")


def figures_table(heading: str, columns: Iterable[str | Text]) -> Table:
    """Return a table of figures: names under the heading, then right-justified columns."""
    table = Table(heading, box=SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        table.add_column(column, justify="right")
    return table


def first_lines(items: Sequence[T], line: Callable[[T], Text], rest: str, limit: int = 20) -> list[Text]:
    """Return the lines of the first items; for the others `rest`, in which {} is their number."""
    lines = [line(item) for item in items[:limit]]
    return lines + ([Text(rest.format(f"{len(items) - limit:,}"))] if len(items) > limit else [])


def failure_line(name: str, reason: str) -> Text:
    """Return the line of a file that failed; both texts must be safe to print."""
    return Text.assemble("  ", (name, "bold"), f" {reason}")
