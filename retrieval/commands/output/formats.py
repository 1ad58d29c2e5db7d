"""What the answers share: tables and lists for a terminal, objects for JSON."""

from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Any

from rich.console import RenderableType
from rich.table import Column
from rich.text import Text

from retrieval.commands.output.tables import AnswerTable, NamedReason
from retrieval.sources.location import PictureLocation, display_location

JsonObject = dict[str, Any]


def simple_table(
    *columns: str | Column, rows: Iterable[Iterable[RenderableType]] = (), name: str | None = None
) -> AnswerTable:
    """Return a table with a line under its headings only; the column `name`, or the first, names a row."""
    table = AnswerTable(*columns, name=name)
    for row in rows:
        table.add_row(*row)
    return table


def figures_table(
    heading: str, columns: Iterable[str | Text], rows: Iterable[Iterable[RenderableType]] = ()
) -> AnswerTable:
    """Return a table of figures: names under the heading, then right-justified columns."""
    return simple_table(heading, *(Column(column, justify="right") for column in columns), rows=rows)


def first_lines(lines: Iterable[RenderableType], count: int, rest: str, limit: int = 20) -> list[RenderableType]:
    """Return the first of `count` lines; for the others `rest`, in which {} is their number."""
    return [*islice(lines, limit), *([Text(rest.format(f"{count - limit:,}"))] if count > limit else [])]


def failures_lines(
    failures: Sequence[tuple[PictureLocation, str]],
    rest: str = "  … and {} more: `retrieve status --failures` lists them",
    limit: int = 20,
) -> list[RenderableType]:
    """Return the files that failed, each with its reason; the others are counted by `rest`."""
    lines = (NamedReason(display_location(path), reason) for path, reason in failures)
    return first_lines(lines, len(failures), rest, limit)


def pick(value: object, *names: str) -> JsonObject:
    """Return these attributes of a value."""
    return {name: getattr(value, name) for name in names}


def files_json(files: Iterable[tuple[PictureLocation, str]]) -> list[JsonObject]:
    """Return files with the reasons why they are not used."""
    return [{"path": path, "reason": reason} for path, reason in files]
