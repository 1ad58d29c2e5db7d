"""A model whose weights are randomised part by part, from the head down, until it is untrained.

This is the cascading randomisation of Adebayo et al. (2018, "Sanity Checks for Saliency Maps"). The values of each
tensor are shuffled, so it keeps its mean, spread and range in any architecture, and nothing that it has learnt; drawing
new values would need the initialisation of each kind of layer. The statistics of batch normalisation no longer fit
then, and are measured again on the pictures: otherwise activations vanish or explode.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn

from retrieval.common.parallel import batched
from retrieval.common.progress import SILENT_STAGE, WorkStage
from retrieval.model.backbones import weighted_layers
from retrieval.model.bundle import Bundle
from retrieval.model.head import Array
from retrieval.model.inference import Features, torch_device
from retrieval.model.preprocessing import Pixels
from retrieval.model.siamese import load_model, to_input

HEAD = "head"

_BATCH = 16
_SETTLED_ON = 32  # pictures that statistics are measured on, in one batch


class RandomisedModel:
    """A bundle's model, trained at first; `randomise` takes its `parts` one after the other, in order.

    `seed` determines the shuffling. A tensor of equal values stays as it is.
    """

    def __init__(self, bundle: Bundle, seed: int = 0, device: str = "auto") -> None:
        """Open the bundle. Raises ModelError."""
        self.head = bundle.head
        self._preprocessing = bundle.card.preprocessing
        self.blank = self._preprocessing.mean
        self._device = torch_device(device)
        self._trunk = load_model(str(bundle.folder)).backbone.to(self._device)
        self._random = np.random.default_rng(seed)
        self._left = named_parts(self._trunk)
        self._norms: list[nn.BatchNorm2d] = []
        self.parts: tuple[str, ...] = (HEAD, *(name for name, _ in reversed(self._left)))

    def randomise(self, part: str, pictures: Sequence[Pixels]) -> None:
        """Randomise the next part, and measure the statistics of all randomised parts on these pictures.

        Batch normalisation needs at least two pictures. Raises ValueError if another part is next.
        """
        if part == HEAD:
            weight, bias = (self._random.permuted(values) for values in (self.head.weight, self.head.bias))
            self.head = replace(self.head, weight=weight, bias=bias)
            return
        name, modules = self._left.pop()
        if name != part:
            raise ValueError(f"it is the turn of {name}, not of {part}")
        with torch.no_grad():
            for parameter in (each for module in modules for each in module.parameters()):
                parameter.copy_(torch.from_numpy(self._random.permuted(parameter.cpu().numpy())))
        self._norms += [each for module in modules for each in module.modules() if isinstance(each, nn.BatchNorm2d)]
        self._measure_norms(pictures[:: -(-len(pictures) // _SETTLED_ON)])

    def activate(self, pictures: Sequence[Pixels | Array], stage: WorkStage = SILENT_STAGE) -> Features:
        """Return activations (N, C, h, w) and descriptors (N, C) of pictures (size, size, 3), uint8 or float32 to 255.

        If any of a picture's are not finite, all are set to 0, so that its heatmaps are empty.
        """
        parts: list[Array] = []
        with torch.inference_mode():
            for batch in batched(pictures, _BATCH):
                parts.append(self._trunk(self._to_input(batch)).float().cpu().numpy())
                stage.advance(len(batch))
        activations = np.concatenate(parts)
        activations[~np.isfinite(activations).all((1, 2, 3))] = 0
        return Features(activations, activations.mean((2, 3)))

    def describe(self, pictures: Sequence[Array]) -> Array:
        """Return descriptors (N, C) of changed pictures, for methods that run the network again."""
        return self.activate(pictures).descriptors

    def _measure_norms(self, pictures: Sequence[Pixels]) -> None:
        for norm in self._norms:
            norm.reset_running_stats()
            norm.momentum = None  # the mean of all batches, of which there is one
            norm.train()
        with torch.no_grad():
            self._trunk(self._to_input(pictures))
        for norm in self._norms:
            norm.eval()

    def _to_input(self, pictures: Sequence[Pixels | Array]) -> Tensor:
        x = torch.from_numpy(np.stack(pictures)).to(self._device)
        return to_input(x.permute(0, 3, 1, 2), self._preprocessing)


def named_parts(trunk: nn.Module) -> list[tuple[str, list[nn.Module]]]:
    """Return a trunk's parts with weights, from the input on, by name; a norm belongs to the layer before it."""
    names = {id(module): name for name, module in trunk.named_modules()}
    parts: list[tuple[str, list[nn.Module]]] = []
    for module in weighted_layers(trunk):
        if parts and all(parameter.ndim < 2 for parameter in module.parameters()):
            parts[-1][1].append(module)
        else:
            parts.append((names[id(module)], [module]))
    return parts
