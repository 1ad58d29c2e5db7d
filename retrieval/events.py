"""Figures of a training for TensorBoard, where it is installed and wanted."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from retrieval.common.errors import SettingError
from retrieval.train import Epoch


@contextmanager
def event_writer(folder: Path | None) -> Iterator[Callable[[Epoch], None]]:
    """A function that writes an epoch's figures into the folder; without a folder, it does nothing.

    Raises SettingError where TensorBoard is not installed.
    """
    if folder is None:
        yield lambda epoch: None
        return
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise SettingError("--tensorboard needs a package: `pip install tensorboard`, or leave it out") from error
    writer = SummaryWriter(str(folder))
    try:
        yield lambda epoch: _write(writer, epoch)
    finally:
        writer.close()


def _write(writer: object, epoch: Epoch) -> None:
    for name, value in asdict(epoch).items():
        if name != "epoch":
            writer.add_scalar(name, value, epoch.epoch)  # type: ignore[attr-defined]
    writer.flush()  # type: ignore[attr-defined]
