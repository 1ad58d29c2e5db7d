"""Progress bars on standard error; none are shown if it is not a terminal, or with -q."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Self

from PIL import Image
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bars
from rich.text import Text

from retrieval.commands.shared.console import print_message, stderr
from retrieval.common.progress import Progress, Total, WorkStage


class ConsoleProgress(Progress):
    """Bars with the rate and the remaining time, one line for each stage unless `one_line` holds them together."""

    def __init__(self, console: Console = stderr) -> None:
        Image.MAX_IMAGE_PIXELS = None  # our own limit is checked on every header, not Pillow's
        self._console = console
        self._line: _Bar | None = None  # what `one_line` shares
        self._is_busy = False

    @contextmanager
    def stage(self, title: str, total: Total = None, announce: bool = False) -> Iterator[WorkStage]:
        with super().stage(title) as silent:
            if announce and not self._console.is_terminal:
                self._console.print(title)
            if self._is_busy or not _has_bars(self._console):
                yield silent
                return
            self._is_busy = True
            try:
                with nullcontext(self._line) if self._line else _Bar(self._console) as bar:
                    bar.restart(title, total)
                    yield bar
            finally:
                self._is_busy = False

    @contextmanager
    def one_line(self) -> Iterator[None]:
        with _Bar(self._console) as self._line:
            try:
                yield
            finally:
                self._line = None

    def message(self, sentence: str) -> None:
        print_message(sentence, "note")


def _has_bars(console: Console) -> bool:
    return console.is_terminal and not console.quiet


class _Bar(WorkStage):
    """One line: the title, a bar, the count, the rate, the remaining time and a note; closed by a `with` statement."""

    def __init__(self, console: Console) -> None:
        self.bars = Bars(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            _Rate(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
            console=console,
            disable=not _has_bars(console),
        )
        self._task = self.bars.add_task("", start=False, total=None, visible=False, note="")

    def restart(self, title: str, total: Total) -> None:
        """Begin a stage; the bar is shown from the first one on."""
        self.bars.reset(self._task, start=False, description=title, visible=True, note="")
        self.expect(total)
        self.bars.start_task(self._task)
        self.bars.start()

    def advance(self, count: int = 1) -> None:
        self.bars.advance(self._task, count)
        task = self.bars.tasks[0]
        if task.total is not None and task.completed > task.total:  # what was counted has grown meanwhile
            self.bars.update(self._task, completed=task.total)

    def expect(self, total: Total) -> None:
        self.bars.tasks[0].total = total() if callable(total) else total  # `update` takes None for no change

    def note(self, text: str) -> None:
        self.bars.update(self._task, note=text)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, error: type[BaseException] | None, *details: object) -> None:
        if error is None:  # the stage is done, however many items there turned out to be
            self.bars.update(self._task, completed=self.bars.tasks[0].total)
        self.bars.stop()


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text(f"{speed:,.1f}/s" if speed else "", style="progress.data.speed")
