"""The methods by name, all behind one interface, and the ensemble of those that agree."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from retrieval.common.settings import MethodName
from retrieval.explain.cam_variants import (
    ablation_cam,
    eigen_cam,
    grad_cam,
    grad_cam_plus_plus,
    integrated_cam,
    layer_cam,
    local_cam,
)
from retrieval.explain.gradcam import Pairs
from retrieval.explain.perturbation import sbsm, score_cam
from retrieval.model.head import TINY, Array

Method = Callable[[Pairs], Array]
"""What raises each pair's distance and what lowers it: float32 (2, N, h, w), at least 0."""


def ensemble(pairs: Pairs) -> Array:
    """Integrated Grad-CAM's evidence, as far as the local match finds it too: in each place the lesser of the two.

    The local match is brought to the other's scale by the strongest place of a pair.
    """
    integrated, local = integrated_cam(pairs), local_cam(pairs)
    return np.asarray(np.minimum(integrated, local * (_strongest(integrated) / np.maximum(_strongest(local), TINY))))


def _strongest(maps: Array) -> Array:
    strongest: Array = maps.max((0, 2, 3), keepdims=True)
    return strongest


@dataclass(frozen=True)
class Named:
    """A method under the name that people know. `asks` tells whether it asks the network again, and often.

    Where a method `adds_up`, its places are parts of the pair's log-odds, whose sum does not depend on how many they
    are: activations times their gradients.
    """

    title: str
    run: Method
    asks: bool = False
    adds_up: bool = False


METHODS: dict[MethodName, Named] = {
    MethodName.ensemble: Named("Ensemble", ensemble, adds_up=True),
    MethodName.gradcam: Named("Grad-CAM", grad_cam, adds_up=True),
    MethodName.gradcam_plus_plus: Named("Grad-CAM++", grad_cam_plus_plus),
    MethodName.xgradcam: Named("XGrad-CAM", grad_cam, adds_up=True),
    MethodName.hirescam: Named("HiResCAM", grad_cam, adds_up=True),
    MethodName.layercam: Named("LayerCAM", layer_cam, adds_up=True),
    MethodName.integrated: Named("Integrated Grad-CAM", integrated_cam, adds_up=True),
    MethodName.ablationcam: Named("Ablation-CAM", ablation_cam),
    MethodName.eigencam: Named("Eigen-CAM", eigen_cam),
    MethodName.local: Named("Local match", local_cam),
    MethodName.scorecam: Named("Score-CAM", score_cam, asks=True),
    MethodName.sbsm: Named("SBSM", sbsm, asks=True),
}
