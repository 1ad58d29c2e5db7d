"""Tests of checkpoints: written atomically, read back to the last bit, and refused if damaged."""

import errno
from pathlib import Path

import pytest
import torch
from torch import nn

from retrieval.common.errors import ModelError, RetrievalError
from retrieval.training.checkpoint import read_checkpoint, write_checkpoint


class Learning:
    """A small network with convolutions in channels-last memory format, and its optimizer."""

    def __init__(self, seed: int) -> None:
        torch.manual_seed(seed)
        layers = nn.Sequential(nn.Conv2d(3, 7, 3), nn.BatchNorm2d(7), nn.Flatten(), nn.Linear(7 * 36, 5))
        self.module: nn.Module = layers.to(memory_format=torch.channels_last)
        groups = [{"params": [*layers[0].parameters()], "lr": 0.01}, {"params": [*layers[3].parameters()], "lr": 0.1}]
        self.optimizer = torch.optim.AdamW(groups)

    def learn(self, *steps: int) -> None:
        for step in steps:
            x = torch.randn(6, 3, 8, 8, generator=torch.Generator().manual_seed(step))
            self.optimizer.zero_grad()
            self.module(x.contiguous(memory_format=torch.channels_last)).square().mean().backward()
            self.optimizer.step()

    def write(self, file: Path, metadata: object = None) -> None:
        write_checkpoint(file, {"net": self.module}, self.optimizer, metadata)

    def read(self, file: Path) -> object:
        return read_checkpoint(file, {"net": self.module}, self.optimizer)


def test_a_resumed_training_reaches_the_same_weights(tmp_path: Path) -> None:
    file = tmp_path / "state"
    straight, interrupted, resumed = Learning(0), Learning(0), Learning(1)
    straight.learn(*range(8))
    interrupted.learn(*range(4))
    interrupted.write(file, {"history": [{"epoch": 1, "loss": 0.1}]})
    assert resumed.read(file) == {"history": [{"epoch": 1, "loss": 0.1}]}
    resumed.learn(*range(4, 8))
    for name, tensor in straight.module.state_dict().items():
        assert torch.equal(resumed.module.state_dict()[name], tensor), name
    assert [path.name for path in tmp_path.iterdir()] == ["state"]


def test_an_optimizer_s_state_is_restored_in_the_memory_format(tmp_path: Path) -> None:
    one, other = Learning(0), Learning(1)
    one.learn(0)
    one.write(tmp_path / "state")
    other.read(tmp_path / "state")
    for parameter in other.module.parameters():
        if parameter in other.optimizer.state:
            assert other.optimizer.state[parameter]["exp_avg"].stride() == parameter.stride()


def test_numbers_without_a_finite_decimal_are_restored_exactly(tmp_path: Path) -> None:
    learning = Learning(0)
    values = [0.1, 1 / 3, 5e-324, float("inf")]
    learning.write(tmp_path / "state", values)
    assert learning.read(tmp_path / "state") == values


def test_a_checkpoint_with_the_earlier_name_of_a_layer_is_restored(tmp_path: Path) -> None:
    earlier, present = nn.Sequential(), nn.Sequential()
    earlier.add_module("began_as", nn.Linear(3, 2))
    present.add_module("initial_dense", nn.Linear(3, 2))
    write_checkpoint(tmp_path / "state", {"trainee": earlier}, torch.optim.AdamW(earlier.parameters()), None)
    read_checkpoint(tmp_path / "state", {"trainee": present}, torch.optim.AdamW(present.parameters()))
    assert all(torch.equal(*both) for both in zip(present.parameters(), earlier.parameters(), strict=True))


@pytest.mark.parametrize("kept", [0, 4, 100, -1])
def test_a_damaged_file_is_refused_in_one_sentence(kept: int, tmp_path: Path) -> None:
    file, learning = tmp_path / "state", Learning(0)
    learning.learn(0)
    learning.write(file)
    file.write_bytes(file.read_bytes()[:kept])
    with pytest.raises(
        ModelError, match=r"state is not a checkpoint of this training \(.*\): train anew in another folder$"
    ):
        learning.read(file)


def test_another_network_s_checkpoint_and_a_missing_one_are_refused(tmp_path: Path) -> None:
    learning = Learning(0)
    other = nn.Linear(2, 2)
    write_checkpoint(tmp_path / "other", {"net": other}, torch.optim.AdamW(other.parameters()), None)
    for name in ("other", "gone"):
        with pytest.raises(ModelError, match="is not a checkpoint of this training") as caught:
            learning.read(tmp_path / name)
        assert "\n" not in str(caught.value)


def test_a_full_disk_keeps_the_last_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, learning = tmp_path / "state", Learning(0)
    learning.learn(0)
    learning.write(file, 1)
    write = Path.write_bytes

    def full(self: Path, data: bytes) -> int:
        write(self, data[:10])
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", full)
        with pytest.raises(RetrievalError, match=r"cannot be written \(No space left on device\): choose a place"):
            learning.write(file, 2)
    assert learning.read(file) == 1
    learning.write(file, 3)
    assert learning.read(file) == 3
    assert [path.name for path in tmp_path.iterdir()] == ["state"]
