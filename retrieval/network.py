"""Inference: batches of pictures to activations and descriptors, by OpenVINO on the CPU or torch on a GPU."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from retrieval.bundle import Bundle
from retrieval.errors import ModelError
from retrieval.head import Array
from retrieval.pictures import Pixels
from retrieval.settings import cache_folder

DEVICES = ("auto", "cpu", "cuda", "mps")
PREPARE_STEPS = ("loading torch", "building the network", "converting it", "compiling it")

Step = Callable[[str], None]
"""Called with the name of each step of a preparation before it begins."""


@dataclass(frozen=True)
class Features:
    """Activations float32 (B, C, h, w) and descriptors float32 (B, C), rounded to float16 as the store keeps them.

    The rounding makes a query's descriptor equal, to the bit, to the stored one of the same picture.
    """

    activations: Array
    descriptors: Array


class Network(Protocol):
    """A prepared backbone. Calling it takes uint8 (B, size, size, 3)."""

    @property
    def device(self) -> str: ...

    def __call__(self, pixels: Pixels) -> Features: ...


def open_network(bundle: Bundle, device: str = "auto", on_step: Step = lambda step: None) -> Network:
    """The bundle's backbone on a device: `auto` takes a GPU where there is one, else the CPU.

    The first use on a CPU converts the network into the cache folder, calling `on_step`; later uses
    import no torch. Raises ModelError.
    """
    if device not in DEVICES:
        raise ModelError(f"{device} is not a device: give one of {', '.join(DEVICES)}")
    if device != "cpu" and (device != "auto" or _may_have_gpu()):
        found = _torch_device(device)
        if found is not None:
            return _TorchNetwork(bundle, found)
    try:
        return _OpenVinoNetwork(_prepared(bundle, on_step))
    except RuntimeError:  # a damaged cache: made anew, once
        shutil.rmtree(_prepared_folder(bundle), ignore_errors=True)
        return _OpenVinoNetwork(_prepared(bundle, on_step))


def rounded(activations: Array, descriptors: Array) -> Features:
    """Features with descriptors as float16 holds them (its range is +-65504)."""
    stored = np.clip(descriptors, -65504, 65504).astype(np.float16)
    return Features(activations, stored.astype(np.float32))


def _may_have_gpu() -> bool:
    """A look that costs no import of torch: NVIDIA's device file, or a Mac with Apple's chip."""
    apple = sys.platform == "darwin" and os.uname().machine == "arm64"
    return apple or Path("/dev/nvidiactl").exists()


def _torch_device(wanted: str) -> str | None:
    import torch

    present = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if wanted == "auto":
        return next((name for name, here in present.items() if here), None)
    if not present[wanted]:
        raise ModelError(f"this machine has no {wanted} device: leave --device out, or give --device cpu")
    return wanted


class _TorchNetwork:
    def __init__(self, bundle: Bundle, device: str) -> None:
        import torch

        from retrieval.model import load_model

        self.device = device
        self._trunk = load_model(str(bundle.folder)).backbone.to(device)
        pre = bundle.card.preprocessing
        self._mean, self._std = (torch.tensor(v, device=device).view(1, 3, 1, 1) for v in (pre.mean, pre.std))

    def __call__(self, pixels: Pixels) -> Features:
        import torch

        with torch.inference_mode():
            x = torch.from_numpy(pixels).to(self.device).permute(0, 3, 1, 2).float()  # (B, 3, H, W)
            activations = self._trunk((x - self._mean) / self._std).float()
            descriptors = activations.mean((2, 3))
            return rounded(activations.cpu().numpy(), descriptors.cpu().numpy())


class _OpenVinoNetwork:
    device = "cpu"

    def __init__(self, folder: Path) -> None:
        self._request = _compiled(folder).create_infer_request()

    def __call__(self, pixels: Pixels) -> Features:
        result = self._request.infer({0: pixels}, share_inputs=True)
        return rounded(np.array(result[0]), np.array(result[1]))


def _compiled(folder: Path) -> Any:
    import openvino

    core = openvino.Core()
    return core.compile_model(folder / "network.xml", "CPU", {"PERFORMANCE_HINT": "LATENCY", "CACHE_DIR": str(folder)})


def _prepared_folder(bundle: Bundle) -> Path:
    from importlib.metadata import version

    return cache_folder() / f"{bundle.fingerprint[:16]}-openvino-{version('openvino')}"


def _prepared(bundle: Bundle, on_step: Step) -> Path:
    """The folder of the converted network, made on first use: built beside its place, then renamed into it."""
    folder = _prepared_folder(bundle)
    if folder.is_dir():
        return folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        work = Path(tempfile.mkdtemp(prefix="preparing-", dir=folder.parent))
        try:
            _convert(bundle, work, on_step)
            os.rename(work, folder)
        finally:
            shutil.rmtree(work, ignore_errors=True)
    except OSError as error:
        if folder.is_dir():  # another process has prepared it meanwhile
            return folder
        raise ModelError(
            f"the prepared network cannot be written to {folder.parent} ({error.strerror}):"
            " set RETRIEVE_CACHE to a folder with room"
        ) from error
    return folder


def _convert(bundle: Bundle, folder: Path, on_step: Step) -> None:
    steps = iter(PREPARE_STEPS)
    on_step(next(steps))
    import openvino
    import torch
    from openvino.preprocess import PrePostProcessor

    from retrieval.model import load_model

    class WithDescriptor(torch.nn.Module):
        def __init__(self, trunk: torch.nn.Module) -> None:
            super().__init__()
            self.trunk = trunk

        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            activations = self.trunk(x)
            return activations, activations.mean((2, 3))

    on_step(next(steps))
    trunk = WithDescriptor(load_model(str(bundle.folder)).backbone).eval()
    on_step(next(steps))
    pre = bundle.card.preprocessing
    shape = [-1, 3, pre.size, pre.size]
    with warnings.catch_warnings(), torch.inference_mode():
        warnings.simplefilter("ignore")  # the converter's tracing warns of its own future
        example = torch.zeros(2, 3, pre.size, pre.size)
        graph = openvino.convert_model(trunk, example_input=example, input=shape)
    steps_in = PrePostProcessor(graph)
    picture = steps_in.input()
    picture.tensor().set_element_type(openvino.Type.u8).set_layout(openvino.Layout("NHWC"))
    picture.tensor().set_shape([-1, pre.size, pre.size, 3])
    normalise = picture.preprocess().convert_element_type(openvino.Type.f32)
    normalise.mean(list(pre.mean)).scale(list(pre.std))
    picture.model().set_layout(openvino.Layout("NCHW"))
    openvino.save_model(steps_in.build(), folder / "network.xml", compress_to_fp16=False)
    on_step(next(steps))
    _compiled(folder)
