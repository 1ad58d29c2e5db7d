"""Grad-CAM of the Siamese distance in closed form: one forward pass gives all four maps of a pair.

The paper's equations (1) and (2) take y = d. Here the gradient is that of the log-odds w D + b; that of d
itself is d (1 - d) > 0 times it, the same factor for all maps of the pair, so that scaled maps are equal,
while these do not fade where the sigmoid saturates. Replacing y by 1 - y turns the sign.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from retrieval.head import TINY, Array, Head


def signed_maps(head: Head, activations: Array, own: Array, other: Array) -> Array:
    """M float32 (N, h, w): what raises (positive) and lowers (negative) each pair's distance, in log-odds.

    `activations` A (N, C, h, w) and their descriptors `own` g1 (N, C) against `other` g2 (N, C):

        r = (u1 - u2) / D;  with normalisation (r - u1 (u1 . r)) / ||e1||
        alpha = w / Z * f'(g1) * W^T ([e1 > 0] * r);  M = sum_k alpha_k A_k

    Where D = 0 there is no evidence either way, and M is zero.
    """
    e1 = head.activate(own)
    u1, u2 = head.embed(own), head.embed(other)
    difference = (u1 - u2).astype(np.float64)
    separation = np.linalg.norm(difference, axis=1, keepdims=True)
    r: NDArray[np.float64] = np.divide(difference, separation, out=np.zeros_like(difference), where=separation > 0)
    if head.normalize:
        length = np.maximum(np.linalg.norm(e1, axis=1, keepdims=True), TINY)
        r = (r - u1 * np.sum(u1 * r, axis=1, keepdims=True)) / length
    places = activations.shape[2] * activations.shape[3]
    alpha = (head.slope / places) * (((e1 > 0) * r).astype(np.float32) @ head.weight) * head.root_slope(own)  # (N, C)
    maps: Array = np.einsum("nc,nchw->nhw", alpha.astype(np.float32), activations, optimize=True)
    return maps
