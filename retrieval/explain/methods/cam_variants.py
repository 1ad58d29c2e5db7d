"""Methods that need only the last layer: a picture's activations, its descriptor, and the other picture's.

Each takes `PairInputs` and returns float32 (2, N, h, w), at least 0: what raises each pair's distance, and what lowers
it. After average pooling the gradient is the same in all cells of a channel. So HiResCAM (gradient times activation,
cell by cell; Draelos and Carin, 2020) is Grad-CAM, and so is XGrad-CAM (Fu et al., 2020), whose weight is the mean of
the gradients weighted by the activations; channels that are 0 everywhere add nothing to either.
"""

import numpy as np

from retrieval.explain.methods.gradcam import (
    PairInputs,
    channel_gradients,
    gradients_to_embedding,
    split_signs,
    weighted_sum,
)
from retrieval.model.head import Array, Head

_EPSILON = 1e-6  # added by the public packages, so that a channel without a gradient does not divide by 0
_STEPS = 8  # of the path from no activations to the picture's; 32 change no map by more than a hundredth


def grad_cam(pairs: PairInputs) -> Array:
    """Compute Grad-CAM: Selvaraju et al. (2017), as in the paper: the sum of alpha_k A_k over the channels."""
    return split_signs(weighted_sum(channel_gradients(pairs), pairs.activations))


def grad_cam_plus_plus(pairs: PairInputs) -> Array:
    """Compute Grad-CAM++: Chattopadhay et al. (2018), equation (19), with the exponential of the log-odds.

    With gradient G, Z cells, and S the sum of a channel's activations, which must not be negative, a channel weighs
    Z relu(G) G^2 / (2 G^2 + S G^3).
    """
    activations = pairs.activations
    sums, cells = activations.sum(axis=(2, 3)), activations.shape[2] * activations.shape[3]
    up = split_signs(channel_gradients(pairs))
    weights = cells * up**3 / (2 * up**2 + np.maximum(sums, 0) * up**3 + _EPSILON)
    return np.maximum(np.stack([weighted_sum(each, activations) for each in weights]), 0)


def layer_cam(pairs: PairInputs) -> Array:
    """Compute LayerCAM: Jiang et al. (2021): the activations of the channels whose gradient is positive."""
    weights = split_signs(channel_gradients(pairs))
    return np.maximum(np.stack([weighted_sum(each, pairs.activations) for each in weights]), 0)


def integrated_cam(pairs: PairInputs) -> Array:
    """Compute Integrated Grad-CAM: Sattarzadeh et al. (2021): the mean of the gradients on a path from no activations.

    On a straight path all activations grow together, and the descriptor with them.
    """
    shares = np.asarray((np.arange(_STEPS) + 0.5) / _STEPS, np.float32)
    own = (shares[:, None, None] * pairs.own).reshape(-1, pairs.own.shape[1])  # all steps at once: W is read once
    u2 = np.concatenate([pairs.head.embed(pairs.other)] * _STEPS)
    steps = gradients_to_embedding(pairs.head, pairs.activations.shape[2] * pairs.activations.shape[3], own, u2)
    return split_signs(weighted_sum(steps.reshape(_STEPS, *pairs.own.shape).mean(axis=0), pairs.activations))


def ablation_cam(pairs: PairInputs) -> Array:
    """Compute Ablation-CAM: Desai and Ramaswamy (2020): a channel weighs what the log-odds lose when it is set to 0.

    That is a change of rank one to the dense layer's output, so no further forward pass is needed.
    """
    weights = np.stack([_ablation_drops(pairs.head, one, two) for one, two in zip(pairs.own, pairs.other, strict=True)])
    return split_signs(weighted_sum(weights, pairs.activations))


def eigen_cam(pairs: PairInputs) -> Array:
    """Compute Eigen-CAM: Muhammad and Yeasin (2020): the first principal component of the cells, for any pair.

    Its sign is that in which it correlates with the sum of the activations. It shows what is in the picture, not what
    speaks for or against the verdict: both directions are the same.
    """
    maps = np.stack([_principal_map(each) for each in pairs.activations])
    return np.stack([maps, maps])


def local_cam(pairs: PairInputs) -> Array:
    """Compute the local match: how near each cell by itself is to the other picture, compared with the mean cell.

    A cell's activations are taken as the descriptor of a picture that is that cell alone. What raises the distance are
    the cells that are further from the other picture than most.
    """
    head, activations = pairs.head, pairs.activations
    count, channels, rows, columns = activations.shape
    firsts, pictures = pairs.distinct
    cells = activations[firsts].reshape(len(firsts), channels, -1).transpose(0, 2, 1)  # (M, Z, C)
    embedded = head.embed(np.ascontiguousarray(cells))
    others = head.embed(pairs.other)
    separations = np.stack([head.separation(embedded[own], other) for own, other in zip(pictures, others, strict=True)])
    signed = head.slope * (separations - separations.mean(axis=1, keepdims=True))
    apart = head.separation(head.embed(pairs.own), others) > 0
    return split_signs((signed * apart[:, None]).reshape(count, rows, columns).astype(np.float32))


def _ablation_drops(head: Head, own: Array, other: Array) -> Array:
    """Return by how much one pair's log-odds fall, float32 (C,), when each channel of `own` (C,) is set to 0."""
    u2 = head.embed(other)
    lost = head.apply_root(own) - head.apply_root(np.zeros_like(own))
    e = np.maximum(head.project(own) - lost[:, None] * head.weight.T, 0)  # (C, E): each row without a channel
    before, after = head.separation(head.embed(own), u2), head.separation(head.apply_normalize(e), u2)
    return np.asarray(head.slope * (before - after), np.float32)


def _principal_map(activations: Array) -> Array:
    channels, *shape = activations.shape
    cells = activations.reshape(channels, -1).T
    centred = cells - cells.mean(axis=0)
    _, _, directions = np.linalg.svd(centred, full_matrices=False)
    component = centred @ directions[0]
    agreement = float(component @ cells.sum(axis=1))
    return np.asarray(np.maximum(component if agreement >= 0 else -component, 0).reshape(shape))
