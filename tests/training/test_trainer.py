"""Tests of the trainer: learning rates, the end, the best epoch, resuming, calibration, and trained distances."""

import os
import socket
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from retrieval.common.metrics import fit_logistic, sigmoid
from retrieval.datasets.pair_sampling import random_pairs
from retrieval.model.backbones import Backbone, build_backbone
from retrieval.model.head import Head
from retrieval.model.preprocessing import Pixels
from retrieval.training.batches import PairBatch, epoch_batches
from retrieval.training.learner import Learner
from retrieval.training.presets import FAST, PAPER, Preset
from retrieval.training.trainer import Epoch, Subset, Trainer, _cosine_factor, _plateau_state, _running_mean, best_epoch
from tests.support.progress import RecordedProgress
from tests.support.training import BRIEF, Counting, make_pixels, tiny_trunk

PIXELS, ALL = make_pixels(classes=4, each=6)
HELD_OUT, HELD_OUT_PART = make_pixels(classes=4, each=9)


def parts() -> tuple[Pixels, tuple[Subset, Subset]]:
    """Return six pictures of each class to train on and three to validate with."""
    within = np.arange(36) % 9
    train, validation = (
        Subset(rows, HELD_OUT_PART.codes[rows]) for rows in map(np.flatnonzero, (within < 6, within >= 6))
    )
    return HELD_OUT, (train, validation)


def training(tmp_path: Path, preset: Preset = BRIEF, trunk: Backbone | None = None, **reports: Any) -> Trainer:
    pixels, both = parts()
    return Trainer(trunk or tiny_trunk(), preset, pixels, both, 5, tmp_path / "checkpoint", **reports)


def same(one: torch.nn.Module, other: torch.nn.Module) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), other.state_dict().values(), strict=True))


# Rates and the end


def test_cosine_by_hand() -> None:
    assert _cosine_factor(0.0) == pytest.approx(0.01)  # never 0 at the start
    assert _cosine_factor(0.075) == pytest.approx(0.5)  # half-way up
    assert _cosine_factor(0.15) == pytest.approx(1.0)
    assert _cosine_factor(0.15 + 0.85 / 2) == pytest.approx(0.6)  # half-way down to a fifth
    assert _cosine_factor(0.15 + 0.85 / 3) == pytest.approx(0.8)  # cos 60 degrees is 1/2, so a quarter of the way
    assert _cosine_factor(1.0) == pytest.approx(0.2)


def test_the_running_mean_forgets_its_beginning() -> None:
    mean = _running_mean(0.9)
    assert float(mean(torch.tensor(0.0), torch.tensor(1.0), 0)) == pytest.approx(0.9)  # 1 - 1 / 10
    assert float(mean(torch.tensor(0.0), torch.tensor(1.0), 8)) == pytest.approx(0.5)  # 1 - 9 / 18
    assert float(mean(torch.tensor(0.0), torch.tensor(1.0), 1000)) == pytest.approx(0.1)


def losses(*values: float) -> list[Epoch]:
    return [Epoch(number, 0, value, 0.5, 0, 0) for number, value in enumerate(values, 1)]


@pytest.mark.parametrize(
    ("history", "since", "lowered"),
    [
        ([], 0, 0),
        ([1.0], 0, 0),
        ([1.0, 0.9, 0.8], 0, 0),
        ([1.0, 1.0, 1.0], 2, 0),  # no better, but waited two only
        ([1.0, 1.0, 1.0, 1.0], 3, 1),
        ([1.0, 2.0, 2.0, 2.0, 2.0, 2.0], 5, 1),
        ([1.0, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0], 6, 2),
        ([1.0, 2.0, 2.0, 2.0, 0.9, 1.0], 1, 1),  # a lowered rate stays lowered
        ([float("nan")] * 4, 4, 1),
    ],
)
def test_plateau_state_by_hand(history: list[float], since: int, lowered: int) -> None:
    assert _plateau_state(losses(*history)) == (since, lowered)


def scripted(monkeypatch: pytest.MonkeyPatch, *figures: tuple[float, float]) -> None:
    """Let validation return these losses and AUCs, epoch by epoch."""
    left = iter(figures)
    monkeypatch.setattr(Trainer, "_validate", lambda self: next(left))


def test_on_a_plateau_the_rate_is_lowered_and_training_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scripted(monkeypatch, (1.0, 0.5), (0.9, 0.5), *[(0.95, 0.5)] * 20)
    plateau = training(tmp_path, replace(BRIEF, schedule="plateau", epochs=20, head_rate=0.01))
    plateau.run()
    assert len(plateau.history) == 8  # the second was the best; six without a gain follow
    # A rate is seen by the epoch after the third that waits.
    assert [each.rate for each in plateau.history] == pytest.approx([0.01] * 5 + [0.002] * 3)


def test_the_cosine_schedule_uses_all_epochs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scripted(monkeypatch, *[(1.0, 0.5)] * 9)
    cosine = training(tmp_path, replace(BRIEF, epochs=9, frozen=1.0))
    cosine.run()
    assert len(cosine.history) == 9
    batches = 2  # 4 classes of 6 in chunks of 3, four chunks to a batch
    last_steps = [(epoch + (batches - 1) / batches) / 9 for epoch in range(9)]
    assert [each.rate for each in cosine.history] == pytest.approx(
        [BRIEF.head_rate * _cosine_factor(step) for step in last_steps]
    )


@pytest.mark.parametrize("average", [0.0, 0.9])
def test_the_best_epoch_has_the_greatest_validation_auc(
    average: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scripted(monkeypatch, (0.5, 0.7), (0.4, 0.9), (0.1, 0.8), (0.3, 0.9))
    kept: list[dict[str, Tensor]] = []

    def on_epoch(history: list[Epoch]) -> None:
        kept.append({name: tensor.clone() for name, tensor in found.evaluated.state_dict().items()})

    found = training(tmp_path, replace(BRIEF, epochs=4, average=average), on_epoch=on_epoch)
    assert best_epoch(found.history) == 0
    found.run()
    assert best_epoch(found.history) == 2  # the first of equal ones
    for name, tensor in found.best.state_dict().items():
        assert torch.equal(tensor, kept[1][name])
    assert not same(found.best, found.evaluated)
    assert (found.evaluated is found.learner) == (average == 0)


def test_progress_shows_every_step_and_its_loss(tmp_path: Path) -> None:
    progress = RecordedProgress()
    found = training(tmp_path, replace(BRIEF, epochs=2, warm_up=3), progress=progress)
    found.run()
    describing, warm_up, first, second = progress.stages
    assert [stage.total for stage in progress.stages] == [1, 6, 2, 2]
    assert progress.titles[1:] == ["Warming up the head", "Epoch 1 of 2", "Epoch 2 of 2"]
    assert describing.notes == []  # describing has no loss
    assert [stage.advances for stage in progress.stages] == [[1] * count for count in (1, 6, 2, 2)]
    assert [len(stage.notes) for stage in (warm_up, first, second)] == [6, 2, 2]
    losses = [float(note.removeprefix("loss ")) for note in first.notes]
    assert found.history[0].loss == pytest.approx(np.mean(losses), abs=0.0005)  # notes have three digits
    auc = f", validation AUC {found.history[0].validation_auc:.4f}"
    assert all(note.startswith("loss ") and note.endswith(auc) for note in second.notes)


# A frozen backbone


def test_training_the_head_alone_calls_the_backbone_once_for_each_picture(tmp_path: Path) -> None:
    trunk = tiny_trunk()
    counted = Counting(*trunk.module.children()).eval()
    Counting.seen = 0
    found = training(tmp_path, replace(BRIEF, frozen=1.0, epochs=5, calibrate=True), replace(trunk, module=counted))
    found.run()
    found.export_head()
    assert Counting.seen == 36
    assert all(
        torch.equal(a, b)
        for a, b in zip(tiny_trunk().module.state_dict().values(), counted.state_dict().values(), strict=True)
    )


# Resuming


@pytest.mark.slow
@pytest.mark.parametrize(
    "preset",
    [
        replace(BRIEF, augment=True, size=24, dropout=0.2, average=0.9, warm_up=2, frozen=0.5),
        replace(BRIEF, pairing="random", loss="contrastive", schedule="plateau", normalize=False, standardize=False),
        replace(BRIEF, frozen=1.0, dropout=0.2, loss="ProxyAnchorLoss"),
    ],
    ids=["fast", "paper", "head"],
)
def test_an_interrupted_training_resumes_to_the_same_weights(preset: Preset, tmp_path: Path) -> None:
    class Interrupted(Exception):
        pass

    def interrupt(history: list[Epoch]) -> None:
        raise Interrupted

    preset = replace(preset, epochs=3)
    straight = training(tmp_path, preset)
    straight.run()
    other = tmp_path / "other"
    other.mkdir()
    for _ in range(2):
        torch.rand(3)  # earlier random numbers do not matter
        with pytest.raises(Interrupted):
            training(other, preset, on_epoch=interrupt).run()
    resumed = training(other, preset)
    resumed.run()
    assert same(resumed.learner, straight.learner)
    assert same(resumed.best, straight.best)
    assert resumed.export_head().slope == straight.export_head().slope
    figures = [[replace(each, seconds=0) for each in found.history] for found in (resumed, straight)]
    assert figures[0] == figures[1]


def test_an_epoch_that_a_kill_kept_unreported_is_reported_on_resuming(tmp_path: Path) -> None:
    training(tmp_path).run()
    reported: list[int] = []
    training(tmp_path, on_epoch=lambda history: reported.append(len(history))).run()
    assert reported == [BRIEF.epochs]


def test_another_seed_gives_other_weights(tmp_path: Path) -> None:
    pixels, both = parts()
    found = []
    for seed in (0, 1):
        found.append(Trainer(tiny_trunk(), BRIEF, pixels, both, seed, tmp_path / str(seed)))
        found[-1].run()
    assert not same(found[0].best, found[1].best)


def test_torchs_deterministic_mode_is_restored(tmp_path: Path) -> None:
    try:
        torch.use_deterministic_algorithms(True, warn_only=True)
        training(tmp_path, replace(BRIEF, epochs=1)).run()
        assert torch.are_deterministic_algorithms_enabled()
        assert torch.is_deterministic_algorithms_warn_only_enabled()
    finally:
        torch.use_deterministic_algorithms(False)


# Calibration


def test_softened_targets_by_hand() -> None:
    # At D = 0 all four pairs are similar and at D = 1 all four different. Of 8 pictures the targets are 1/10 and 9/10,
    # which the sigmoid reaches exactly at log-odds of -log 9 and log 9; unsoftened, its slope would be infinite.
    x, y = np.repeat([0.0, 1.0], 4), np.repeat([False, True], 4)
    assert fit_logistic(x, y, 8) == pytest.approx((2 * np.log(9), -np.log(9)), abs=1e-6)
    assert fit_logistic(x, y, 2) == pytest.approx((2 * np.log(3), -np.log(3)), abs=1e-6)
    assert fit_logistic(x, y)[0] > 10


def test_the_neuron_is_fitted_to_the_validation_part(tmp_path: Path) -> None:
    found = training(tmp_path, replace(BRIEF, calibrate=True))
    found.run()
    head, uncalibrated = found.export_head(), found.best.export_head()
    np.testing.assert_array_equal(head.weight, uncalibrated.weight)
    assert (head.slope, head.intercept) != (uncalibrated.slope, uncalibrated.intercept)
    # At maximum likelihood the mean probability equals that of the softened targets.
    pixels, (_, validation) = parts()
    pictures = torch.from_numpy(pixels[validation.rows]).permute(0, 3, 1, 2).float()
    with torch.no_grad():
        g = found.best.eval().describe((pictures - 127) / 64).numpy()
    u = head.embed(g)
    chances, targets = [], []
    for draw in range(5):
        first, second, similar = random_pairs(validation.codes, 5 + draw)
        chances.append(head.distance(head.separation(u[first], u[second])))
        targets.append((~similar * 12 + 1) / 14)
    assert np.mean(chances) == pytest.approx(np.mean(targets), abs=1e-4)


def test_a_calibration_of_negative_slope_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = training(tmp_path, replace(BRIEF, calibrate=True))
    found.run()
    monkeypatch.setattr("retrieval.training.trainer.fit_logistic", lambda *arguments: (-3.0, 1.0))
    head, uncalibrated = found.export_head(), found.best.export_head()
    assert (head.slope, head.intercept) == (uncalibrated.slope, uncalibrated.intercept)
    assert head.slope > 0


# Label 1 is different


PRESETS = {
    "fast": replace(FAST, input_size=None, size=24, batch=24, epochs=4, units=16, frozen=0.0, rate=1e-3),
    "head": replace(FAST, input_size=None, augment=False, average=0.0, warm_up=0, frozen=1.0, epochs=15, units=16),
    "paper": replace(PAPER, epochs=12, units=16, rate=2e-3, head_rate=2e-3),
    "triplets": replace(BRIEF, loss="TripletMarginLoss", epochs=8),
    "proxies": replace(BRIEF, loss="ProxyAnchorLoss", epochs=8),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", PRESETS)
def test_trained_distances_within_classes_are_below_those_across(name: str, tmp_path: Path) -> None:
    found = training(tmp_path, PRESETS[name])
    found.run()
    head = found.export_head()
    assert head.slope > 0
    pixels, (_, validation) = parts()
    pictures = torch.from_numpy(pixels[validation.rows]).permute(0, 3, 1, 2).float()
    with torch.no_grad():
        u = head.embed(found.best.eval().describe((pictures - 127) / 64).numpy())
    first, second = np.triu_indices(len(u), 1)
    d = head.distance(head.separation(u[first], u[second]))
    different = validation.codes[first] != validation.codes[second]
    assert d[~different].mean() < d[different].mean() - 0.1
    equal = head.distance(head.separation(u, u))
    assert (equal < 0.5).all()
    assert (equal <= d.min()).all()


# The paper's preset


@pytest.fixture(scope="module")
def resnet50_files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Save a resnet50 of torchvision, random weights with its classifier, in both file formats."""
    from torchvision.models import resnet50

    torch.manual_seed(4)
    tensors = resnet50(weights=None).state_dict()
    folder = tmp_path_factory.mktemp("resnet50")
    torch.save(tensors, folder / "resnet50.pth")
    save_file(tensors, folder / "resnet50.safetensors")
    return {file.suffix: file for file in folder.iterdir()}


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object, **options: object) -> None:
        raise AssertionError("nothing may be downloaded")

    monkeypatch.setattr(socket, "create_connection", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(torch.hub, "download_url_to_file", refuse)
    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", refuse)


@pytest.mark.slow
@pytest.mark.usefixtures("offline")
def test_both_files_give_the_same_resnet50(resnet50_files: dict[str, Path]) -> None:
    one, other = (build_backbone("resnet50", weights=file) for file in resnet50_files.values())
    assert sorted(resnet50_files) == [".pth", ".safetensors"]
    assert same(one.module, other.module)
    assert one.channels == 2048


def papers_loss(head: Head, descriptors: np.ndarray, batch: PairBatch, codes: np.ndarray) -> float:
    """Compute section 4's loss in NumPy, with both kinds of pairs weighing the same."""
    e = np.maximum(descriptors @ head.weight.T + head.bias, 0).astype(np.float64)
    separation = np.linalg.norm(e[batch.first] - e[batch.second], axis=1)
    d = sigmoid(head.slope * separation + head.intercept)
    y = codes[batch.indices[batch.first]] != codes[batch.indices[batch.second]]
    each = 0.5 * np.where(y, np.square(np.maximum(2 - d, 0)), np.square(d))
    return float((each[y].mean() + each[~y].mean()) / 2)


@pytest.mark.slow
@pytest.mark.usefixtures("offline")
def test_the_papers_preset_on_resnet50(
    resnet50_files: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trunk = build_backbone("resnet50", weights=resnet50_files[".pth"])
    seen: list[tuple[Head, np.ndarray, float]] = []
    batch_loss = Learner.batch_loss

    def recorded(self: Learner, descriptors: Tensor, *others: Tensor) -> Tensor:
        loss = batch_loss(self, descriptors, *others)
        dense, output = self.network.dense, self.network.output
        weight, bias = dense.weight.detach().numpy().copy(), dense.bias.detach().numpy().copy()
        head = Head(weight, bias, output.weight.item(), output.bias.item(), False)
        seen.append((head, descriptors.detach().numpy().copy(), loss.item()))
        return loss

    monkeypatch.setattr(Learner, "batch_loss", recorded)
    preset = replace(PAPER, epochs=2, batch=24)
    progress = RecordedProgress()
    codes = ALL.codes[:16]
    part = Subset(np.arange(16), codes)
    found = Trainer(trunk, preset, PIXELS, (part, part), 3, tmp_path / "checkpoint", progress=progress)
    before = {name: tensor.clone() for name, tensor in trunk.module.state_dict().items()}
    found.run()

    epochs = [epoch_batches(preset, codes, 3, epoch) for epoch in (1, 2)]
    assert [len(batches) for batches in epochs] == [2, 2]  # 16 anchors, 24 // 3 of them to a batch
    notes = [note for stage in progress.stages for note in stage.notes]
    assert len(notes) == len(seen) == 4
    for (head, descriptors, loss), batch, note in zip(seen, epochs[0] + epochs[1], notes, strict=True):
        assert descriptors.shape == (len(batch.indices), 2048)
        assert loss == pytest.approx(papers_loss(head, descriptors, batch, codes), rel=1e-4)
        assert note.startswith(f"loss {loss:.3f}")
    changed = {name for name, tensor in trunk.module.state_dict().items() if not torch.equal(tensor, before[name])}
    assert changed == set(before)  # the whole backbone learns
    assert found.export_head().slope > 0
    assert len(found.export_head().bias) == 256
    assert os.listdir(tmp_path) == ["checkpoint"]
