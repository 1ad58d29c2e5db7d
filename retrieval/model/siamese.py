"""The paper's Siamese network in torch, and reading and writing it as a model bundle."""

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from retrieval.common.errors import ModelError
from retrieval.common.settings import DEFAULT_MODEL, Preprocessing
from retrieval.model.backbones import build_backbone
from retrieval.model.bundle import find_bundle
from retrieval.model.head import TINY


class SiameseNetwork(nn.Module):
    """Backbone, average pooling, dense layer with ReLU, L2 distance, one sigmoid neuron (section 4).

    Beyond the paper, `normalize` scales embeddings to unit length before the distance, and with `shift` the dense
    layer gets sqrt(g + shift) of the descriptors.
    """

    def __init__(
        self, backbone: nn.Module, channels: int, units: int = 256, normalize: bool = False, shift: float | None = None
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.dense = nn.Linear(channels, units)
        self.output = nn.Linear(1, 1)
        self.normalize = normalize
        self.shift = shift

    def embed(self, descriptors: Tensor) -> Tensor:
        """Return u (B, E), the embeddings as they are compared, of descriptors (B, C)."""
        return self.apply_dense(self.apply_root(descriptors))

    def apply_root(self, descriptors: Tensor) -> Tensor:
        """Return the dense layer's input (B, C): the descriptors, or the root of their sum with the shift."""
        return descriptors if self.shift is None else (descriptors + self.shift).clamp_min(0).sqrt()

    def apply_dense(self, x: Tensor) -> Tensor:
        """Return u (B, E) of the dense layer's input (B, C)."""
        e = torch.relu(self.dense(x))
        return nn.functional.normalize(e, dim=1, eps=TINY) if self.normalize else e

    def distance(self, u1: Tensor, u2: Tensor) -> Tensor:
        """Return d = sigmoid(w ||u1 - u2|| + b) in (0, 1), (B,); label 1 means different."""
        separation = torch.linalg.vector_norm(u1 - u2, dim=1, keepdim=True)  # (B, 1)
        return torch.sigmoid(self.output(separation)).squeeze(1)

    def forward(self, x1: Tensor, x2: Tensor) -> Tensor:
        """Return the distance d (B,) of two batches of pictures (B, 3, H, W)."""
        u1, u2 = (self.embed(self.backbone(x).mean((2, 3))) for x in (x1, x2))
        return self.distance(u1, u2)


def to_input(pixels: Tensor, preprocessing: Preprocessing) -> Tensor:
    """Return what the network sees of pixels of 0 to 255, (B, 3, H, W), on their device: float32, of one shape."""
    channels = (preprocessing.mean, preprocessing.std)
    mean, std = (torch.tensor(each, device=pixels.device).view(1, 3, 1, 1) for each in channels)
    return (pixels.float() - mean) / std


def load_model(name: str = DEFAULT_MODEL) -> SiameseNetwork:
    """Load the model of a bundle, by name or folder, as a float32 SiameseNetwork in eval mode. Raises ModelError."""
    bundle = find_bundle(name)
    card, file = bundle.card, bundle.weights_file
    trunk = build_backbone(card.backbone, pretrained=False)
    model = SiameseNetwork(trunk.module, trunk.channels, card.units, card.normalize, card.shift)
    try:
        tensors = {name: tensor.float() for name, tensor in load_file(file).items()}
        missing, extra = model.load_state_dict(tensors, strict=False)
    except (OSError, RuntimeError, SafetensorError) as error:
        raise ModelError(f"{file} does not fit what its model.json says: get the bundle again") from error
    if extra or any(not name.endswith("num_batches_tracked") for name in missing):
        raise ModelError(f"{file} does not fit what its model.json says: lacks {missing}, has {extra}")
    return model.eval()
