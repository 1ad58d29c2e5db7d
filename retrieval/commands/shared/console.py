"""The consoles: answers go to standard output, all else to standard error."""

import os
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from rich.console import Console, ConsoleDimensions, RenderableType
from rich.text import Text

from retrieval.common.atomic_files import write_atomically
from retrieval.common.jsonable import to_json
from retrieval.common.text import safe_name

_PIPE_WIDTH = 1_000_000  # columns: what reads a pipe takes each line whole


class _AnswerConsole(Console):
    """Standard output: as wide as the terminal, or as COLUMNS says; a pipe is as wide as any line. Nothing is cut."""

    @property  # type: ignore[misc]  # rich also sets it
    def size(self) -> ConsoleDimensions:
        if self.is_terminal or self._width is not None:
            return super().size
        columns = self._environ.get("COLUMNS", "")
        return ConsoleDimensions(int(columns) if columns.isdigit() else _PIPE_WIDTH, 25)

    def print(self, *objects: Any, **how: Any) -> None:
        super().print(*objects, **{"crop": False} | how)


stdout = _AnswerConsole(highlight=False, soft_wrap=False)
stderr = Console(stderr=True, highlight=False, soft_wrap=True)


def report(
    as_json: bool,
    values: Callable[[], object],
    lines: Callable[[], RenderableType],
    html: Path | None = None,
    page: Callable[[], str] | None = None,
    paths: Iterable[str | os.PathLike[str]] = (),
    path_ending: bytes | None = None,
) -> None:
    """Write the page to the file `html`, if one is given; then print the answer, as JSON or as lines.

    With `path_ending`, only the paths are printed instead, byte for byte, each with this after it.
    """
    if html is not None and page is not None:
        write_atomically(html, page())
    if path_ending is not None:
        if sys.stdout:  # None if it was closed
            sys.stdout.buffer.writelines(os.fsencode(path) + path_ending for path in paths)
            sys.stdout.flush()
        return
    if as_json:
        print_json(values())
        return
    stdout.print(lines())
    if html is not None:
        print_saved("page", html)


def print_message(sentence: str, level: str = "error") -> None:
    """Print one sentence on standard error, after its level. Only a note is silenced by -q."""
    was_quiet, stderr.quiet = stderr.quiet, stderr.quiet and level == "note"
    stderr.print(Text.assemble((f"{level}: ", "bold red" if level == "error" else "yellow"), safe_name(sentence)))
    stderr.quiet = was_quiet


def print_json(value: object) -> None:
    """Print the JSON of a value; see `to_plain`."""
    print(to_json(value), flush=True)  # `print` works even if standard output is closed, unlike sys.stdout.write


def print_saved(title: str, file: Path) -> None:
    """Print where a file was written."""
    stdout.print(Text(f"{title}: {safe_name(file)}", no_wrap=True, overflow="ignore"))
