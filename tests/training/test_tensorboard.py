"""Tests of TensorBoard's event files, if it is installed."""

import sys
from dataclasses import asdict
from pathlib import Path

import pytest

from retrieval.common.errors import SettingError
from retrieval.training.logs import event_writer
from retrieval.training.trainer import Epoch

EPOCHS = [Epoch(1, 1.5, 0.75, 0.5, 1e-3, 2.0), Epoch(2, 0.5, 0.25, 0.875, 1e-4, 3.0)]


def test_each_figure_of_each_epoch_can_be_read_back(tmp_path: Path) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    with event_writer(tmp_path / "events") as write:
        for epoch in EPOCHS:
            write(epoch)
    read = accumulator.EventAccumulator(str(tmp_path / "events")).Reload()
    names = set(asdict(EPOCHS[0])) - {"epoch"}
    assert set(read.Tags()["scalars"]) == names
    for name in names:
        found = [(event.step, event.value) for event in read.Scalars(name)]
        assert found == [(epoch.epoch, pytest.approx(getattr(epoch, name))) for epoch in EPOCHS]


def test_without_a_folder_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)  # and it is not even imported
    with event_writer(None) as write:
        write(EPOCHS[0])
    assert list(tmp_path.iterdir()) == []


def test_without_tensorboard_the_error_names_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with (
        pytest.raises(SettingError, match="--tensorboard needs a package: `pip install tensorboard`"),
        event_writer(tmp_path),
    ):
        pass
