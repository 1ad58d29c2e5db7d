"""Pairs of pictures and small Siamese networks in torch."""

from collections.abc import Iterator
from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from retrieval.model.backbones import build_backbone
from retrieval.model.head import Array, Head
from retrieval.model.siamese import SiameseNetwork
from tests.support.generated import blocks

# By backbone: its last convolutional stage, whose output it gives, and the side of its input here.
BACKBONES = {"efficientnet_lite0": ("bn2", 96), "resnet50": ("layer4", 64), "resnet18": ("layer4", 96)}

PAIRS = 50
UNITS = 64
# By name: whether embeddings are brought to unit length, the shift of descriptors, the share of the mean as centre.
HEADS: dict[str, tuple[bool, float | None, float]] = {
    "paper": (False, None, 0),
    "unit": (True, None, 0),
    "centred": (True, 0.01, 0.85),
}

BATCH = 10


# --- against autograd and the public package


class Pair(nn.Module):
    """The siamese network over (2 N, 3, H, W): the first pictures of N pairs, then the second ones; gives d (N,)."""

    def __init__(self, siamese: SiameseNetwork) -> None:
        super().__init__()
        self.siamese = siamese

    def forward(self, x: Tensor) -> Tensor:
        activations = self.siamese.backbone(x)
        u1, u2 = self.siamese.embed(activations.mean((2, 3))).chunk(2)
        return self.siamese.distance(u1, u2)


class CentredNetwork(SiameseNetwork):
    """The siamese network, with a `centre` (E,) taken away from its embeddings if it has one, as the head does."""

    centre: Tensor | None = None

    def apply_dense(self, x: Tensor) -> Tensor:
        u = super().apply_dense(x)
        return u if self.centre is None else nn.functional.normalize(u - self.centre, dim=1)


@cache
def backbone(name: str) -> nn.Module:
    """Return a backbone with gradients from its last stage on, which is all that the maps need."""
    torch.manual_seed(7)
    module = build_backbone(name, pretrained=name == "efficientnet_lite0").module
    stage = module.get_submodule(BACKBONES[name][0])
    module.requires_grad_(False)
    stage.requires_grad_(True)
    return module


@cache
def pictures(name: str) -> Tensor:
    """Float (2 PAIRS, 3, H, W): seeded patterns, coarse and fine, dark and bright."""
    side = BACKBONES[name][1]
    random = np.random.default_rng(3)
    patterns = [blocks(seed, side, side, cells=int(random.integers(1, 9))) for seed in range(2 * PAIRS)]
    scaled = np.stack(patterns).transpose(0, 3, 1, 2) / 64 - 2
    return torch.from_numpy((scaled * random.uniform(0.3, 1, (2 * PAIRS, 1, 1, 1))).astype(np.float32))


@cache
def features(name: str) -> tuple[Array, Array]:
    """Return the pictures' activations and descriptors, in the package's batches, as rounding depends on them."""
    module, order = backbone(name), np.concatenate(list(batches()))
    with torch.inference_mode():
        activations = torch.cat([module(pictures(name)[places]) for places in batches()])[np.argsort(order)]
        return activations.numpy(), activations.mean((2, 3)).numpy()


@cache
def siamese(name: str, kind: str) -> tuple[SiameseNetwork, Head]:
    """Return a seeded head in torch and in NumPy, with a sigmoid that finds half of the pairs similar."""
    _, descriptors = features(name)
    normalize, shift, share = HEADS[kind]
    torch.manual_seed(11)
    network = CentredNetwork(backbone(name), descriptors.shape[1], UNITS, normalize, shift).eval()
    with torch.no_grad():
        network.dense.bias.normal_(0, float(descriptors.std()) / 10)
        if share:
            network.centre = share * network.embed(torch.from_numpy(descriptors)).mean(0)
        u1, u2 = network.embed(torch.from_numpy(descriptors)).chunk(2)
        middle = float(torch.linalg.vector_norm(u1 - u2, dim=1).median())
        network.output.weight.fill_(3 / middle)
        network.output.bias.fill_(-3)
    weight, bias = (tensor.detach().numpy() for tensor in (network.dense.weight, network.dense.bias))
    head = Head(weight, bias, network.output.weight.item(), network.output.bias.item(), normalize, shift)
    return network, head.centred(None if network.centre is None else network.centre.numpy())


def scaled(maps: Array) -> Array:
    """Return relu of each map (N, h, w), divided by its maximum; a map whose maximum is 0 stays empty."""
    positive = np.maximum(maps, 0)
    most = positive.max((1, 2), keepdims=True)
    result: Array = np.divide(positive, most, out=np.zeros_like(positive), where=most > 0)
    return result


def batches() -> Iterator[NDArray[np.int64]]:
    """Places of the pictures of BATCH pairs at a time: first ones, then second ones."""
    for start in range(0, PAIRS, BATCH):
        first = np.arange(start, start + BATCH)
        yield np.concatenate([first, first + PAIRS])
