"""All methods by name, behind one interface, and the ensemble of two of them."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from retrieval.common.settings import MethodName
from retrieval.explain.methods.cam_variants import (
    ablation_cam,
    eigen_cam,
    grad_cam,
    grad_cam_plus_plus,
    integrated_cam,
    layer_cam,
    local_cam,
)
from retrieval.explain.methods.gradcam import PairInputs
from retrieval.explain.methods.occlusion import occlusion
from retrieval.explain.methods.perturbation import sbsm, score_cam
from retrieval.model.head import TINY, Array

Method = Callable[[PairInputs], Array]
"""Returns what raises each pair's distance and what lowers it: float32 (2, N, h, w), at least 0."""


def ensemble(pairs: PairInputs) -> Array:
    """Return Integrated Grad-CAM's evidence as far as the local match finds it too: the lesser of the two in each cell.

    The local match is scaled so that both have the same strongest cell in each pair.
    """
    integrated, local = integrated_cam(pairs), local_cam(pairs)
    return np.asarray(np.minimum(integrated, local * (_strongest(integrated) / np.maximum(_strongest(local), TINY))))


def _strongest(maps: Array) -> Array:
    return np.asarray(maps.max((0, 2, 3), keepdims=True))


@dataclass(frozen=True)
class MethodInfo:
    """A method under the name that people know.

    The cells of an additive method are parts of the pair's log-odds, activations times their gradients, whose sum
    does not depend on how many cells there are.
    """

    title: str
    run: Method
    is_additive: bool = False


METHODS: dict[MethodName, MethodInfo] = {
    MethodName.occlusion: MethodInfo("Occlusion", occlusion, is_additive=True),
    MethodName.ensemble: MethodInfo("Ensemble", ensemble, is_additive=True),
    MethodName.gradcam: MethodInfo("Grad-CAM", grad_cam, is_additive=True),
    MethodName.gradcam_plus_plus: MethodInfo("Grad-CAM++", grad_cam_plus_plus),
    MethodName.layercam: MethodInfo("LayerCAM", layer_cam, is_additive=True),
    MethodName.integrated: MethodInfo("Integrated Grad-CAM", integrated_cam, is_additive=True),
    MethodName.ablationcam: MethodInfo("Ablation-CAM", ablation_cam),
    MethodName.eigencam: MethodInfo("Eigen-CAM", eigen_cam),
    MethodName.local: MethodInfo("Local match", local_cam),
    MethodName.scorecam: MethodInfo("Score-CAM", score_cam),
    MethodName.sbsm: MethodInfo("SBSM", sbsm),
}
METHODS[MethodName.xgradcam] = replace(METHODS[MethodName.gradcam], title="XGrad-CAM")
METHODS[MethodName.hirescam] = replace(METHODS[MethodName.gradcam], title="HiResCAM")
