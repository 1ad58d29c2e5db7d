"""The Siamese network in torch: equality with the NumPy head, and bundles."""

import os
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from retrieval.common.errors import ModelError
from retrieval.common.settings import Preprocessing
from retrieval.explain.methods.cam_variants import grad_cam
from retrieval.explain.methods.gradcam import PairInputs
from retrieval.model.backbones import Backbone
from retrieval.model.bundle import Bundle, find_bundle, write_card
from retrieval.model.bundle_export import save_bundle
from retrieval.model.head import Head
from retrieval.model.inference import Features
from retrieval.model.preprocessing import normalise, to_pixels
from retrieval.model.siamese import SiameseNetwork, load_model
from retrieval.training.losses import contrastive_loss
from tests.support.against import explain_against
from tests.support.generated import blocks


def siamese(normalize: bool, units: int = 8, channels: int = 4, shift: float | None = None) -> SiameseNetwork:
    """Make a seeded network whose backbone is one small convolution."""
    torch.manual_seed(0)
    network = SiameseNetwork(nn.Conv2d(3, channels, 3, padding=1), channels, units, normalize, shift).eval()
    with torch.no_grad():
        network.output.weight.fill_(1.5)
        network.output.bias.fill_(-0.5)
    return network


def head_of(network: SiameseNetwork) -> Head:
    weight, bias = (tensor.detach().numpy() for tensor in (network.dense.weight, network.dense.bias))
    return Head(
        weight, bias, network.output.weight.item(), network.output.bias.item(), network.normalize, network.shift
    )


@pytest.mark.parametrize("shift", [None, 0.05])
@pytest.mark.parametrize("normalize", [True, False])
def test_torch_equals_numpy(normalize: bool, shift: float | None) -> None:
    network = siamese(normalize, shift=shift)
    x1, x2 = torch.randn(2, 16, 3, 9, 9)
    with torch.inference_mode():
        g1, g2 = (network.backbone(x).mean((2, 3)) for x in (x1, x2))
        d, u1 = network(x1, x2).numpy(), network.embed(g1).numpy()
    head = head_of(network)
    np.testing.assert_allclose(head.embed(g1.numpy()), u1, rtol=1e-5, atol=1e-6)
    separation = head.separation(head.embed(g1.numpy()), head.embed(g2.numpy()))
    assert d.shape == (16,)
    np.testing.assert_allclose(head.distance(separation), d, rtol=1e-4)


@pytest.mark.parametrize("normalize", [True, False])
def test_a_picture_has_the_least_distance_to_itself(normalize: bool) -> None:
    network = siamese(normalize, units=32)
    x = 3 * torch.randn(4, 3, 1, 1)
    with torch.inference_mode():
        same, other = network(x, x), network(x, x.roll(1, 0))
    assert torch.allclose(same, torch.sigmoid(torch.tensor(-0.5)).expand(4))
    assert bool((other > same).all())


@pytest.mark.parametrize("normalize", [True, False])
def test_identical_pictures_have_finite_gradients(normalize: bool) -> None:
    network = siamese(normalize)
    x = torch.randn(2, 3, 9, 9)
    gradients = torch.autograd.grad(
        contrastive_loss(network(x, x), torch.tensor([0.0, 1.0])), tuple(network.parameters())
    )
    assert all(bool(torch.isfinite(gradient).all()) for gradient in gradients)


# --- bundles


def small_trunk(name: str = "small") -> Backbone:
    torch.manual_seed(1)
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)).eval()
    return Backbone(name, module, Preprocessing(8, (1.0, 2.0, 3.0), (4.0, 5.0, 6.0)), 4)


def small_bundle(folder: Path, head: Head | None = None) -> Bundle:
    head = head or head_of(siamese(True))
    return save_bundle(small_trunk(), head, folder, "mine", {"seed": 1}, {"a": {"P@1": 0.5}})


def test_a_bundle_keeps_head_and_card(tmp_path: Path) -> None:
    head = head_of(siamese(True))
    small_bundle(tmp_path / "mine", head)
    actual = find_bundle(str(tmp_path / "mine"))
    np.testing.assert_array_equal(actual.head.weight, head.weight.astype(np.float16))
    np.testing.assert_array_equal(actual.head.bias, head.bias)
    assert (actual.head.slope, actual.head.intercept, actual.head.normalize) == (1.5, -0.5, True)
    assert (actual.card.name, actual.card.backbone, actual.card.units) == ("mine", "small", 8)
    assert actual.card.preprocessing == small_trunk().preprocessing
    assert (actual.card.provenance, actual.card.metrics) == ({"seed": 1}, {"a": {"P@1": 0.5}})


def test_a_bundle_is_on_the_disk_before_its_card_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    before_card: list[int] = []
    fsync, replace = os.fsync, os.replace

    def record_fsync(descriptor: int) -> None:
        synced.append(os.fstat(descriptor).st_ino)
        fsync(descriptor)

    def record_replace(source: Path, target: Path) -> None:
        if target.name == "model.json":
            before_card.extend(synced)
        replace(source, target)

    monkeypatch.setattr(os, "fsync", record_fsync)
    monkeypatch.setattr(os, "replace", record_replace)
    bundle = small_bundle(tmp_path)
    weights, folder, card = (
        file.stat().st_ino for file in (bundle.weights_file, tmp_path, bundle.folder / "model.json")
    )
    network = bundle.network_file.stat().st_ino
    assert before_card == [weights, folder, network, folder, card]
    assert synced == [weights, folder, network, folder, card, folder]


def test_a_bundle_stores_the_backbones_matrices_as_float16(tmp_path: Path) -> None:
    tensors = load_file(small_bundle(tmp_path).weights_file)
    kinds = {name: str(tensor.dtype) for name, tensor in tensors.items()}
    assert kinds["backbone.0.weight"] == kinds["dense.weight"] == "torch.float16"
    assert kinds["backbone.1.running_var"] == kinds["dense.bias"] == kinds["output.weight"] == "torch.float32"


def test_the_fingerprint_is_of_the_backbone_not_of_the_head(tmp_path: Path) -> None:
    one = small_bundle(tmp_path / "one")
    other = small_bundle(tmp_path / "other", head_of(siamese(True, units=5)))
    assert one.fingerprint == other.fingerprint == find_bundle(str(tmp_path / "one")).fingerprint
    tensors = load_file(other.weights_file)
    tensors["backbone.1.bias"] += 1
    save_file(tensors, other.weights_file)
    write_card(other.card, other.folder)
    assert find_bundle(str(tmp_path / "other")).fingerprint != one.fingerprint


def test_load_model_is_the_saved_network_in_eval_mode(tiny_bundle: Bundle) -> None:
    model = load_model(str(tiny_bundle.folder))
    assert not model.training
    assert model.dense.weight.dtype == torch.float32
    x = torch.from_numpy(normalise(blocks(1, 224, 224), tiny_bundle.card.preprocessing))[None]
    with torch.inference_mode():
        activations = model.backbone(x)
        assert activations.shape == (1, 1280, 7, 7)
        assert model(x, x).tolist() == pytest.approx([1 / (1 + np.exp(5))])


def _changed(bundle: Bundle, **tensors: Tensor | None) -> None:
    kept = load_file(bundle.weights_file) | {name.replace("__", "."): value for name, value in tensors.items()}
    save_file({name: value for name, value in kept.items() if value is not None}, bundle.weights_file)


@pytest.mark.parametrize("tensor", [None, torch.zeros(2, 2)])
def test_load_model_refuses_weights_that_do_not_fit(tiny_bundle: Bundle, tmp_path: Path, tensor: Tensor | None) -> None:
    broken = Bundle(tmp_path, tiny_bundle.card)
    for name in ("model.json", "weights.safetensors"):
        (tmp_path / name).write_bytes((tiny_bundle.folder / name).read_bytes())
    _changed(broken, dense__weight=tensor)
    with pytest.raises(ModelError, match=r"does not fit what its model\.json says"):
        load_model(str(tmp_path))


def test_load_model_refuses_what_is_no_weights_file(tiny_bundle: Bundle, tmp_path: Path) -> None:
    (tmp_path / "model.json").write_bytes((tiny_bundle.folder / "model.json").read_bytes())
    (tmp_path / "weights.safetensors").write_bytes(b"nonsense")
    with pytest.raises(ModelError, match=r"weights\.safetensors"):
        load_model(str(tmp_path))


def test_a_bundle_without_the_heads_tensors_is_refused(tmp_path: Path) -> None:
    _changed(small_bundle(tmp_path), output__bias=None)
    with pytest.raises(ModelError, match=r"does not contain tensor output\.bias"):
        _ = find_bundle(str(tmp_path)).head


def test_plain_and_tiny_pictures_have_finite_explanations(tiny_bundle: Bundle) -> None:
    model, head = load_model(str(tiny_bundle.folder)), tiny_bundle.head
    images = [Image.new("RGB", (64, 64), "black"), Image.new("RGB", (64, 64), "white"), Image.new("RGB", (1, 1), "red")]
    x = np.stack([normalise(to_pixels(image, 224), tiny_bundle.card.preprocessing) for image in images])
    with torch.inference_mode():
        activations = model.backbone(torch.from_numpy(x))
    features = Features(activations.numpy(), activations.mean((2, 3)).numpy())
    for row in range(3):
        one = Features(features.activations[row : row + 1], features.descriptors[row : row + 1])
        actual = explain_against(head, one, features)
        assert [explanation.identical for explanation in actual] == [row == other for other in range(3)]
        for explanation in actual:
            for heatmap in (explanation.query, explanation.hit):
                assert heatmap.factual.min() >= 0
                assert max(heatmap.factual.max(), heatmap.counterfactual.max()) == (0 if explanation.identical else 1)
    pairs = PairInputs(head, features.activations, features.descriptors, features.descriptors[::-1])
    assert np.isfinite(grad_cam(pairs)).all()
