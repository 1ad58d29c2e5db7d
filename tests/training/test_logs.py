"""Tests of a training's curves: a PNG that shows every epoch and marks the best."""

import io

import pytest
from matplotlib.axes import Axes
from PIL import Image

from retrieval.training.logs import plot_curves
from retrieval.training.trainer import Epoch


def history(*auc: float) -> list[Epoch]:
    return [Epoch(number, 1 / number, 0.5 / number, each, 1e-3, 1.0) for number, each in enumerate(auc, 1)]


@pytest.mark.parametrize("auc", [[0.5], [0.7, 0.9, 0.8], [0.9] * 40])
def test_any_number_of_epochs_can_be_plotted(auc: list[float]) -> None:
    picture = Image.open(io.BytesIO(plot_curves(history(*auc))))
    assert picture.format == "PNG"
    assert picture.size == (990, 396)


@pytest.mark.slow
def test_the_same_epochs_give_the_same_file() -> None:
    assert plot_curves(history(0.7, 0.9)) == plot_curves(history(0.7, 0.9))
    assert plot_curves(history(0.7, 0.9)) != plot_curves(history(0.7, 0.8))


def test_lines_and_best_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[tuple[list[int], list[float]]] = []
    annotations: list[str] = []
    plot = Axes.plot

    def recorded(self: Axes, x: list[int], y: list[float], **options: object) -> object:
        drawn.append((x, y))
        return plot(self, x, y, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(Axes, "plot", recorded)
    monkeypatch.setattr(Axes, "annotate", lambda self, text, *others, **options: annotations.append(text))
    plot_curves(history(0.7, 0.9, 0.9))
    assert drawn == [
        ([1, 2, 3], [1, 1 / 2, 1 / 3]),
        ([1, 2, 3], [0.5, 0.25, 0.5 / 3]),
        ([1, 2, 3], [0.7, 0.9, 0.9]),
    ]
    assert annotations == ["best: epoch 2, 0.9000"]  # the first of equal ones
