"""The Siamese network of the paper in torch, its loss, and model bundles written and read with it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from retrieval.backbones import Backbone, build_backbone
from retrieval.bundle import BACKBONE, Bundle, ModelCard, find_bundle, write_card
from retrieval.errors import ModelError
from retrieval.head import TINY, Head


class SiameseNetwork(nn.Module):
    """Backbone, average pooling, dense layer with ReLU, L2 distance, one sigmoid neuron (section 4).

    `normalize` brings embeddings to unit length before the distance.
    """

    def __init__(self, backbone: nn.Module, channels: int, units: int = 256, normalize: bool = False) -> None:
        super().__init__()
        self.backbone = backbone
        self.dense = nn.Linear(channels, units)
        self.output = nn.Linear(1, 1)
        self.normalize = normalize

    def embed(self, descriptors: Tensor) -> Tensor:
        """Descriptors (B, C) to what is compared, u (B, E)."""
        e = torch.relu(self.dense(descriptors))
        if not self.normalize:
            return e
        unit: Tensor = e / torch.linalg.vector_norm(e, dim=1, keepdim=True).clamp_min(TINY)
        return unit

    def distance(self, u1: Tensor, u2: Tensor) -> Tensor:
        """d = sigmoid(w ||u1 - u2|| + b) in (0, 1), (B,); label 1 means different."""
        separation = torch.linalg.vector_norm(u1 - u2, dim=1, keepdim=True)  # (B, 1)
        return torch.sigmoid(self.output(separation)).squeeze(1)

    def forward(self, x1: Tensor, x2: Tensor) -> Tensor:
        """The distance d (B,) of two batches of pictures (B, 3, H, W)."""
        u1, u2 = (self.embed(self.backbone(x).mean((2, 3))) for x in (x1, x2))
        return self.distance(u1, u2)


def contrastive_loss(d: Tensor, y: Tensor, margin: float = 2.0) -> Tensor:
    """Mean of ((1 - y) d^2 + y max(0, margin - d)^2) / 2 over the batch; y is 1 for different (section 4)."""
    return ((1 - y) * d.square() + y * (margin - d).clamp_min(0).square()).mean() / 2


def load_model(name: str = "default") -> SiameseNetwork:
    """The model of a bundle, by name or folder, as a SiameseNetwork in eval mode, float32.

    Raises ModelError where the bundle is missing or its weights do not fit.
    """
    bundle = find_bundle(name)
    trunk = build_backbone(bundle.card.backbone, pretrained=False)
    model = SiameseNetwork(trunk.module, trunk.channels, bundle.card.units, bundle.card.normalize)
    try:
        tensors = {name: tensor.float() for name, tensor in load_file(bundle.weights_file).items()}
        lacking, extra = model.load_state_dict(tensors, strict=False)
    except (OSError, RuntimeError, SafetensorError) as error:
        raise ModelError(f"{bundle.weights_file} does not fit the model: {error}") from error
    if extra or any(not name.endswith("num_batches_tracked") for name in lacking):
        raise ModelError(f"{bundle.weights_file} does not fit the model: lacks {lacking}, has {extra}")
    return model.eval()


def save_bundle(trunk: Backbone, head: Head, card: ModelCard, folder: Path) -> Bundle:
    """Write a bundle. Weights of two and more dimensions are stored as float16, which halves the file.

    Vectors (normalisation's statistics, biases) and the head stay float32.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {
        BACKBONE + name: tensor.half().contiguous() if tensor.ndim > 1 else tensor.contiguous()
        for name, tensor in trunk.module.state_dict().items()
        if not name.endswith("num_batches_tracked")
    }
    tensors |= {
        "dense.weight": torch.from_numpy(head.weight).contiguous(),
        "dense.bias": torch.from_numpy(head.bias),
        "output.weight": torch.tensor([[head.slope]]),
        "output.bias": torch.tensor([head.intercept]),
    }
    save_file(tensors, folder / "weights.safetensors")
    card = replace(card, backbone=trunk.name, preprocessing=trunk.preprocessing)
    write_card(card, folder)
    return Bundle(folder.resolve(), card)
