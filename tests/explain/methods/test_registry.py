"""Methods by hand on two channels, and against the public grad-cam package."""

from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")
import torch
from numpy.typing import NDArray
from PIL import Image
from pytorch_grad_cam import AblationCAM, EigenCAM, GradCAM, GradCAMPlusPlus, HiResCAM, LayerCAM, ScoreCAM, XGradCAM
from torch import Tensor, nn

from retrieval.common.settings import SLOW_METHODS, MethodName
from retrieval.explain.explanation import explain_pairs
from retrieval.explain.methods.gradcam import PairInputs, PixelAccess
from retrieval.explain.methods.registry import METHODS
from retrieval.model.bundle import find_bundle
from retrieval.model.encoder import Encoder
from retrieval.model.head import Array, Head
from retrieval.model.inference import Features
from retrieval.model.preprocessing import Pixels, read_at_size
from tests.support.generated import blocks
from tests.support.siamese_pairs import BACKBONES, HEADS, Pair, backbone, features, pictures, scaled, siamese

A1 = np.array([[[[4, 2]], [[0, 0]]]], np.float32)  # (1, 2, 1, 2), g1 = (3, 0)
G2 = np.array([[0, 4]], np.float32)
HEAD = Head(np.eye(2, dtype=np.float32), np.zeros(2, np.float32), slope=2.0, intercept=0.0, normalize=False)
PACKAGE: dict[MethodName, Any] = {
    MethodName.gradcam: GradCAM,
    MethodName.gradcam_plus_plus: GradCAMPlusPlus,
    MethodName.xgradcam: XGradCAM,
    MethodName.hirescam: HiResCAM,
    MethodName.layercam: LayerCAM,
}
CLOSED_FORM = [name for name in METHODS if name not in {*SLOW_METHODS, MethodName.occlusion}]
NONE = [0.0, 0.0]


def by_hand(pairs: PairInputs, method: MethodName) -> Array:
    return METHODS[method].run(pairs)


@pytest.mark.parametrize(
    ("method", "raises", "lowers"),
    [
        # D = 5, and the gradient in each cell is 2 / 2 * (3/5, 0).
        (MethodName.gradcam, [2.4, 1.2], NONE),
        (MethodName.xgradcam, [2.4, 1.2], NONE),
        (MethodName.hirescam, [2.4, 1.2], NONE),
        (MethodName.layercam, [2.4, 1.2], NONE),
        # S = 6: the first channel weighs 2 * 0.6^3 / (2 * 0.6^2 + 6 * 0.6^3) = 0.432 / 2.016 = 3 / 14.
        (MethodName.gradcam_plus_plus, [6 / 7, 3 / 7], NONE),
        # On the path g1 is 3 t, D = sqrt(9 t^2 + 16), and the gradient of the first channel 3 t / D: its mean over
        # t = 1/16, 3/16 ... 15/16 is 0.33357.
        (MethodName.integrated, [4 * 0.33357, 2 * 0.33357], NONE),
        # Without the first channel D = 4: the log-odds lose 2 (5 - 4).
        (MethodName.ablationcam, [8, 4], NONE),
        # The cells are (4, 0) and (2, 0): 1 and -1 along the first channel.
        (MethodName.eigencam, [1, 0], [1, 0]),
        # The cells alone are sqrt(32) and sqrt(20) from the other picture, on average 5.0645.
        (MethodName.local, [2 * 0.5924, 0], [0, 2 * 0.5924]),
        # In the second cell the local match has nothing for the distance, so nothing is left of it.
        (MethodName.ensemble, [4 * 0.33357, 0], NONE),
    ],
)
def test_by_hand(method: MethodName, raises: list[float], lowers: list[float]) -> None:
    actual = by_hand(PairInputs(HEAD, A1, A1.mean((2, 3)), G2), method)
    np.testing.assert_allclose(actual, [[[raises]], [[lowers]]], rtol=2e-4)


@pytest.mark.parametrize("centre", [None, np.linspace(0, 0.4, 5, dtype=np.float32)])
def test_an_ablated_channel_counts_with_the_root_unit_length_and_centre(centre: Array | None) -> None:
    weight = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
    head = Head(weight, np.full(5, 0.1, np.float32), 3.0, 0.0, normalize=True, shift=0.5, centre=centre)
    activations = np.random.default_rng(1).random((1, 3, 2, 2), np.float32)
    own, other = activations.mean((2, 3)), np.random.default_rng(2).random((1, 3), np.float32)

    def log_odds(g: Array) -> float:
        return float(3.0 * head.separation(head.embed(g), head.embed(other))[0])

    losses = [log_odds(own) - log_odds(own * (np.arange(3) != channel)) for channel in range(3)]
    expected = np.einsum("c,chw->hw", losses, activations[0])
    raises, lowers = by_hand(PairInputs(head, activations, own, other), MethodName.ablationcam)
    np.testing.assert_allclose(raises[0] - lowers[0], expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("kind", HEADS)
def test_integrated_gradients_are_those_of_autograd_on_the_path(kind: str) -> None:
    network, head = siamese("resnet18", kind)
    activations, g = features("resnet18")
    own, other = torch.from_numpy(g[:5]), torch.from_numpy(g[5:10])
    mean = torch.zeros_like(own)
    for step in range(8):
        on_path = ((step + 0.5) / 8 * own).requires_grad_()
        separations = torch.linalg.vector_norm(network.embed(on_path) - network.embed(other), dim=1)
        mean += torch.autograd.grad(head.slope * separations.sum(), on_path)[0] / 8
    expected = np.einsum("nc,nchw->nhw", mean.numpy(), activations[:5]) / activations[0, 0].size
    raises, lowers = by_hand(PairInputs(head, activations[:5], g[:5], g[5:10]), MethodName.integrated)
    np.testing.assert_allclose(raises - lowers, expected, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize("method", CLOSED_FORM)
def test_dead_and_equal_pictures_have_finite_maps(method: MethodName) -> None:
    dead = np.zeros((2, 2, 3, 3), np.float32)
    pairs = PairInputs(HEAD, dead, dead.mean((2, 3)), np.array([[0, 0], [1, 2]], np.float32))
    with np.errstate(all="raise"):
        actual = by_hand(pairs, method)
    assert actual.shape == (2, 2, 3, 3)
    assert not actual.any()


@pytest.mark.parametrize("method", ["gradcam", "gradcam++", "xgradcam", "hirescam", "layercam", "local", "ensemble"])
def test_equal_pictures_have_no_evidence(method: str) -> None:
    """Except for methods that measure the effect of a change, as any change has one, or that ignore the pair."""
    activations = np.random.default_rng(0).random((2, 2, 3, 3), np.float32)
    g = activations.mean((2, 3))
    assert not by_hand(PairInputs(HEAD, activations, g, g), MethodName(method)).any()


def test_the_ensemble_is_nowhere_more_than_what_it_is_made_of() -> None:
    activations = np.random.default_rng(3).random((4, 2, 5, 5), np.float32)
    pairs = PairInputs(HEAD, activations, activations.mean((2, 3)), np.random.default_rng(4).random((4, 2), np.float32))
    ensemble, *others = (by_hand(pairs, MethodName(name)) for name in ("ensemble", "integrated", "local"))
    for other in others:
        assert (
            ensemble / others[0].max((0, 2, 3), keepdims=True) <= other / other.max((0, 2, 3), keepdims=True) + 1e-6
        ).all()
    assert ensemble.any()


# --- methods that run the network again


class Tiny(nn.Module):
    """Two filters: activations (N, 2, h / 2, w / 2) of pictures (N, 3, h, w)."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(5)
        self.filters = nn.Conv2d(3, 2, 3, stride=2, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.filters(x) - 0.2)


class TinyPair(nn.Module):
    """A pair's log-odds against one other picture's descriptor, of pictures (N, 3, h, w)."""

    def __init__(self, trunk: Tiny, other: Tensor) -> None:
        super().__init__()
        self.trunk, self.other = trunk, other

    def forward(self, x: Tensor) -> Tensor:
        log_odds: Tensor = HEAD.slope * torch.linalg.vector_norm(self.trunk(x).mean((2, 3)) - self.other, dim=1)
        return log_odds[:, None]


def small_pair() -> tuple[Tiny, Tensor, PairInputs]:
    trunk, x = Tiny(), torch.from_numpy(np.random.default_rng(6).random((1, 3, 8, 8), np.float32))
    with torch.no_grad():
        activations = trunk(x).numpy()

    def describe(changed: Any) -> Any:
        with torch.no_grad():
            return trunk(torch.from_numpy(np.stack(changed)).float().permute(0, 3, 1, 2)).mean((2, 3)).numpy()

    access = PixelAccess(list(x.permute(0, 2, 3, 1).numpy()), (0.0, 0.0, 0.0), describe)
    return trunk, x, PairInputs(HEAD, activations, activations.mean((2, 3)), np.array([[0.1, 0.9]], np.float32), access)


def test_score_cam_equals_the_public_package() -> None:
    trunk, x, pairs = small_pair()
    actual = by_hand(pairs, MethodName.scorecam)
    for sign, mine in zip((1, -1), actual, strict=True):
        network = TinyPair(trunk, torch.from_numpy(pairs.other))
        expected = package_maps(ScoreCAM, network, trunk, x, lambda out, sign=sign: sign * out[0])
        assert np.abs(scaled(mine) - scaled(np.maximum(expected, 0))).max() < 1e-4
    assert actual.any()


def test_a_window_counts_for_what_it_changes() -> None:
    bright = np.zeros((64, 64, 3), np.uint8)
    bright[8:24, 40:56] = 255  # a white square in the upper right
    access = PixelAccess(
        [bright], (0.0, 0.0, 0.0), lambda some: np.array([[each[8:24, 40:56].mean(), 0] for each in some])
    )
    pairs = PairInputs(HEAD, A1, np.array([[255, 0]], np.float32), np.array([[300, 0]], np.float32), access)
    raises, lowers = by_hand(pairs, MethodName.sbsm)
    assert raises.shape == (1, 32, 32)
    assert not raises.any()  # hiding the square increases the distance, so it speaks for similarity
    row, column = np.unravel_index(lowers[0].argmax(), (32, 32))
    assert 4 <= row < 12
    assert 20 <= column < 28


def test_methods_that_run_the_network_need_the_pixels() -> None:
    with pytest.raises(ValueError, match="pixels"):
        by_hand(PairInputs(HEAD, A1, A1.mean((2, 3)), G2), MethodName.sbsm)


# --- against the public package on whole backbones


@pytest.mark.parametrize("kind", ["paper", "unit", "centred"])
@pytest.mark.parametrize("method", PACKAGE)
def test_equals_the_public_package(method: MethodName, kind: str) -> None:
    network, head = siamese("resnet18", kind)
    activations, g = features("resnet18")
    count = len(g) // 2
    rows = np.concatenate([np.arange(5), count + np.arange(5)])
    actual = by_hand(PairInputs(head, activations[rows], g[rows], g[np.roll(rows, 5)]), method)
    stage = backbone("resnet18").get_submodule(BACKBONES["resnet18"][0])
    for sign, mine in zip((1, -1), actual, strict=True):
        expected = package_maps(
            PACKAGE[method],
            Pair(network),
            stage,
            pictures("resnet18")[rows],
            lambda d, sign=sign: sign * torch.logit(d),
        )
        assert expected.max() > 0
        assert np.abs(scaled(mine) - scaled(expected)).max() < 1e-4


def test_ablation_equals_the_public_package() -> None:
    """The package divides by the score, which must be positive both ways, and takes 0 as the lowest activation."""
    trunk, x, pairs = small_pair()
    assert pairs.activations.min() == 0
    network = TinyPair(trunk, torch.from_numpy(pairs.other))
    for sign, mine in zip((1, -1), by_hand(pairs, MethodName.ablationcam), strict=True):
        expected = package_maps(AblationCAM, network, trunk, x, lambda out, sign=sign: 100 + sign * out[0])
        assert np.abs(scaled(mine) - scaled(np.maximum(expected, 0))).max() < 1e-4


def test_eigen_equals_the_public_package_up_to_its_sign() -> None:
    trunk, x, pairs = small_pair()
    network = TinyPair(trunk, torch.from_numpy(pairs.other))
    expected = package_maps(EigenCAM, network, trunk, x, lambda out: out[0])
    (mine,) = by_hand(pairs, MethodName.eigencam)[0]
    differences = [np.abs(scaled(mine[None]) - scaled(sign * expected)).max() for sign in (1, -1)]
    assert min(differences) < 1e-4


def package_maps(method: Any, network: nn.Module, stage: nn.Module, x: Tensor, target: Any) -> NDArray[np.float32]:
    """Return the package's maps of a target, before they are resized and stretched."""
    kept: list[Array] = []

    class Raw(method):  # type: ignore[misc]
        def get_cam_image(self, *arguments: object) -> Array:
            kept.append(super().get_cam_image(*arguments))
            return kept[-1]

    with Raw(network, [stage]) as cam:
        cam(x, [target] * (len(x) // 2 or 1))
    return kept[0]


# --- over five hundred pairs of ordinary and odd pictures


@cache
def odd_pictures() -> list[Pixels]:
    """Make patterns, plain and tiny pictures, a copy and a near copy, at the size of the default model."""
    patterns = [blocks(seed, 60 + 7 * seed, 60, cells=1 + seed) for seed in range(24)]
    even = [np.full((40, 50, 3), value, np.uint8) for value in (0, 255, 128)]
    tiny = [blocks(seed, width, height) for seed, (width, height) in enumerate([(1, 1), (2, 3), (1, 40), (5, 1)])]
    near = patterns[3].copy()
    near[0, 0] ^= 1
    return [read_at_size(each, 224)[0] for each in (*patterns, *even, *tiny, patterns[5].copy(), near)]


@cache
def odd_features() -> Features:
    return Encoder(find_bundle("default"), "cpu").activate(odd_pictures())


def drawn_pairs(count: int, pictures: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Draw pairs of any two pictures, the first few of each with itself."""
    first, second = np.random.default_rng(8).integers(0, pictures, (2, count))
    first[:pictures] = second[:pictures] = np.arange(pictures)
    return first, second


def check_explained(sides: tuple[PairInputs, PairInputs], distances: NDArray[np.float64], method: MethodName) -> None:
    for actual in explain_pairs(sides, distances, method):
        for heat in (actual.query, actual.hit):
            for each in (heat.factual, heat.counterfactual):
                assert np.isfinite(each).all()
                assert each.min() >= 0
            most = max(heat.factual.max(), heat.counterfactual.max())
            assert most == pytest.approx(1.0) if heat.magnitude > 0 else most == 0
            assert heat.magnitude == 0 if actual.identical else heat.magnitude < np.inf


@pytest.mark.slow
@pytest.mark.parametrize("method", CLOSED_FORM)
def test_no_pair_of_odd_pictures_has_a_broken_map(method: MethodName) -> None:
    head, features = find_bundle("default").head, odd_features()
    first, second = drawn_pairs(500, len(features.descriptors))
    u = head.embed(features.descriptors)
    distances = head.distance(head.separation(u[first], u[second]))
    for start in range(0, 500, 50):
        one, other = first[start : start + 50], second[start : start + 50]
        a, g = features.activations, features.descriptors
        with np.errstate(invalid="raise", divide="raise"):
            sides = PairInputs(head, a[one], g[one], g[other]), PairInputs(head, a[other], g[other], g[one])
            check_explained(sides, distances[start : start + 50], method)


@pytest.mark.slow
@pytest.mark.parametrize("method", [MethodName.occlusion, MethodName.scorecam, MethodName.sbsm])
def test_no_slow_method_has_a_broken_map_either(method: MethodName) -> None:
    trunk, _, small = small_pair()
    assert small.pixel_access is not None
    pixels = [np.asarray(Image.fromarray(each).resize((8, 8))) / np.float32(255) for each in odd_pictures()]
    with torch.no_grad():
        activations = trunk(torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2)).numpy()
    g = activations.mean((2, 3))
    first, second = drawn_pairs(500, len(g))
    eight_bits = [np.rint(255 * each).astype(np.uint8) for each in pixels]
    sides = [
        PairInputs(
            HEAD, activations[one], g[one], g[other], replace(small.pixel_access, pixels=[eight_bits[i] for i in one])
        )
        for one, other in ((first, second), (second, first))
    ]
    with np.errstate(invalid="raise", divide="raise"):
        check_explained((sides[0], sides[1]), HEAD.distance(HEAD.separation(g[first], g[second])), method)
