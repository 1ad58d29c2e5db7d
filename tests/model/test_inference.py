"""Networks: the same features on every device, and one sentence if one cannot be prepared."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from retrieval.common.errors import ModelError
from retrieval.model import inference
from retrieval.model.bundle import Bundle
from retrieval.model.inference import PREPARING, _TorchNetwork, open_network
from tests.support.command import PROJECT, environment
from tests.support.generated import blocks
from tests.support.progress import RecordedProgress


@pytest.mark.parametrize("error", [RuntimeError("no such\nlayer"), TypeError("no such")])
def test_a_failing_conversion_is_one_sentence(
    error: Exception, tiny_bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: Any, **options: Any) -> None:
        raise error

    monkeypatch.setenv("RETRIEVE_CACHE", str(tmp_path))
    monkeypatch.setattr("openvino.tools.ovc.convert_model", fail)
    with pytest.raises(ModelError, match=r"cannot be prepared for this machine \(no such\): get the bundle again"):
        open_network(tiny_bundle, "cpu")
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_a_network_that_never_compiles_is_one_sentence(tiny_bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: Any) -> None:
        raise RuntimeError("cannot compile")

    monkeypatch.setattr(inference, "_core", fail)
    with pytest.raises(ModelError, match=r"\(cannot compile\): get the bundle again"):
        open_network(tiny_bundle, "cpu")


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


@pytest.mark.slow
def test_a_damaged_prepared_network_is_rebuilt(
    tiny_bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RETRIEVE_CACHE", str(tmp_path))
    pixels = [blocks(1, 224, 224)]
    expected = open_network(tiny_bundle, "cpu").describe(pixels)
    (folder,) = tmp_path.iterdir()
    for file in folder.iterdir():
        file.write_bytes(b"damaged")
    progress = RecordedProgress()
    np.testing.assert_array_equal(open_network(tiny_bundle, "cpu", progress).describe(pixels), expected)
    assert progress.totals == [(PREPARING, 4)]
    assert progress.stages[0].done == 3  # the last step is the compilation, which follows


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
