"""Tables and lines for a terminal in which no name is broken: where there is no room, it has a line of its own."""

from collections.abc import Iterable

from rich.box import SIMPLE_HEAD
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.table import Column, Table
from rich.text import Text

from retrieval.common.text import safe_name

_UNBOUNDED = 1_000_000  # columns
_INDENT, _BETWEEN = "   ", " · "


class AnswerTable(Table):
    """A table with a line under its headings. If it is too wide, each row's name is a line, and its values follow.

    The name is the cell of the column that is called `name`, or of the first column.
    """

    def __init__(self, *columns: str | Column, name: str | None = None) -> None:
        super().__init__(*columns, box=SIMPLE_HEAD, pad_edge=False)
        self._name_column = next((place for place, each in enumerate(self.columns) if each.header == name), 0)

    def fits(self, console: Console, options: ConsoleOptions) -> bool:
        """Return whether the table has room for its widest cells."""
        unbounded = options.update(width=_UNBOUNDED)
        return self.__rich_measure__(console, unbounded).maximum <= options.max_width

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        if self.fits(console, options):
            yield from super().__rich_console__(console, options)
            return
        headings = [_plain(column.header) for column in self.columns]
        yield Text()
        if not self._name_column and headings[0]:
            yield name_line(headings[0], style="bold")
        for number, row in enumerate(self.rows):
            cells = [_plain(list(column.cells)[number]) for column in self.columns]
            yield name_line(cells.pop(self._name_column))
            others = [each for place, each in enumerate(headings) if place != self._name_column]
            yield from _value_lines(zip(others, cells, strict=True), options.max_width)
            if row.end_section or number == len(self.rows) - 1:
                yield Text()


class FirstThatFits:
    """The first of several tables that has room, or else the last one."""

    def __init__(self, *tables: AnswerTable) -> None:
        self._tables = tables

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield next((table for table in self._tables if table.fits(console, options)), self._tables[-1])


class NamedReason:
    """A file and what is said about it: on one line if there is room, else the file has its own."""

    def __init__(self, path: object, reason: str, before: str | Text = "  ", style: str = "bold") -> None:
        self._before, self._name, self._reason = before, Text(safe_name(str(path)), style), safe_name(reason)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        line = name_line(self._before, self._name, " ", self._reason)
        if line.cell_len <= options.max_width:
            yield line
            return
        yield name_line(self._before, self._name)
        yield name_line(_INDENT, "  ", self._reason)


class WholeWords:
    """A text that is wrapped between words only: a name that is wider than the terminal has a line of its own."""

    def __init__(self, text: Text) -> None:
        self._text = text

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        line, *words = self._text.split(" ", allow_blank=True)
        for word in words:
            if line.plain.strip() and line.cell_len + 1 + word.cell_len > options.max_width:
                yield name_line(line)
                line = word
            else:
                line = Text(" ").join([line, word])
        yield name_line(line)


def name_line(*parts: str | Text | tuple[str, str], style: str = "") -> Text:
    """Return a line that is never wrapped, as a name in it would be broken."""
    line = Text.assemble(*parts, style=style)
    line.no_wrap, line.overflow = True, "ignore"
    return line


def _plain(cell: RenderableType) -> Text:
    """Return a cell on one line."""
    text = cell.copy() if isinstance(cell, Text) else Text(str(cell))
    return Text(" ").join(text.split("\n"))


def _value_lines(values: Iterable[tuple[Text, Text]], width: int) -> Iterable[Text]:
    """Yield values after their headings, as many on a line as there is room for."""
    line = Text()
    for heading, value in values:
        if not value.plain.strip():
            continue
        item = Text.assemble((heading.plain, "dim"), " " if heading.plain else "", value)
        item.rstrip()
        if line and cell_len(_INDENT) + line.cell_len + len(_BETWEEN) + item.cell_len > width:
            yield name_line(_INDENT, line)
            line = Text()
        line = Text.assemble(line, _BETWEEN if line else "", item)
    if line:
        yield name_line(_INDENT, line)
