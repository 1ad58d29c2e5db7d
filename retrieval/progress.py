"""A progress bar with rate and remaining time, on a console that the caller gives; silent where it is no terminal."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text


class Bar:
    """Shown from `start` to the end of the `with` block."""

    def __init__(self, console: Console, title: str) -> None:
        self._console = console
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            _Rate(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[words]}"),
            console=console,
            disable=not console.is_terminal,
        )
        self._task = self._progress.add_task(title, start=False, total=None, visible=False, words="")

    def __enter__(self) -> Bar:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None and self._progress.tasks[0].visible:
            self._progress.update(self._task, completed=self._progress.tasks[0].total)
        self._progress.stop()

    def start(self, count: Callable[[], int | None]) -> None:
        """Show the bar; `count` gives the total (None: not known) and is called only where somebody looks."""
        if self._console.is_terminal:
            self._progress.tasks[0].total = count()  # `update` takes None for no change
            self._progress.update(self._task, visible=True)
            self._progress.start_task(self._task)
            self._progress.start()

    def advance(self, steps: int) -> None:
        """So many more are done."""
        self._progress.advance(self._task, steps)

    def restart(self, title: str, count: Callable[[], int | None]) -> None:
        """Begin anew with another title and total."""
        self._progress.reset(self._task, start=False, description=title)
        self.start(count)

    def say(self, words: str) -> None:
        """What stands behind the bar, such as the loss."""
        self._progress.update(self._task, words=words)


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text(f"{speed:,.1f}/s" if speed else "", style="progress.data.speed")
