"""Heatmaps by the public grad-cam package, on the torch network: what our closed form is compared with.

Grad-CAM of y = d and of y = 1 - d on the last convolutional layer, for both pictures of each pair of a query and a hit.
The embedding of the picture on the other side is known to each call, so that only the picture that is explained goes
forward and backward: twenty maps of five pairs are twenty passes of a picture, which favours the package.
"""

from collections.abc import Callable, Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from pytorch_grad_cam import GradCAM
from torch import Tensor, nn

from retrieval.model.head import Array
from retrieval.model.siamese import SiameseNetwork

LAYER = "bn2"  # the last stage of EfficientNet-Lite0, whose output the backbone gives
TARGETS: dict[str, Callable[[Tensor], Tensor]] = {"y": lambda d: d, "1 - y": lambda d: 1 - d}


class Against(nn.Module):
    """The distances d (B,) of pictures (B, 3, H, W) from others, whose embeddings (B, E) are known."""

    def __init__(self, siamese: SiameseNetwork, others: Tensor) -> None:
        super().__init__()
        self.siamese = siamese
        self.others = others

    def forward(self, x: Tensor) -> Tensor:
        u = self.siamese.embed(self.siamese.backbone(x).mean((2, 3)))
        return self.siamese.distance(u, self.others)


class RawGradCAM(GradCAM):  # type: ignore[misc]
    """The package's Grad-CAM that gives its maps (B, h, w) as they are before they are cut at 0, resized, stretched."""

    raw: NDArray[np.float32]

    def get_cam_image(self, *arguments: object) -> NDArray[np.float32]:
        self.raw = super().get_cam_image(*arguments)
        return self.raw

    def forward(self, *arguments: object) -> NDArray[np.float32]:
        super().forward(*arguments)
        return self.raw


def package_maps(
    siamese: SiameseNetwork, query: Tensor, hits: Tensor, batch: int, package: type[GradCAM] = GradCAM
) -> Array:
    """Return maps (2, 2, N, h, w) of a query (1, 3, H, W) and hits (N, 3, H, W): y and 1 - y, query and hits.

    `batch` pairs at a time: 1 needs 4 N calls, N only 4.
    """
    maps = [
        _maps(siamese, x, others, target, package)
        for target in TARGETS.values()
        for pictures, embeddings in _sides(siamese, query, hits)
        for x, others in zip(torch.split(pictures, batch), torch.split(embeddings, batch), strict=True)
    ]
    found: Array = np.concatenate(maps)
    return found.reshape(2, 2, len(hits), *found.shape[1:])


def _sides(siamese: SiameseNetwork, query: Tensor, hits: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the query for each hit with the hits' embeddings, then the hits with the query's."""
    with torch.no_grad():
        u = siamese.embed(siamese.backbone(torch.cat([query, hits])).mean((2, 3)))
    yield query.expand_as(hits), u[1:]
    yield hits, u[:1].expand_as(u[1:])


def _maps(
    siamese: SiameseNetwork, x: Tensor, others: Tensor, target: Callable[[Tensor], Tensor], package: type[GradCAM]
) -> Array:
    with package(Against(siamese, others), [siamese.backbone.get_submodule(LAYER)]) as cam:
        found: Array = cam(x, [target] * len(x))
        return found
