"""Logs of a training: its curves as a picture, and TensorBoard's event files."""

import io
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from retrieval.common.errors import SettingError
from retrieval.training.trainer import Epoch, best_epoch

_PAPER, _INK, _QUIET, _LINES = "#fbfbfa", "#1b1d21", "#656b75", "#dfe1e5"
_TRAIN, _VALIDATION = "#e08a1e", "#1c9cc4"


def plot_curves(history: Sequence[Epoch]) -> bytes:
    """Plot the losses of both parts and the validation part's ROC AUC over the epochs, the best one marked: a PNG."""
    figure = Figure(figsize=(9, 3.6), dpi=110, layout="constrained", facecolor=_PAPER)
    losses, auc = figure.subplots(1, 2)
    epochs = [each.epoch for each in history]
    losses.plot(epochs, [each.loss for each in history], color=_TRAIN, label="training part", marker="o", ms=3)
    validation = [each.validation_loss for each in history]
    losses.plot(epochs, validation, color=_VALIDATION, label="validation part, verdicts only", marker="o", ms=3)
    losses.legend(frameon=False, labelcolor=_INK)
    auc.plot(epochs, [each.validation_auc for each in history], color=_VALIDATION, marker="o", ms=3)
    best = history[best_epoch(history) - 1]
    auc.axvline(best.epoch, color=_QUIET, linewidth=1, linestyle=":")
    note, point = f"best: epoch {best.epoch}, {best.validation_auc:.4f}", (best.epoch, best.validation_auc)
    auc.annotate(note, point, (0.03, 0.92), textcoords="axes fraction", color=_INK)
    for axes, title in ((losses, "loss"), (auc, "ROC AUC on pairs of the validation part")):
        axes.set_title(title, loc="left", fontsize=11, color=_INK)
        axes.set_xlabel("epoch", color=_QUIET)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.tick_params(colors=_QUIET)
        axes.set_facecolor(_PAPER)
        axes.grid(color=_LINES, linewidth=0.6)
        axes.spines[:].set_color(_LINES)
        axes.spines[["top", "right"]].set_visible(False)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


@contextmanager
def event_writer(folder: Path | None) -> Iterator[Callable[[Epoch], None]]:
    """Yield a function that writes an epoch's figures into the folder; without a folder, it does nothing.

    Raises SettingError if TensorBoard is not installed.
    """
    if folder is None:
        yield lambda epoch: None
        return
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise SettingError("--tensorboard needs a package: `pip install tensorboard`, or leave it out") from error
    with SummaryWriter(str(folder)) as writer:

        def write(epoch: Epoch) -> None:
            for name, value in asdict(epoch).items():
                if name != "epoch":
                    writer.add_scalar(name, value, epoch.epoch)
            writer.flush()

        yield write
