"""Grad-CAM in closed form: by hand, against autograd, and against the public grad-cam package."""

import math
from functools import cache

import numpy as np
import pytest

pytest.importorskip("torch")
import torch
from numpy.typing import NDArray
from pytorch_grad_cam import GradCAM
from torch import Tensor

from retrieval.explain.methods.cam_variants import grad_cam
from retrieval.explain.methods.gradcam import PairInputs
from retrieval.model.head import Array, Head
from retrieval.model.inference import Features
from tests.support.against import explain_against
from tests.support.siamese_pairs import (
    BACKBONES,
    BATCH,
    HEADS,
    PAIRS,
    Pair,
    backbone,
    batches,
    features,
    pictures,
    scaled,
    siamese,
)

TOLERANCE = 1e-4


def signed_maps(head: Head, activations: Array, own: Array, other: Array) -> Array:
    raises, lowers = grad_cam(PairInputs(head, activations, own, other))
    return np.asarray(raises - lowers)


# --- by hand


def identity_head(slope: float, normalize: bool) -> Head:
    return Head(np.eye(2, dtype=np.float32), np.zeros(2, np.float32), slope, 0.0, normalize)


def test_maps_by_hand() -> None:
    a1 = np.array([[[[4, 2]], [[0, 0]]]], np.float32)  # (1, 2, 1, 2), g1 = (3, 0)
    a2 = np.array([[[[0, 0]], [[8, 0]]]], np.float32)  # g2 = (0, 4)
    g1, g2 = a1.mean((2, 3)), a2.mean((2, 3))
    head = identity_head(slope=2.0, normalize=False)
    # D = 5, r1 = (3/5, -4/5), the mask of e1 is (1, 0): alpha1 = 2/2 * (3/5, 0); alpha2 = (0, 4/5) likewise.
    np.testing.assert_allclose(signed_maps(head, a1, g1, g2), [[[2.4, 1.2]]], rtol=1e-6)
    np.testing.assert_allclose(signed_maps(head, a2, g2, g1), [[[6.4, 0.0]]], rtol=1e-6)


def test_normalised_maps_by_hand() -> None:
    a1 = np.array([[[[6, 0]], [[0, 8]]]], np.float32)  # g1 = e1 = (3, 4), ||e1|| = 5, u1 = (0.6, 0.8)
    g2 = np.array([[5, 0]], np.float32)  # u2 = (1, 0)
    # u1 - u2 = (-0.4, 0.8), D = sqrt(0.8), r = s (-1, 2) with s = sqrt(0.2), u1 . r = s;
    # r - u1 s = s (-1.6, 1.2); over ||e1||: s (-0.32, 0.24); over Z = 2: alpha = s (-0.16, 0.12).
    s = math.sqrt(0.2)
    actual = signed_maps(identity_head(1.0, True), a1, a1.mean((2, 3)), g2)
    np.testing.assert_allclose(actual, [[[-0.96 * s, 0.96 * s]]], rtol=1e-5)


def test_rooted_maps_by_hand() -> None:
    a1 = np.array([[[[4, 2]], [[1, 1]]]], np.float32)  # g1 = (3, 1); with a shift of 1: f = (2, sqrt(2))
    g2 = np.array([[24, 1]], np.float32)  # f = (5, sqrt(2)), so r = (-1, 0)
    head = Head(np.eye(2, dtype=np.float32), np.zeros(2, np.float32), 2.0, 0.0, False, shift=1.0)
    # f'(g1) = (1/4, ...): alpha = 2/2 * (-1/4, 0).
    np.testing.assert_allclose(signed_maps(head, a1, a1.mean((2, 3)), g2), [[[-1.0, -0.5]]], rtol=1e-6)


def test_each_pair_of_a_batch_is_on_its_own() -> None:
    random = np.random.default_rng(4)
    activations = random.random((6, 3, 2, 2), np.float32)
    own, other = activations.mean((2, 3)), random.random((6, 3), np.float32)
    head = Head(random.normal(size=(5, 3)).astype(np.float32), np.zeros(5, np.float32), 3.0, 0.0, True)
    together = signed_maps(head, activations, own, other)
    alone = [signed_maps(head, activations[i : i + 1], own[i : i + 1], other[i : i + 1])[0] for i in range(6)]
    np.testing.assert_allclose(together, alone, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("normalize", [True, False])
def test_equal_descriptors_have_zero_maps(normalize: bool) -> None:
    activations = np.random.default_rng(0).random((2, 2, 3, 3), np.float32)
    g = activations.mean((2, 3))
    assert not signed_maps(identity_head(5.0, normalize), activations, g, g).any()


@pytest.mark.parametrize("normalize", [True, False])
def test_an_embedding_of_zero_has_a_zero_map(normalize: bool) -> None:
    activations = np.full((1, 2, 2, 2), -1, np.float32)
    other = np.array([[1, 2]], np.float32)
    with np.errstate(all="raise"):
        actual = signed_maps(identity_head(5.0, normalize), activations, activations.mean((2, 3)), other)
    assert actual.tolist() == [[[0, 0], [0, 0]]]


class RawGradCAM(GradCAM):  # type: ignore[misc]
    """The package's Grad-CAM, with its map before it is resized and stretched."""

    raw: NDArray[np.float32]

    def get_cam_image(self, *arguments: object) -> NDArray[np.float32]:
        self.raw = super().get_cam_image(*arguments)
        return self.raw


@cache
def closed_form(name: str, kind: str) -> Array:
    """Return signed maps (2 PAIRS, h, w): of the first pictures, then of the second."""
    activations, g = features(name)
    return signed_maps(siamese(name, kind)[1], activations, g, np.roll(g, PAIRS, axis=0))


@cache
def package_maps(name: str, kind: str, counter: bool) -> NDArray[np.float32]:
    """Return the package's maps (2 PAIRS, h, w) of y = d, or of y = 1 - d, before its relu."""
    network, _ = siamese(name, kind)
    actual = np.empty_like(closed_form(name, kind))
    with RawGradCAM(Pair(network), [network.backbone.get_submodule(BACKBONES[name][0])]) as cam:
        for places in batches():
            targets = [(lambda d: 1 - d) if counter else (lambda d: d)] * BATCH
            cam(pictures(name)[places], targets)
            actual[places] = cam.raw
    return actual


every_head = pytest.mark.parametrize("kind", list(HEADS))
every_backbone = pytest.mark.parametrize("name", list(BACKBONES))


@every_backbone
def test_the_stage_gives_what_the_backbone_gives_and_the_same_each_time(name: str) -> None:
    kept: list[Tensor] = []
    stage = backbone(name).get_submodule(BACKBONES[name][0])
    handle = stage.register_forward_hook(lambda module, inputs, output: kept.append(output.detach().clone()))
    with torch.inference_mode():
        first, second = (backbone(name)(pictures(name)[:2]) for _ in range(2))
    handle.remove()
    assert torch.equal(first, second)
    assert torch.equal(first, kept[0])


@every_head
@every_backbone
def test_closed_form_equals_autograd(name: str, kind: str) -> None:
    """Compare with backward passes: alpha is the mean over cells of the gradient of y = d, M = sum_k alpha_k A_k."""
    network, _ = siamese(name, kind)
    a1, a2 = (torch.from_numpy(part).requires_grad_() for part in np.split(features(name)[0], 2))
    d = network.distance(network.embed(a1.mean((2, 3))), network.embed(a2.mean((2, 3))))
    gradients = torch.autograd.grad(d.sum(), (a1, a2))
    expected = torch.cat([(g.mean((2, 3), True) * a).sum(1) for g, a in zip(gradients, (a1, a2), strict=True)])
    reference = expected.detach().numpy()
    # The closed form leaves out the factor d (1 - d), one for each pair.
    factor = (d * (1 - d)).detach().numpy()
    unscaled = closed_form(name, kind) * np.concatenate([factor, factor])[:, None, None]
    largest = np.abs(reference).max((1, 2), keepdims=True)
    assert (largest > 0).all()
    assert np.abs(unscaled / largest - reference / largest).max() < TOLERANCE
    for sign in (1, -1):
        difference = np.abs(scaled(sign * closed_form(name, kind)) - scaled(sign * reference))
        assert difference.max() < TOLERANCE


@pytest.mark.slow
@pytest.mark.parametrize("counter", [False, True], ids=["d", "1-d"])
@every_head
@every_backbone
def test_closed_form_equals_the_public_package(name: str, kind: str, counter: bool) -> None:
    signed = closed_form(name, kind)
    expected = package_maps(name, kind, counter)
    assert expected.shape == signed.shape == (2 * PAIRS, *signed.shape[1:])
    assert np.abs(expected).max((1, 2)).min() > 0
    assert np.abs(scaled(-signed if counter else signed) - scaled(expected)).max() < TOLERANCE


@every_head
@every_backbone
def test_explanations_are_the_packages_maps_for_and_against_the_verdict(name: str, kind: str) -> None:
    """Factual is y = d if the verdict is different and y = 1 - d if it is similar, for both pictures."""
    head, (activations, g) = siamese(name, kind)[1], features(name)
    d, rest = (package_maps(name, kind, counter) for counter in (False, True))
    verdicts = set()
    for first in range(PAIRS):
        second = first + PAIRS
        one, other = (Features(activations[i : i + 1], g[i : i + 1]) for i in (first, second))
        (actual,) = explain_against(head, one, other)
        verdicts.add(actual.verdict)
        factual, counter = (d, rest) if actual.verdict == "different" else (rest, d)
        for heatmaps, place in ((actual.query, first), (actual.hit, second)):
            for mine, reference in ((heatmaps.factual, factual[place]), (heatmaps.counterfactual, counter[place])):
                assert np.abs(scaled(mine[None]) - scaled(reference[None])).max() < TOLERANCE
    assert verdicts == {"similar", "different"}


@every_head
def test_forward_gives_the_distance_that_was_explained(kind: str) -> None:
    network, head = siamese("resnet18", kind)
    x1, x2 = pictures("resnet18")[:3], pictures("resnet18")[PAIRS : PAIRS + 3]
    with torch.inference_mode():
        d, of_pair = network(x1, x2), Pair(network)(torch.cat([x1, x2]))
    g = features("resnet18")[1]
    u1, u2 = head.embed(g[:3]), head.embed(g[PAIRS : PAIRS + 3])
    np.testing.assert_allclose(d.numpy(), head.distance(head.separation(u1, u2)), rtol=1e-4)
    assert torch.allclose(d, of_pair, rtol=1e-5)
