"""Networks: the same features on every device, and one sentence if one cannot be opened."""

import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save_file

from indexes.errors import UserError
from retrieval.common.errors import ModelError
from retrieval.model import inference
from retrieval.model.bundle import Bundle, find_bundle
from retrieval.model.inference import _TorchNetwork, open_network
from tests.support.command import PROJECT, environment
from tests.support.generated import blocks
from tests.support.progress import RecordedProgress


def without_network(bundle: Bundle, folder: Path) -> Bundle:
    """Return a bundle as older versions made it."""
    folder.mkdir()
    for file in (bundle.weights_file, bundle.folder / "model.json"):
        shutil.copy(file, folder)
    return find_bundle(str(folder))


@pytest.mark.torch
@pytest.mark.parametrize("error", [RuntimeError("no such\nlayer"), TypeError("no such")])
def test_a_failing_export_is_one_sentence(
    error: Exception, tiny_bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: Any, **options: Any) -> None:
        raise error

    bundle = without_network(tiny_bundle, tmp_path / "bundle")
    monkeypatch.setattr("torch.onnx.export", fail)
    with pytest.raises(ModelError, match=r"efficientnet_lite0 cannot be exported \(no such\): give another one"):
        open_network(bundle, "cpu")
    assert not bundle.network_file.exists()


def test_a_damaged_network_is_one_sentence(tiny_bundle: Bundle, tmp_path: Path) -> None:
    bundle = without_network(tiny_bundle, tmp_path / "bundle")
    bundle.network_file.write_bytes(b"damaged " + bundle.network_stamp.encode())
    with pytest.raises(ModelError, match=r"network\.onnx cannot be run \(.+\): get the bundle again"):
        open_network(bundle, "cpu")


@pytest.mark.torch
def test_a_bundle_of_before_is_converted_once(tiny_bundle: Bundle, tmp_path: Path) -> None:
    bundle, pixels = without_network(tiny_bundle, tmp_path / "bundle"), [blocks(1, 224, 224)]
    first, second = RecordedProgress(), RecordedProgress()
    expected = open_network(tiny_bundle, "cpu").describe(pixels)
    np.testing.assert_array_equal(open_network(bundle, "cpu", first).describe(pixels), expected)
    assert [stage.title for stage in first.stages] == ["Converting the model (once)"]
    np.testing.assert_array_equal(open_network(bundle, "cpu", second).describe(pixels), expected)
    assert not second.stages
    assert bundle.network_file.read_bytes() == tiny_bundle.network_file.read_bytes()


@pytest.mark.torch
def test_a_read_only_bundle_of_before_is_converted_into_the_cache(
    tiny_bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RETRIEVE_CACHE", str(tmp_path / "cache"))
    bundle, pixels = without_network(tiny_bundle, tmp_path / "bundle"), [blocks(1, 224, 224)]
    monkeypatch.setattr(os, "access", lambda *_: False)
    first = open_network(bundle, "cpu").describe(pixels)
    assert not bundle.network_file.exists()
    second = RecordedProgress()
    np.testing.assert_array_equal(open_network(bundle, "cpu", second).describe(pixels), first)
    assert not second.stages


@pytest.mark.torch
def test_a_network_of_other_weights_is_made_anew(tiny_bundle: Bundle, tmp_path: Path) -> None:
    """Offsets into a file whose tensors lie elsewhere would give nonsense, and a constant another normalisation."""
    bundle, pixels = without_network(tiny_bundle, tmp_path / "bundle"), [blocks(1, 224, 224)]
    shutil.copy(tiny_bundle.network_file, bundle.folder)
    expected = open_network(bundle, "cpu").describe(pixels)
    with safe_open(bundle.weights_file, framework="numpy") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    save_file(tensors, bundle.weights_file, {"a": "longer header"})
    assert not bundle.has_network
    np.testing.assert_array_equal(open_network(bundle, "cpu").describe(pixels), expected)
    other = replace(bundle.card, preprocessing=replace(bundle.card.preprocessing, mean=(0.0,) * 3), digests={})
    assert not np.array_equal(open_network(replace(bundle, card=other), "cpu").describe(pixels), expected)


def test_without_torch_only_a_bundle_of_before_fails(
    tiny_bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("torch", "retrieval.model.bundle_export", "retrieval.model.siamese"):
        monkeypatch.setitem(sys.modules, name, None)
    bundle = without_network(tiny_bundle, tmp_path / "bundle")
    with pytest.raises(UserError, match=r"network\.onnx is missing or damaged, .*pip install '\.\[train\]'"):
        open_network(bundle, "cpu")
    monkeypatch.setattr(inference, "_may_have_gpu", lambda: True)
    assert open_network(tiny_bundle).describe([blocks(1, 224, 224)]).shape == (1, 1280)
    with pytest.raises(UserError, match=r"--device cuda needs PyTorch: .*pip install '\.\[gpu\]'"):
        open_network(tiny_bundle, "cuda")
    with pytest.raises(ImportError, match=r"load_model needs PyTorch: .*pip install '\.\[train\]'"):
        from retrieval import load_model  # noqa: F401


@pytest.mark.torch
def test_torch_and_openvino_give_the_same_features(tiny_bundle: Bundle) -> None:
    """The network for GPUs, here on torch's CPU, against OpenVINO in float32 and, for descriptors, at full speed."""
    pixels = [blocks(seed, 224, 224, cells=5) for seed in range(3)]
    by_torch, by_openvino = _TorchNetwork(tiny_bundle, "cpu"), open_network(tiny_bundle, "cpu")
    expected, actual = by_torch.activate(pixels), by_openvino.activate(pixels)
    assert actual.activations.shape == expected.activations.shape == (3, 1280, 7, 7)
    np.testing.assert_allclose(actual.activations, expected.activations, atol=1e-3)
    np.testing.assert_allclose(actual.descriptors, expected.activations.mean((2, 3)), atol=1e-4)
    exact, fast = by_torch.describe(pixels), by_openvino.describe(pixels)
    np.testing.assert_array_equal(exact, exact.astype(np.float16))
    np.testing.assert_array_equal(fast, fast.astype(np.float16))
    cosines = np.sum(exact * fast, axis=1) / np.linalg.norm(exact, axis=1) / np.linalg.norm(fast, axis=1)
    assert cosines.min() > 0.98


def test_descriptors_do_not_depend_on_the_batch(tiny_bundle: Bundle) -> None:
    network = open_network(tiny_bundle, "cpu")
    pixels = [blocks(seed, 224, 224) for seed in range(7)]
    together = network.describe(pixels)
    np.testing.assert_array_equal(together, np.concatenate([network.describe(pixels[i : i + 1]) for i in range(7)]))


@pytest.mark.torch
@pytest.mark.parametrize("size", [225, 320])
def test_pictures_of_another_size_need_no_other_network(tiny_bundle: Bundle, size: int) -> None:
    """Padding depends on the size: odd and even ones differ."""
    sized = replace(
        tiny_bundle,
        card=replace(tiny_bundle.card, preprocessing=replace(tiny_bundle.card.preprocessing, size=size), digests={}),
    )
    pixels = [blocks(seed, size, size, cells=5) for seed in range(2)]
    expected, actual = _TorchNetwork(sized, "cpu").activate(pixels), open_network(sized, "cpu").activate(pixels)
    np.testing.assert_allclose(actual.activations, expected.activations, atol=1e-3)


def test_a_damaged_cache_is_no_obstacle(tiny_bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RETRIEVE_CACHE", str(tmp_path))
    pixels = [blocks(1, 224, 224)]
    expected = open_network(tiny_bundle, "cpu").describe(pixels)
    (folder,) = tmp_path.iterdir()
    files = list(folder.iterdir())
    assert files
    for file in files:
        file.chmod(0o600)
        file.write_bytes(b"damaged")
    np.testing.assert_array_equal(open_network(tiny_bundle, "cpu").describe(pixels), expected)


_NETWORKS_COME_AND_GO = """
import gc, signal, subprocess, sys
import numpy as np
from retrieval.model.bundle import find_bundle
from retrieval.model.inference import open_network

pixels = [np.zeros((224, 224, 3), np.uint8)]
for _ in range(2):
    network = open_network(find_bundle(sys.argv[1]), "cpu")
    network.describe(pixels)
    network.activate(pixels)  # with a second compiled network beside the first
    del network
    gc.collect()
signal.signal(signal.SIGCHLD, lambda *_: print("handled", flush=True))
subprocess.run([sys.executable, "-c", ""])
"""


def test_a_signal_after_networks_are_gone_is_handled(tiny_bundle: Bundle) -> None:
    command = [sys.executable, "-c", _NETWORKS_COME_AND_GO, str(tiny_bundle.folder)]
    done = subprocess.run(command, cwd=PROJECT, env=environment(), capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "handled\n"), done.stderr
