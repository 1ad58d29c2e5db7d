"""Inference of activations and descriptors, by OpenVINO on the CPU or torch on a GPU."""

import errno
import os
import shutil
import sys
import tempfile
import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from queue import SimpleQueue
from threading import Lock
from typing import Any, Protocol

import numpy as np

from retrieval.common.errors import ModelError, RetrievalError, first_line
from retrieval.common.parallel import batched
from retrieval.common.progress import SILENT, Progress, WorkStage
from retrieval.common.settings import Device, cache_folder
from retrieval.model.bundle import Bundle
from retrieval.model.head import Array
from retrieval.model.preprocessing import Pixels

_STREAM_BATCH = 4  # pictures per stream: few enough that their activations stay in the core's cache
_CONVERTER = "openvino.tools.ovc"
PREPARING = "Preparing the model (first use only)"
_PREPARE_STEPS = 4  # load torch, build the network, convert it; whoever opens it compiles it, under its final path


@dataclass(frozen=True)
class Features:
    """Activations float32 (B, C, h, w) and descriptors float32 (B, C), their averages over the cells."""

    activations: Array
    descriptors: Array


class Network(Protocol):
    """A prepared backbone for batches of pictures, each uint8 (size, size, 3). Any thread may use it."""

    def describe(self, pixels: Sequence[Pixels]) -> Array:
        """Return descriptors (B, C), as fast as the device can: in bfloat16 if the CPU has it.

        They are rounded to float16, as the store keeps them: a query's descriptor is bit for bit equal to the stored
        one of the same picture.
        """

    def activate(self, pixels: Sequence[Pixels]) -> Features:
        """Return activations and descriptors in float32, for heatmaps: bfloat16 would change a map by up to a tenth."""


def open_network(
    bundle: Bundle, device: str = "auto", progress: Progress = SILENT, cores: int | None = None
) -> Network:
    """Open the bundle's backbone on a device; `auto` takes a GPU if there is one, else the CPU, on at most `cores`.

    The first use on a CPU converts the network into the cache folder; later uses import no torch. Raises ModelError.
    """
    if device not in tuple(Device):
        raise ModelError(f"{device} is not a device: give one of {', '.join(Device)}")
    if device != "cpu" and (device != "auto" or _may_have_gpu()):
        chosen = torch_device(device)
        if chosen != "cpu":
            return _TorchNetwork(bundle, chosen)
    return _OpenVinoNetwork(bundle, progress, cores)


def limit_threads(most: int) -> None:
    """Limit the CPU threads of networks that are opened in this process from now on."""
    _core().set_property("CPU", {"INFERENCE_NUM_THREADS": most})


def round_to_float16(descriptors: Array) -> Array:
    """Round float32 descriptors to the values that float16 holds, in its range of +-65504."""
    return np.clip(descriptors, -65504, 65504).astype(np.float16).astype(np.float32)


def _may_have_gpu() -> bool:
    """Check without importing torch: for NVIDIA's device file, or a Mac with Apple's chip."""
    return Path("/dev/nvidiactl").exists() or (sys.platform == "darwin" and os.uname().machine == "arm64")


def torch_device(requested: str) -> str:
    """Return the device for torch; `auto` takes a GPU if there is one. Raises ModelError."""
    import torch

    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if requested == "auto":
        return next(name for name, is_available in available.items() if is_available)
    if not available[requested]:
        raise ModelError(f"this machine has no {requested} device: leave --device out, or give --device cpu")
    return requested


class _TorchNetwork:
    def __init__(self, bundle: Bundle, device: str) -> None:
        from retrieval.model.siamese import load_model

        self._device = device
        self._lock = Lock()  # a GPU runs one batch after the other anyway, and not every one supports two threads
        self._trunk = load_model(str(bundle.folder)).backbone.to(device)
        self._preprocessing = bundle.card.preprocessing

    def describe(self, pixels: Sequence[Pixels]) -> Array:
        return round_to_float16(self.activate(pixels).descriptors)

    def activate(self, pixels: Sequence[Pixels]) -> Features:
        import torch

        from retrieval.model.siamese import to_input

        with self._lock, torch.inference_mode():
            x = to_input(torch.from_numpy(np.stack(pixels)).to(self._device).permute(0, 3, 1, 2), self._preprocessing)
            activations = self._trunk(x).float()
            return Features(activations.cpu().numpy(), activations.mean((2, 3)).cpu().numpy())


class _OpenVinoNetwork:
    """Descriptors are computed on several independent streams, as many as suit the cores; maps on all cores at once."""

    def __init__(self, bundle: Bundle, progress: Progress, cores: int | None) -> None:
        self._bundle = bundle
        self._progress = progress
        self._limit = {} if cores is None else {"INFERENCE_NUM_THREADS": str(cores)}
        fast = self._compile({"PERFORMANCE_HINT": "THROUGHPUT"})
        count: int = fast.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS")
        self._streams = ThreadPoolExecutor(count, thread_name_prefix="stream")
        self._idle_requests: SimpleQueue[Any] = SimpleQueue()
        for _ in range(count):
            self._idle_requests.put(fast.create_infer_request())
        self._exact_lock = Lock()  # the exact network has one request

    @cached_property
    def _exact(self) -> Any:
        options = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
        return self._compile(options).create_infer_request()

    def _compile(self, options: dict[str, str]) -> Any:
        for is_last in (False, True):
            folder = _prepare(self._bundle, self._progress)
            try:
                settings = {"CACHE_DIR": str(folder)} | options | self._limit
                return _core().compile_model(folder / "network.xml", "CPU", settings)
            except RuntimeError as error:
                if is_last:
                    raise _preparation_error(self._bundle, error) from error
                shutil.rmtree(folder, ignore_errors=True)  # rebuild a damaged cache, once
        return None

    def describe(self, pixels: Sequence[Pixels]) -> Array:
        parts = self._streams.map(self._describe, batched(pixels, _STREAM_BATCH))
        return round_to_float16(np.concatenate(list(parts)))

    def _describe(self, pixels: Sequence[Pixels]) -> Array:
        request = self._idle_requests.get()
        try:
            result = request.infer({0: np.stack(pixels)}, share_inputs=True, share_outputs=True)
            return np.array(result[1])  # the activations are not copied
        finally:
            self._idle_requests.put(request)

    def activate(self, pixels: Sequence[Pixels]) -> Features:
        with self._exact_lock:
            result = self._exact.infer({0: np.stack(pixels)}, share_inputs=True)
            return Features(np.array(result[0]), np.array(result[1]))


@cache
def _core() -> Any:
    """Return OpenVINO's only core in this process, which is never released.

    Each core sets an alternate signal stack for the thread, and frees it on release. Of two cores, the first to be
    released leaves the thread with a freed stack, on which the next signal (Ctrl-C, the end of a child) would crash.
    """
    openvino = _import_openvino()
    # The first array passed to OpenVINO makes it import NumPy; two threads at once would deadlock, one waiting for
    # Python's lock and the other for that import's.
    openvino.Tensor(np.empty(1, np.uint8), shared_memory=True)
    return openvino.Core()


def _import_openvino() -> Any:
    """Import OpenVINO without its converter, which sends telemetry on import and takes most of the import's time."""
    is_new = _CONVERTER not in sys.modules
    if is_new:
        sys.modules[_CONVERTER] = None  # type: ignore[assignment]  # OpenVINO handles the ImportError
    try:
        import openvino
    finally:
        if is_new:
            del sys.modules[_CONVERTER]
    return openvino


def _prepare(bundle: Bundle, progress: Progress) -> Path:
    """Return the folder of the converted network, which the first use builds beside it and then renames."""
    from importlib.metadata import version

    folder = cache_folder() / f"{bundle.fingerprint[:16]}-openvino-{version('openvino')}"
    if folder.is_dir():
        return folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        work = Path(tempfile.mkdtemp(prefix="preparing-", dir=folder.parent))
        try:
            with progress.stage(PREPARING, _PREPARE_STEPS, announce=True) as stage:
                _convert(bundle, work, stage)
            os.rename(work, folder)
        except (OSError, RetrievalError):
            raise
        except Exception as error:  # torch and OpenVINO raise many kinds for a network they cannot convert
            raise _preparation_error(bundle, error) from error
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


def _preparation_error(bundle: Bundle, error: Exception) -> ModelError:
    reason = first_line(error)
    return ModelError(f"{bundle.folder} cannot be prepared for this machine ({reason}): get the bundle again")


def _convert(bundle: Bundle, folder: Path, stage: WorkStage) -> None:
    openvino = _import_openvino()
    import torch
    from openvino.preprocess import PrePostProcessor
    from openvino.tools.ovc import convert_model

    from retrieval.model.siamese import load_model

    class WithDescriptor(torch.nn.Module):
        def __init__(self, trunk: torch.nn.Module) -> None:
            super().__init__()
            self.trunk = trunk

        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            activations = self.trunk(x)
            return activations, activations.mean((2, 3))

    stage.advance()
    trunk = WithDescriptor(load_model(str(bundle.folder)).backbone).eval()
    stage.advance()
    pre = bundle.card.preprocessing
    size = (3, pre.size, pre.size)
    with warnings.catch_warnings(), torch.inference_mode():
        warnings.simplefilter("ignore")  # deprecations inside the converter
        graph = convert_model(trunk, example_input=torch.zeros(2, *size), input=[-1, *size])
    processor = PrePostProcessor(graph)
    picture = processor.input()
    picture.tensor().set_element_type(openvino.Type.u8).set_layout(openvino.Layout("NHWC"))
    picture.tensor().set_shape([-1, pre.size, pre.size, 3])
    picture.preprocess().convert_element_type(openvino.Type.f32).mean(list(pre.mean)).scale(list(pre.std))
    picture.model().set_layout(openvino.Layout("NCHW"))
    try:
        openvino.save_model(processor.build(), folder / "network.xml", compress_to_fp16=False)
    except RuntimeError as error:  # all that OpenVINO says of a full disk is "iostream error"
        raise OSError(errno.EIO, "the disk is full or failing") from error
    stage.advance()
