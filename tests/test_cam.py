"""Grad-CAM in closed form: by hand, against autograd, and against the public grad-cam package."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import cache

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from pytorch_grad_cam import GradCAM
from torch import Tensor, nn

from retrieval.explain.gradcam import signed_maps
from retrieval.model.backbones import build_backbone
from retrieval.model.head import Array, Head
from retrieval.model.inference import Features
from retrieval.model.siamese import SiameseNetwork
from tests.against import explain_against
from tests.conftest import blocks

PAIRS = 50
BATCH = 10
UNITS = 64
TOLERANCE = 1e-4
# By name: whether embeddings are brought to unit length, and the shift that is taken of descriptors.
HEADS: dict[str, tuple[bool, float | None]] = {"paper": (False, None), "unit": (True, None), "shift": (True, 0.01)}
# By backbone: its last convolutional stage, whose output it gives, and the side of its input here.
BACKBONES = {"efficientnet_lite0": ("bn2", 96), "resnet50": ("layer4", 64), "resnet18": ("layer4", 96)}


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
    found = signed_maps(identity_head(1.0, True), a1, a1.mean((2, 3)), g2)
    np.testing.assert_allclose(found, [[[-0.96 * s, 0.96 * s]]], rtol=1e-5)


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
        found = signed_maps(identity_head(5.0, normalize), activations, activations.mean((2, 3)), other)
    assert found.tolist() == [[[0, 0], [0, 0]]]


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


class RawGradCAM(GradCAM):  # type: ignore[misc]
    """The package's Grad-CAM, which keeps its map as it was before it is resized and stretched."""

    raw: NDArray[np.float32]

    def get_cam_image(self, *arguments: object) -> NDArray[np.float32]:
        self.raw = super().get_cam_image(*arguments)
        return self.raw


@cache
def backbone(name: str) -> nn.Module:
    """A backbone that wants gradients only from its last stage on, which is all that the maps need."""
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
    """The pictures' activations and descriptors, in the package's batches: in others, convolutions round otherwise."""
    module, order = backbone(name), np.concatenate(list(batches()))
    with torch.inference_mode():
        activations = torch.cat([module(pictures(name)[places]) for places in batches()])[np.argsort(order)]
        return activations.numpy(), activations.mean((2, 3)).numpy()


@cache
def siamese(name: str, kind: str) -> tuple[SiameseNetwork, Head]:
    """A seeded head in torch and in NumPy; its sigmoid lies such that half of the pairs are similar."""
    _, descriptors = features(name)
    normalize, shift = HEADS[kind]
    torch.manual_seed(11)
    network = SiameseNetwork(backbone(name), descriptors.shape[1], UNITS, normalize, shift).eval()
    with torch.no_grad():
        network.dense.bias.normal_(0, float(descriptors.std()) / 10)
        u1, u2 = network.embed(torch.from_numpy(descriptors)).chunk(2)
        middle = float(torch.linalg.vector_norm(u1 - u2, dim=1).median())
        network.output.weight.fill_(3 / middle)
        network.output.bias.fill_(-3)
    weight, bias = (tensor.detach().numpy() for tensor in (network.dense.weight, network.dense.bias))
    return network, Head(weight, bias, network.output.weight.item(), network.output.bias.item(), normalize, shift)


@cache
def closed_form(name: str, kind: str) -> Array:
    """Signed maps (2 PAIRS, h, w): of the first pictures, then of the second."""
    activations, g = features(name)
    return signed_maps(siamese(name, kind)[1], activations, g, np.roll(g, PAIRS, axis=0))


def batches() -> Iterator[NDArray[np.int64]]:
    """Places of the pictures of BATCH pairs at a time: first ones, then second ones."""
    for start in range(0, PAIRS, BATCH):
        first = np.arange(start, start + BATCH)
        yield np.concatenate([first, first + PAIRS])


@cache
def package_maps(name: str, kind: str, counter: bool) -> NDArray[np.float32]:
    """The package's maps (2 PAIRS, h, w) of y = d, or of y = 1 - d, before its relu."""
    network, _ = siamese(name, kind)
    found = np.empty_like(closed_form(name, kind))
    with RawGradCAM(Pair(network), [network.backbone.get_submodule(BACKBONES[name][0])]) as cam:
        for places in batches():
            targets = [(lambda d: 1 - d) if counter else (lambda d: d)] * BATCH
            cam(pictures(name)[places], targets)
            found[places] = cam.raw
    return found


def scaled(maps: Array) -> Array:
    """relu of each map (N, h, w), over its greatest value; where that is 0 the map stays empty."""
    positive = np.maximum(maps, 0)
    most = positive.max((1, 2), keepdims=True)
    result: Array = np.divide(positive, most, out=np.zeros_like(positive), where=most > 0)
    return result


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
    """alpha = the mean over places of the gradient of y = d, M = sum_k alpha_k A_k, by backward passes."""
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
    """Factual is y = d where the verdict is different and y = 1 - d where it is similar, for both pictures."""
    head, (activations, g) = siamese(name, kind)[1], features(name)
    d, rest = (package_maps(name, kind, counter) for counter in (False, True))
    verdicts = set()
    for first in range(PAIRS):
        second = first + PAIRS
        one, other = (Features(activations[i : i + 1], g[i : i + 1]) for i in (first, second))
        (found,) = explain_against(head, one, other)
        verdicts.add(found.verdict)
        factual, counter = (d, rest) if found.verdict == "different" else (rest, d)
        for heatmaps, place in ((found.query, first), (found.hit, second)):
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
