"""Tables and lists in a terminal."""

from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from rich.box import SIMPLE_HEAD
from rich.console import RenderableType
from rich.table import Column, Table
from rich.text import Text

from retrieval.common.text import safe_name
from retrieval.sources.location import PictureLocation, display_location

T = TypeVar("T")


def simple_table(*columns: str | Column, rows: Iterable[Iterable[RenderableType]] = ()) -> Table:
    """Return a table with a line under its headings only."""
    table = Table(*columns, box=SIMPLE_HEAD, pad_edge=False)
    for row in rows:
        table.add_row(*row)
    return table


def figures_table(heading: str, columns: Iterable[str | Text], rows: Iterable[Iterable[RenderableType]] = ()) -> Table:
    """Return a table of figures: names under the heading, then right-justified columns."""
    return simple_table(heading, *(Column(column, justify="right") for column in columns), rows=rows)


def first_lines(items: Sequence[T], line: Callable[[T], Text], rest: str, limit: int = 20) -> list[Text]:
    """Return the lines of the first items; for the others `rest`, in which {} is their number."""
    lines = [line(item) for item in items[:limit]]
    return lines + ([Text(rest.format(f"{len(items) - limit:,}"))] if len(items) > limit else [])


def failures_lines(
    failures: Sequence[tuple[PictureLocation, str]],
    rest: str = "  … and {} more: `retrieve status --failures` lists them",
    limit: int = 20,
) -> list[Text]:
    """Return the files that failed, each with its reason; the others are counted by `rest`."""

    def line(failure: tuple[PictureLocation, str]) -> Text:
        name = safe_name(display_location(failure[0]))
        return Text.assemble("  ", (name, "bold"), f" {safe_name(failure[1])}")

    return first_lines(failures, line, rest, limit)
