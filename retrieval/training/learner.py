"""The Siamese network in training: standardised descriptors, the loss of a batch, and the exported head."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from retrieval.model.backbones import Backbone, weighted_layers
from retrieval.model.head import Head
from retrieval.model.siamese import SiameseNetwork
from retrieval.training.losses import PairLoss, build_loss
from retrieval.training.presets import Preset

_STEEPNESS = 4.0  # initial, of the sigmoid neuron: log-odds -4 at D = 0, and 0 at the first batch's mean


class Learner(nn.Module):
    """A network with its loss.

    The dense layer sees x' = (x - m) / s of the shaped descriptors x (B, C), with m (C,) and s () those of the
    training part, so that one learning rate suits all channels. `export_head` folds m and s into W and c.
    """

    mean: Tensor
    spread: Tensor

    def __init__(self, backbone: Backbone, preset: Preset, class_count: int, initial_head: Head | None = None) -> None:
        super().__init__()
        units = len(initial_head.bias) if initial_head else preset.units
        self.preset = preset
        self.network = SiameseNetwork(backbone.module, backbone.channels, units, preset.normalize, preset.shift)
        self.loss = build_loss(preset.loss, class_count, units)
        self.register_buffer("mean", torch.zeros(backbone.channels))
        self.register_buffer("spread", torch.ones(()))
        parts = weighted_layers(backbone.module)
        self._frozen = tuple(parts[: round(preset.frozen * len(parts))])
        for part in self._frozen:
            part.requires_grad_(False)
        self.initial_dense: nn.Linear | None = None
        if initial_head:
            self.initial_dense = nn.Linear(backbone.channels, units).requires_grad_(False)
            self.initial_dense.weight.copy_(torch.from_numpy(initial_head.weight))
            self.initial_dense.bias.copy_(torch.from_numpy(initial_head.bias))

    @property
    def is_thawed(self) -> bool:
        """Whether any of the backbone's weights are trained."""
        return any(parameter.requires_grad for parameter in self.network.backbone.parameters())

    def train(self, mode: bool = True) -> Learner:
        """Set the training mode, but keep the batch normalisation's statistics in frozen stages, or everywhere."""
        super().train(mode)
        for part in (self.network.backbone,) if self.preset.frozen_statistics else self._frozen:
            part.eval()
        return self

    @torch.no_grad()
    def standardize(self, descriptors: Tensor) -> None:
        """Take m and s from descriptors (N, C), and express the initial head in standardised descriptors."""
        x = self.network.apply_root(descriptors)
        if self.preset.standardize:
            self.mean.copy_(x.mean(0))
            self.spread.copy_((x - self.mean).square().mean().sqrt().clamp_min(1e-6))
        if self.initial_dense is not None:
            weight, bias = self.initial_dense.weight, self.initial_dense.bias
            self.network.dense.weight.copy_(weight * self.spread)
            self.network.dense.bias.copy_(bias + weight @ self.mean)

    @torch.no_grad()
    def init_calibration(self, descriptors: Tensor) -> None:
        """Initialise the sigmoid neuron so that it does not saturate: d = 0.5 at the mean separation."""
        mean = torch.pdist(self.embed(descriptors)).mean().clamp_min(1e-6)
        self.network.output.weight.fill_(_STEEPNESS / float(mean))
        self.network.output.bias.fill_(-_STEEPNESS)

    def set_hardest_share(self, share: float) -> None:
        """Count only this share of a batch's pairs of each kind, the hardest, if the loss supports it."""
        if isinstance(self.loss, PairLoss):
            self.loss.hardest_share = share

    def describe(self, pictures: Tensor) -> Tensor:
        """Return descriptors (B, C) of normalised pictures (B, 3, H, W)."""
        activations: Tensor = self.network.backbone(pictures)
        return activations.mean((2, 3), dtype=torch.float32)

    def embed(self, descriptors: Tensor) -> Tensor:
        """Return embeddings u (B, E) of descriptors (B, C)."""
        x = (self.network.apply_root(descriptors) - self.mean) / self.spread
        return self.network.apply_dense(functional.dropout(x, self.preset.dropout, self.training))

    def batch_loss(self, descriptors: Tensor, classes: Tensor, first: Tensor, second: Tensor) -> Tensor:
        """Return the loss of a batch's descriptors (B, C) and of its pairs (P,), given by rows of the descriptors."""
        u = self.embed(descriptors)
        separations = torch.linalg.vector_norm(u[first] - u[second], dim=1, keepdim=True)
        different = classes[first] != classes[second]
        loss: Tensor = self.loss(u, classes, separations, self.network.output, different)
        if self.initial_dense is not None:
            loss = loss + self.preset.keep_general * self._drift(self.initial_dense, descriptors, u)
        return loss

    def _drift(self, initial_dense: nn.Module, descriptors: Tensor, u: Tensor) -> Tensor:
        """Return the mean squared change of a batch's cosines since the initial head."""
        with torch.no_grad():
            e = torch.relu(initial_dense(self.network.apply_root(descriptors)))
            before = functional.normalize(e, dim=1)
        after = functional.normalize(u, dim=1)
        return (after @ after.T - before @ before.T).square().mean()

    @torch.no_grad()
    def export_head(self) -> Head:
        """Return the head in NumPy, with m and s folded into it."""
        dense, output, preset = self.network.dense, self.network.output, self.preset
        weight = dense.weight / self.spread
        bias = (dense.bias - weight @ self.mean).cpu().numpy().copy()
        stored = weight.half().float().cpu().numpy()  # rounded as in a bundle
        return Head(stored, bias, output.weight.item(), output.bias.item(), preset.normalize, preset.shift)
