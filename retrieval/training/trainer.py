"""Training of a Siamese network epoch by epoch; a run killed at any moment resumes to the same weights."""

import copy
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.optim.swa_utils import AveragedModel

from retrieval.common.metrics import fit_logistic, roc_auc
from retrieval.common.progress import SILENT, Progress, WorkStage
from retrieval.datasets.pair_sampling import Codes, Flags, random_pairs
from retrieval.model.backbones import Backbone
from retrieval.model.head import Head
from retrieval.model.preprocessing import Pixels
from retrieval.model.siamese import to_input
from retrieval.training.batches import Loader, PairBatch, epoch_batches
from retrieval.training.checkpoint import read_checkpoint, write_checkpoint
from retrieval.training.learner import Learner
from retrieval.training.losses import ContrastiveLoss, balanced_log_loss
from retrieval.training.presets import Preset

_STEP = 64  # pictures described at once
_DRAWS = 5  # of random pairs of the validation part, so that no single draw's luck chooses the epoch
_CALIBRATION_RATE = 10  # times the head's
_RISE_SHARE, _FINAL_SHARE = 0.15, 0.2  # share of the steps in which the cosine schedule's rate rises, and where it ends
_DECAY_PATIENCE, _DECAY_FACTOR = 2, 0.2  # plateau: after more epochs without a better loss, the rate is lowered
_STOP_PATIENCE = 6  # plateau: after as many epochs without a better loss, the training ends


@dataclass(frozen=True)
class Subset:
    """Pictures to train on or to validate with: their rows in the pixels and their class codes, (N,) each."""

    rows: Codes
    codes: Codes


@dataclass(frozen=True)
class Epoch:
    """The figures of an epoch: mean loss of its batches, validation loss and AUC, the head's last learning rate."""

    epoch: int
    loss: float
    validation_loss: float
    validation_auc: float
    rate: float
    seconds: float


def best_epoch(history: Sequence[Epoch]) -> int:
    """Return the epoch with the greatest validation AUC, the first of equal ones; 0 if there is none."""
    return max(history, key=lambda each: (each.validation_auc, -each.epoch)).epoch if history else 0


class Trainer:
    """One training. Its state is written to `checkpoint` after each epoch, and restored if that exists."""

    def __init__(
        self,
        backbone: Backbone,
        preset: Preset,
        pixels: Pixels,
        subsets: tuple[Subset, Subset],
        seed: int,
        checkpoint: Path,
        initial_head: Head | None = None,
        device: str = "cpu",
        progress: Progress = SILENT,
        on_epoch: Callable[[list[Epoch]], None] = lambda history: None,
    ) -> None:
        """Set up a training on the first subset, validated with the second.

        `on_epoch` is called with the history after each epoch. Raises ModelError.
        """
        torch.manual_seed(seed)
        self.preset = preset
        self.pixels = pixels
        self.training_set, self.validation_set = subsets
        self.seed = seed
        self.checkpoint = checkpoint
        self.progress = progress
        self.on_epoch = on_epoch
        self.device = device
        self._preprocessing = backbone.preprocessing
        learner = Learner(backbone, preset, int(self.training_set.codes.max()) + 1, initial_head)
        self.learner = learner.to(device).to(memory_format=torch.channels_last)
        self.best = copy.deepcopy(self.learner)
        self.average = AveragedModel(self.learner, avg_fn=_running_mean(preset.average), use_buffers=True)
        self.optimizer = self._optimizer(preset.rate, preset.head_rate)
        self.history: list[Epoch] = []
        self._loader = Loader(pixels, self.training_set.rows, preset, seed)

    def run(self) -> None:
        """Train to the end; then `best` has the best epoch's weights."""
        with _deterministic():
            if self.checkpoint.exists():
                history = read_checkpoint(self.checkpoint, self._modules(), self.optimizer)
                self.history = [Epoch(**each) for each in history]
                if self.history:  # a kill may have come before this call
                    self.on_epoch(self.history)
            else:
                self._begin()
                self._save()
            while not self._is_over():
                self._run_epoch(len(self.history) + 1)
                self._save()
                self.on_epoch(self.history)
            self._loader.close()

    @property
    def evaluated(self) -> Learner:
        """The weights that are validated: the running mean, if the preset has one."""
        average: Learner = self.average.module  # type: ignore[assignment]
        return average if self.preset.average else self.learner

    def export_head(self) -> Head:
        """Return the best epoch's head, its sigmoid neuron fitted to the validation part if the preset says so."""
        head = self.best.export_head()
        if not self.preset.calibrate:
            return head
        descriptors = self._validation_descriptors(self.best).numpy()
        first, second, different = _validation_pairs(self.validation_set.codes, self.seed)
        separations = head.pair_separations(descriptors, first, second)
        slope, intercept = fit_logistic(separations, different, len(descriptors))
        return head.calibrated(slope, intercept) if slope > 0 else head

    def _optimizer(self, rate: float, head_rate: float) -> torch.optim.Optimizer:
        network, loss = self.learner.network, self.learner.loss
        backbone = [parameter for parameter in network.backbone.parameters() if parameter.requires_grad]
        head = [*network.dense.parameters(), *loss.parameters()]
        decay = self.preset.weight_decay
        groups = [
            {"params": backbone, "lr": rate, "weight_decay": decay},
            {"params": head, "lr": head_rate, "weight_decay": decay},
            {"params": [*network.output.parameters()], "lr": _CALIBRATION_RATE * head_rate, "weight_decay": 0.0},
        ]
        for group in groups:
            group["base_lr"] = group["lr"]
        return torch.optim.AdamW(groups)  # Adam itself without weight decay

    def _begin(self) -> None:
        descriptors = self._first_descriptors()
        self.learner.standardize(descriptors)
        self.learner.eval()
        sample = np.random.default_rng(self.seed).permutation(len(descriptors))[:_STEP]  # of all classes
        self.learner.init_calibration(descriptors[sample])
        if self.preset.warm_up:
            self._warm_up(descriptors)
        self.average.module.load_state_dict(self.learner.state_dict())

    def _first_descriptors(self) -> Tensor:
        """Return descriptors of the training part, or of a sample of it if there is no warm-up."""
        if not self.learner.is_thawed:
            return self._cached_descriptors[0]
        rows = self.training_set.rows
        if not self.preset.warm_up:
            rows = np.random.default_rng(self.seed).permutation(rows)[:_STEP]
        return self._describe(self.learner, rows, "Describing the training part").to(self.device)

    def _warm_up(self, descriptors: Tensor) -> None:
        """Train the head alone on descriptors of whole pictures, so that a random one does not spoil the backbone."""
        optimizer = self._optimizer(0.0, self.preset.head_rate)
        self.learner.train()
        numbers = (self.preset.epochs + 1 + number for number in range(self.preset.warm_up))  # not used by epochs
        epochs = [epoch_batches(self.preset, self.training_set.codes, self.seed, number) for number in numbers]
        batches = [batch for epoch in epochs for batch in epoch]
        with self.progress.stage("Warming up the head", len(batches)) as stage:
            for step, batch in enumerate(batches):
                self._set_rates(optimizer, _cosine_factor(step / len(batches)))
                self._train_step(optimizer, descriptors[batch.indices], batch, stage)

    def _run_epoch(self, epoch: int) -> None:
        started = time.perf_counter()
        torch.manual_seed(int(np.random.SeedSequence([self.seed, epoch]).generate_state(1)[0]))
        batches = epoch_batches(self.preset, self.training_set.codes, self.seed, epoch)
        self.learner.train()
        self.learner.set_hardest_share(self.preset.hardest if 2 * epoch > self.preset.epochs else 1.0)
        losses = []
        with self.progress.stage(f"Epoch {epoch} of {self.preset.epochs}", len(batches)) as stage:
            for step, (batch, descriptors) in enumerate(self._iter_descriptors(batches, epoch)):
                self._set_rates(self.optimizer, self._rate_share(epoch - 1 + step / len(batches)))
                losses.append(self._train_step(self.optimizer, descriptors, batch, stage))
                if self.preset.average:
                    self.average.update_parameters(self.learner)
        loss, auc = self._validate()
        rate, seconds = self.optimizer.param_groups[1]["lr"], time.perf_counter() - started
        self.history.append(Epoch(epoch, float(np.mean(losses)), loss, auc, rate, seconds))
        if best_epoch(self.history) == epoch:
            self.best.load_state_dict(self.evaluated.state_dict())

    def _iter_descriptors(self, batches: list[PairBatch], epoch: int) -> Iterator[tuple[PairBatch, Tensor]]:
        """Yield each batch with its descriptors: of augmented pictures, or cached ones of a frozen backbone."""
        if not self.learner.is_thawed:
            cached = self._cached_descriptors[0]
            yield from ((batch, cached[batch.indices]) for batch in batches)
            return
        for batch, pictures in self._loader.load(batches, epoch):
            yield batch, self._apply_backbone(self.learner, pictures)

    def _train_step(
        self, optimizer: torch.optim.Optimizer, descriptors: Tensor, batch: PairBatch, stage: WorkStage
    ) -> float:
        classes, first, second = (
            torch.from_numpy(each).to(self.device)
            for each in (self.training_set.codes[batch.indices], batch.first, batch.second)
        )
        loss = self.learner.batch_loss(descriptors, classes, first, second)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        stage.advance()
        auc = f", validation AUC {self.history[-1].validation_auc:.4f}" if self.history else ""
        stage.note(f"loss {loss.item():.3f}{auc}")
        return loss.item()

    def _set_rates(self, optimizer: torch.optim.Optimizer, share: float) -> None:
        for group in optimizer.param_groups:
            group["lr"] = share * group["base_lr"]

    def _rate_share(self, epochs: float) -> float:
        if self.preset.schedule == "cosine":
            return _cosine_factor(epochs / self.preset.epochs)
        return float(_DECAY_FACTOR ** (_plateau_state(self.history)[1]))

    def _is_over(self) -> bool:
        stalled = self.preset.schedule == "plateau" and _plateau_state(self.history)[0] >= _STOP_PATIENCE
        return stalled or len(self.history) >= self.preset.epochs

    @torch.no_grad()
    def _validate(self) -> tuple[float, float]:
        """Return loss and ROC AUC on random pairs of the validation part."""
        learner = self.evaluated.eval()
        u = learner.embed(self._validation_descriptors(learner).to(self.device))
        pairs = _validation_pairs(self.validation_set.codes, self.seed)
        first, second, different = (torch.from_numpy(each).to(self.device) for each in pairs)
        separations = torch.linalg.vector_norm(u[first] - u[second], dim=1, keepdim=True)
        if isinstance(learner.loss, ContrastiveLoss):
            loss = learner.loss(u, u, separations, learner.network.output, different)
        else:
            loss = balanced_log_loss(learner.network.output(separations), different)
        auc = roc_auc(separations.squeeze(1).cpu().double().numpy(), different.cpu().numpy())
        return loss.item(), auc

    @cached_property
    def _cached_descriptors(self) -> tuple[Tensor, Tensor]:
        """Descriptors of both parts on the device, if the whole backbone is frozen."""
        parts = (self.training_set.rows, "training"), (self.validation_set.rows, "validation")
        train, validation = (self._describe(self.learner, rows, f"Describing the {name} part") for rows, name in parts)
        return train.to(self.device), validation.to(self.device)

    def _validation_descriptors(self, learner: Learner) -> Tensor:
        """Return the validation part's descriptors by a learner, on the CPU."""
        if self.learner.is_thawed:
            return self._describe(learner, self.validation_set.rows)
        return self._cached_descriptors[1].cpu()

    @torch.no_grad()
    def _describe(self, learner: Learner, rows: Codes, title: str = "") -> Tensor:
        """Return descriptors (N, C) of whole pictures, on the CPU."""
        was_training = learner.training
        learner.eval()
        steps = range(0, len(rows), _STEP)
        descriptors = []
        with (self.progress if title else SILENT).stage(title, len(steps)) as stage:
            for start in steps:
                pictures = torch.from_numpy(self.pixels[rows[start : start + _STEP]]).permute(0, 3, 1, 2)
                descriptors.append(self._apply_backbone(learner, pictures).cpu())
                stage.advance()
        learner.train(was_training)
        return torch.cat(descriptors)

    def _apply_backbone(self, learner: Learner, pictures: Tensor) -> Tensor:
        """Return descriptors (B, C) of pictures, uint8 (B, 3, H, W), on the device."""
        x = to_input(pictures.to(self.device), self._preprocessing).contiguous(memory_format=torch.channels_last)
        with torch.autocast(self.device, torch.bfloat16, enabled=self.preset.bfloat16 and _has_bfloat16(self.device)):
            return learner.describe(x)

    def _modules(self) -> dict[str, torch.nn.Module]:
        average = {"average": self.average} if self.preset.average else {}
        return {"trainee": self.learner, "best": self.best, **average}

    def _save(self) -> None:
        write_checkpoint(self.checkpoint, self._modules(), self.optimizer, [asdict(each) for each in self.history])


def _validation_pairs(codes: Codes, seed: int) -> tuple[Codes, Codes, Flags]:
    """Return several draws of random pairs, (P,) each: first, second, whether they are different."""
    draws = [random_pairs(codes, seed + draw) for draw in range(_DRAWS)]
    first, second, similar = (np.concatenate(each) for each in zip(*draws, strict=True))
    return first, second, ~similar


def _running_mean(decay: float) -> Callable[[Tensor, Tensor, Tensor | int], Tensor]:
    """Return the update of a running mean, with a shorter memory at first: a short training forgets its start."""

    def update(mean: Tensor, weights: Tensor, count: Tensor | int) -> Tensor:
        rate = 1 - min(decay, (1 + int(count)) / (10 + int(count)))
        return mean + rate * (weights - mean)

    return update


def _cosine_factor(done: float) -> float:
    """Return the share of the base rate after this share of the steps: a linear rise, then a cosine down to a fifth.

    It does not fall to 0: the running mean of the weights serves that purpose, and a last phase of small steps learns
    the mistakes of the labels.
    """
    if done < _RISE_SHARE:
        return max(done, 0.01 * _RISE_SHARE) / _RISE_SHARE
    return _FINAL_SHARE + (1 - _FINAL_SHARE) * 0.5 * (1 + math.cos(math.pi * (done - _RISE_SHARE) / (1 - _RISE_SHARE)))


def _plateau_state(history: list[Epoch]) -> tuple[int, int]:
    """Return the epochs since the least validation loss, and how often the rate was lowered."""
    least, since, lowered = math.inf, 0, 0
    for epoch in history:
        since = 0 if epoch.validation_loss < least else since + 1
        least = min(least, epoch.validation_loss)  # which a loss of NaN leaves as it is
        lowered += since > 0 and since % (_DECAY_PATIENCE + 1) == 0
    return since, lowered


def _has_bfloat16(device: str) -> bool:
    """Return whether the device computes in bfloat16, and does not only store it."""
    if device == "cuda":
        return bool(torch.cuda.is_bf16_supported())
    if device != "cpu" or not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return False
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


@contextmanager
def _deterministic() -> Iterator[None]:
    """Make the same input give the same weights, as far as the device can."""
    filling: Any = torch.utils.deterministic
    enabled = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    filled = filling.fill_uninitialized_memory
    torch.use_deterministic_algorithms(True, warn_only=True)
    filling.fill_uninitialized_memory = False  # takes time, and no uninitialised memory is read here
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(enabled, warn_only=warn_only)
        filling.fill_uninitialized_memory = filled
