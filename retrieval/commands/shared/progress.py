"""What a person sees while work goes on: bars on a console that the caller gives, silent where it is no terminal."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from PIL import Image
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

from retrieval.common.progress import Step
from retrieval.common.text import safe_name
from retrieval.datasets.class_folders import DataSet, find_samples
from retrieval.datasets.descriptors import DescribedGallery, describe_gallery
from retrieval.model.bundle import find_bundle
from retrieval.model.encoder import Encoder
from retrieval.model.inference import PREPARE_STEPS
from retrieval.sources.gallery import count_gallery_files, resolve_gallery
from retrieval.sources.local import count_files
from retrieval.store.indexing.scan import Advance

if TYPE_CHECKING:  # only a type here, as its module loads torch
    from retrieval.training.prepared_data import Watch


@contextmanager
def track_progress(console: Console, title: str, pictures: int) -> Iterator[Advance]:
    """A bar for a stage of the work; gives what is told of its progress."""
    with ProgressBar(console, title) as progress:
        progress.start(lambda: pictures)
        yield progress.advance


@contextmanager
def preparation_progress(console: Console) -> Iterator[Step]:
    """Say in one line that a model is being prepared, with a bar of its steps."""
    lift_pixel_limit()
    with ProgressBar(console, "Preparing the model (first use only)") as progress:

        def on_step(step: str) -> None:
            if step == PREPARE_STEPS[0]:
                if not console.is_terminal:
                    console.print("Preparing the model for this machine (first use only)")
                progress.start(lambda: len(PREPARE_STEPS))
            else:
                progress.advance(1)

        yield on_step


def read_samples(console: Console, dataset: Path) -> DataSet:
    """The pictures of a data set, each content once. Raises GalleryError."""
    with ProgressBar(console, f"Reading {safe_name(dataset.name)}") as progress:
        progress.start(lambda: count_files([os.fsencode(dataset)]))
        return find_samples(dataset, progress.advance)


def describe_dataset(console: Console, dataset: Path, model: str, device: str) -> DescribedGallery:
    """A data set's descriptors. Raises GalleryError and ModelError."""
    with (
        preparation_progress(console) as on_step,
        ProgressBar(console, f"Embedding {safe_name(dataset.name)}") as progress,
    ):
        comparer = Encoder(find_bundle(model), device, on_step)
        comparer.load()
        progress.start(lambda: count_gallery_files([resolve_gallery(dataset)]))
        return describe_gallery(dataset, comparer, progress.advance)


@contextmanager
def training_progress(console: Console, tensorboard: Path | None = None) -> Iterator[Watch]:
    """Say what a training does: the parts of the data set, a bar for each stage, loss and validation AUC."""
    from retrieval.commands.output.training_table import data_lines
    from retrieval.training.logs import event_writer
    from retrieval.training.prepared_data import Watch
    from retrieval.training.trainer import Epoch, Hooks

    lift_pixel_limit()
    auc = ""
    with ProgressBar(console, "Training") as progress, event_writer(tensorboard) as write:

        def on_step(loss: float | None) -> None:
            progress.advance(1)
            progress.set_note("" if loss is None else f"loss {loss:.3f}{auc}")

        def on_epoch(history: list[Epoch]) -> None:
            nonlocal auc
            auc = f", validation AUC {history[-1].validation_auc:.4f}"
            write(history[-1])

        hooks = Hooks(lambda title, steps: progress.restart(title, lambda: steps), on_step, on_epoch)
        yield Watch(progress.restart, progress.advance, lambda data: console.print(data_lines(data)), hooks)


def lift_pixel_limit() -> None:
    """In this process our own limit is checked on every header, not Pillow's."""
    Image.MAX_IMAGE_PIXELS = None


class ProgressBar:
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

    def __enter__(self) -> ProgressBar:
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

    def set_note(self, words: str) -> None:
        """What stands behind the bar, such as the loss."""
        self._progress.update(self._task, words=words)


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text(f"{speed:,.1f}/s" if speed else "", style="progress.data.speed")
