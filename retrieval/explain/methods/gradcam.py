"""Grad-CAM of the Siamese distance in closed form: one forward pass gives all four maps of a pair.

The paper's equations (1) and (2) take y = d. Here the gradient is that of the log-odds w D + b; that of d itself is
d (1 - d) > 0 times it, the same factor for all maps of the pair, so that scaled maps are equal, while these do not
fade where the sigmoid saturates. Replacing y by 1 - y changes the sign.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from retrieval.model.head import Array, Head
from retrieval.model.preprocessing import Pixels


@dataclass(frozen=True)
class PixelAccess:
    """Access to the pictures and the network, for methods that run it on changed pictures.

    `pixels` are B pictures, uint8 (size, size, 3); `blank` is the colour that is 0 to the network; `describe` returns
    descriptors (M, C) of changed pictures, (size, size, 3) in the same units, which it rounds.
    """

    pixels: Sequence[Pixels]
    blank: tuple[float, float, float]
    describe: Callable[[Sequence[NDArray[Any]]], Array]


@dataclass(frozen=True)
class PairInputs:
    """N pictures, each against another one, in the form that methods take.

    `activations` A (N, C, h, w) and their descriptors `own` g1 (N, C), against the descriptors `other` g2 (N, C).
    `pixel_access` has the N pictures' pixels. Equal `picture_ids` (N,) mark the same picture, such as the query
    against each of its hits; None: all are different.
    """

    head: Head
    activations: Array
    own: Array
    other: Array
    pixel_access: PixelAccess | None = None
    picture_ids: tuple[int, ...] | None = None

    @property
    def distinct(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The rows (M,) that have each picture once, and for each of the N (N,) its position among these."""
        ids = range(len(self.own)) if self.picture_ids is None else self.picture_ids
        _, firsts, which = np.unique(ids, return_index=True, return_inverse=True)
        return firsts, which

    def take(self, rows: NDArray[np.int64]) -> Self:
        """Return some of the pairs, by their rows."""
        access, ids = self.pixel_access, self.picture_ids
        return replace(
            self,
            activations=self.activations[rows],
            own=self.own[rows],
            other=self.other[rows],
            pixel_access=access and replace(access, pixels=[access.pixels[row] for row in rows]),
            picture_ids=ids and tuple(ids[row] for row in rows),
        )

    def join(self, more: Self) -> Self:
        """Return these pairs and more of the same head, pixels and picture ids, in one."""
        access, added = self.pixel_access, more.pixel_access
        ids, more_ids = self.picture_ids, more.picture_ids
        return replace(
            self,
            activations=np.concatenate([self.activations, more.activations]),
            own=np.concatenate([self.own, more.own]),
            other=np.concatenate([self.other, more.other]),
            pixel_access=access and added and replace(access, pixels=[*access.pixels, *added.pixels]),
            picture_ids=ids and more_ids and (*ids, *more_ids),
        )


def require_pixels(pairs: PairInputs) -> PixelAccess:
    """Return the access to pixels. Raises ValueError if the pairs were given without."""
    if pairs.pixel_access is None:
        raise ValueError("this method runs the network: give the pairs with their pixels")
    return pairs.pixel_access


def channel_gradients(pairs: PairInputs) -> Array:
    """Return alpha float32 (N, C), the log-odds' gradient by each activation: the same in all Z cells of a channel.

    r = (u1 - u2) / D, 0 if D = 0, as a gradient by e1 (Head.normalize_gradient)
    alpha = w / Z * f'(g1) * W^T ([e1 > 0] * r)
    """
    cells = math.prod(pairs.activations.shape[2:])
    return gradients_to_embedding(pairs.head, cells, pairs.own, pairs.head.embed(pairs.other))


def gradients_to_embedding(head: Head, cells: int, own: Array, u2: Array) -> Array:
    """Return the same for maps with so many cells, against known embeddings u2 (N, E)."""
    e1 = head.raw_embedding(own)
    u1 = head.apply_normalize(e1)
    difference = (u1 - u2).astype(np.float64)
    separation = np.linalg.norm(difference, axis=1, keepdims=True)
    r: NDArray[np.float64] = np.divide(difference, separation, out=np.zeros_like(difference), where=separation > 0)
    r = head.normalize_gradient(e1, r)
    alpha = (head.slope / cells) * (((e1 > 0) * r).astype(np.float32) @ head.weight) * head.root_derivative(own)
    return np.asarray(alpha, np.float32)


def weighted_sum(weights: Array, activations: Array) -> Array:
    """Return the sum of channels (N, C, h, w) by their weights (N, C): float32 (N, h, w)."""
    return np.asarray(np.einsum("nc,nchw->nhw", weights, activations, optimize=True))


def split_signs(signed: Array) -> Array:
    """Split signed values (N, ...) into what raises the distance and what lowers it, (2, N, ...), at least 0."""
    return np.asarray(np.maximum(np.stack([signed, -signed]), 0), np.float32)
