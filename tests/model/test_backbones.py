"""Backbones by name, and weights from files of every quality."""

import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from urllib.error import URLError

import pytest

pytest.importorskip("torch")
import timm
import torch
from safetensors.torch import save_file
from torchvision.models import resnet50

from retrieval.common.errors import ModelError
from retrieval.model.backbones import StateDict, build_backbone

SMALL = "resnet10t"  # a small convolutional model of timm


def trunk_weights() -> StateDict:
    """Make weights that can be recognised: each 0.25 higher than in a new backbone."""
    torch.manual_seed(0)
    state = build_backbone(SMALL, pretrained=False).module.state_dict()
    return {name: tensor + 0.25 if tensor.is_floating_point() else tensor for name, tensor in state.items()}


def save(tensors: StateDict, file: Path) -> Path:
    if file.suffix == ".safetensors":
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, file)
    else:
        torch.save(tensors, file)
    return file


def refusal(weights: Path) -> str:
    with pytest.raises(ModelError) as raised:
        build_backbone(SMALL, weights=weights)
    return str(raised.value)


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_weights_come_from_a_file(tmp_path: Path, suffix: str) -> None:
    weights = trunk_weights()
    backbone = build_backbone(SMALL, weights=save(weights, tmp_path / f"w{suffix}"))
    actual = backbone.module.state_dict()
    assert actual.keys() == weights.keys()
    assert all(torch.equal(actual[name], weights[name]) for name in weights)
    assert not backbone.module.training


def test_a_classifier_in_the_file_is_ignored(tmp_path: Path) -> None:
    weights = trunk_weights() | {"fc.weight": torch.zeros(1000, 512), "fc.bias": torch.zeros(1000)}
    assert build_backbone(SMALL, weights=save(weights, tmp_path / "w.pth")).channels == 512


def test_counters_of_batches_may_be_missing(tmp_path: Path) -> None:
    weights = {name: tensor for name, tensor in trunk_weights().items() if not name.endswith("num_batches_tracked")}
    assert build_backbone(SMALL, weights=save(weights, tmp_path / "w.safetensors")).channels == 512


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_missing_tensors_are_named(tmp_path: Path, suffix: str) -> None:
    weights = trunk_weights()
    del weights["layer4.0.conv1.weight"]
    file = save(weights, tmp_path / f"w{suffix}")
    expected = "lacks 1 of the backbone's tensors, such as layer4.0.conv1.weight: give its own weights"
    assert refusal(file) == f"{file} {expected}"


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_tensors_of_another_shape_are_refused(tmp_path: Path, suffix: str) -> None:
    weights = trunk_weights() | {"layer4.0.conv1.weight": torch.zeros(3, 3)}
    file = save(weights, tmp_path / f"w{suffix}")
    assert refusal(file).startswith(f"{file} does not fit the backbone: ")


@pytest.mark.parametrize("suffix", [".safetensors", ".pth", ".bin"])
@pytest.mark.parametrize(
    "content", [b"", b"\0", b"text, not weights\n" * 50, b"PK\x03\x04", b"\x80\x02}q\x00.", b"\xff" * 99]
)
def test_garbage_is_refused(tmp_path: Path, suffix: str, content: bytes) -> None:
    file = tmp_path / f"w{suffix}"
    file.write_bytes(content)
    assert refusal(file).startswith(f"{file} ")


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_a_truncated_file_is_refused(tmp_path: Path, suffix: str) -> None:
    file = save(trunk_weights(), tmp_path / f"w{suffix}")
    file.write_bytes(file.read_bytes()[:5000])
    assert refusal(file).startswith(f"{file} cannot be read as weights: ")


def test_a_zip_of_something_else_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "w.pth", "w") as archive:
        archive.writestr("note.txt", "no weights")
    assert refusal(tmp_path / "w.pth").startswith(f"{tmp_path / 'w.pth'} cannot be read as weights: ")


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    for name in ("w.pth", "w.safetensors"):
        assert refusal(tmp_path / name).startswith(f"{tmp_path / name} cannot be read as weights: ")


class _Code:
    """Creates a file when it is unpickled."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[Callable[[Path], None], tuple[Path]]:
        return Path.touch, (self.file,)


def pickled(value: object, file: Path) -> None:
    file.write_bytes(pickle.dumps(value, protocol=2))


@pytest.mark.parametrize("write", [pickled, torch.save])
def test_a_pickle_with_code_is_refused_and_not_run(tmp_path: Path, write: Callable[[object, Path], None]) -> None:
    file, trace = tmp_path / "w.pth", tmp_path / "trace"
    write({"conv1.weight": _Code(trace)}, file)
    assert refusal(file).startswith(f"{file} holds more than weights")
    assert not trace.exists()


@pytest.mark.parametrize("value", [[torch.zeros(2)], torch.zeros(3), 5, "text", {"state_dict": {"a": torch.zeros(2)}}])
def test_a_file_of_something_other_than_a_state_dict_is_refused(tmp_path: Path, value: object) -> None:
    torch.save(value, tmp_path / "w.pth")
    assert refusal(tmp_path / "w.pth").startswith(f"{tmp_path / 'w.pth'} ")


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(ModelError, match=r"^nonsense is not a backbone: give efficientnet_lite0, resnet50, or"):
        build_backbone("nonsense")


def test_a_model_without_activations_is_refused() -> None:
    with pytest.raises(ModelError, match=r"^vit_tiny_patch16_224 .*convolutional"):
        build_backbone("vit_tiny_patch16_224", pretrained=False)


def test_efficientnet_lite0_brings_its_weights() -> None:
    backbone = build_backbone("efficientnet_lite0")
    assert (backbone.channels, backbone.preprocessing.size) == (1280, 224)
    assert (backbone.preprocessing.mean, backbone.preprocessing.std) == ((127.0,) * 3, (128.0,) * 3)
    one, other = (build_backbone("efficientnet_lite0", pretrained=False).module.state_dict() for _ in range(2))
    assert not torch.equal(one["conv_stem.weight"], other["conv_stem.weight"])
    again = build_backbone("efficientnet_lite0").module.state_dict()
    assert torch.equal(backbone.module.state_dict()["conv_stem.weight"], again["conv_stem.weight"])


@pytest.mark.parametrize("name", ["efficientnet_lite0", "resnet50", SMALL])
def test_activations_have_the_declared_channels_and_repeat(name: str) -> None:
    backbone = build_backbone(name, pretrained=False)
    x = torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        first, second = backbone.module(x), backbone.module(x)
    assert first.shape == (2, backbone.channels, 2, 2)
    assert torch.equal(first, second)


def no_network(*arguments: object, **options: object) -> None:
    raise URLError("no network")


def test_resnet50_without_network_names_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", no_network)
    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", no_network)
    with pytest.raises(ModelError, match=r"cannot be downloaded .*: give a file of them with --weights"):
        build_backbone("resnet50")


def test_a_download_that_is_something_else_names_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    def other_bytes(*arguments: object, **options: object) -> None:
        raise RuntimeError('invalid hash value (expected "11ad3fa6", got "00000000")')

    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", other_bytes)
    with pytest.raises(ModelError, match=r"cannot be downloaded .*: give a file of them with --weights"):
        build_backbone("resnet50")


def test_timm_without_network_names_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timm, "create_model", no_network)
    with pytest.raises(ModelError, match=rf"the weights of {SMALL} cannot be downloaded .* with --weights"):
        build_backbone(SMALL)


def test_a_file_of_torchvisions_resnet50_fills_the_trunk(tmp_path: Path) -> None:
    torch.manual_seed(5)
    whole = resnet50(weights=None).eval()
    torch.save(whole.state_dict(), tmp_path / "resnet50.pth")
    backbone = build_backbone("resnet50", weights=tmp_path / "resnet50.pth")
    x = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        pooled = backbone.module(x).mean((2, 3))
        assert torch.allclose(whole.fc(pooled), whole(x), rtol=1e-4, atol=1e-4)


def test_torchvisions_download_fills_the_trunk(monkeypatch: pytest.MonkeyPatch) -> None:
    state = resnet50(weights=None).state_dict()
    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", lambda *a, **k: state)
    module = build_backbone("resnet50").module
    assert torch.equal(module.state_dict()["layer4.2.conv3.weight"], state["layer4.2.conv3.weight"])
