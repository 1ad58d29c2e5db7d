"""Inference of activations and descriptors, by OpenVINO on the CPU or torch on a GPU."""

import hashlib
import logging
import os
import platform
import shutil
import sys
import zlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cache, cached_property
from pathlib import Path
from queue import SimpleQueue
from threading import Lock
from typing import Any, Protocol

import numpy as np

from indexes.atomic_files import write_file
from indexes.errors import MissingPackageError
from retrieval.common.errors import ModelError, first_line
from retrieval.common.parallel import batched
from retrieval.common.progress import SILENT, Progress
from retrieval.common.settings import Device, cache_folder, installed_version
from retrieval.model.bundle import Bundle
from retrieval.model.head import Array
from retrieval.model.preprocessing import Pixels

_STREAM_BATCH = 4  # pictures per stream: few enough that their activations stay in the core's cache
_EXACT_BATCH = 1  # OpenVINO compiles kernels for each batch size, which takes as long as several pictures
_CONVERTER = "openvino.tools.ovc"
_SEAL = ".crc32"  # ends the name of a checksum's file
_LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True)
class Features:
    """Activations float32 (B, C, h, w) and descriptors float32 (B, C), their averages over the cells."""

    activations: Array
    descriptors: Array


class Network(Protocol):
    """A backbone for batches of pictures, each uint8 (size, size, 3). Any thread may use it."""

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

    Raises ModelError.
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
    """Round float32 descriptors to the values that float16 holds, in its range of +-65504. Raises ModelError."""
    if not np.isfinite(descriptors).all():
        raise ModelError("the model's network gives no numbers for a picture: its weights are damaged, get it again")
    return np.clip(descriptors, -65504, 65504).astype(np.float16).astype(np.float32)


def _may_have_gpu() -> bool:
    """Check without importing torch: for NVIDIA's device file, or a Mac with Apple's chip."""
    is_apple = sys.platform == "darwin" and platform.machine() == "arm64"
    return is_apple or Path("/dev/nvidiactl").exists()


def torch_device(requested: str) -> str:
    """Return the device for torch; `auto` takes a GPU if there is one, and PyTorch. Raises ModelError."""
    try:
        import torch
    except ImportError as error:
        if requested in ("auto", "cpu"):
            return "cpu"
        raise MissingPackageError(f"--device {requested} needs PyTorch", "gpu") from error
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


class _Streams:
    """A compiled network with several independent streams, as many as suit the cores."""

    def __init__(self, network: Any) -> None:
        count: int = network.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS")
        self._threads = ThreadPoolExecutor(count, thread_name_prefix="stream")
        self._idle_requests: SimpleQueue[Any] = SimpleQueue()
        for _ in range(count):
            self._idle_requests.put(network.create_infer_request())

    def infer(self, pixels: Sequence[Pixels], batch: int, *outputs: int) -> list[Array]:
        """Return these outputs of the network for any number of pictures, in batches of this size."""
        parts = self._threads.map(lambda each: self._infer(each, outputs), batched(pixels, batch))
        return [np.concatenate(each) for each in zip(*parts, strict=True)]

    def _infer(self, pixels: Sequence[Pixels], outputs: Sequence[int]) -> list[Array]:
        request = self._idle_requests.get()
        try:
            result = request.infer({0: np.stack(pixels)}, share_inputs=True, share_outputs=True)
            return [np.array(result[each]) for each in outputs]  # what is not needed is not copied
        finally:
            self._idle_requests.put(request)


class _OpenVinoNetwork:
    def __init__(self, bundle: Bundle, progress: Progress, cores: int | None) -> None:
        self._bundle = bundle
        self._file = _network_file(bundle, progress)
        self._settings: dict[str, str] = {}
        if cores is not None:
            self._settings["INFERENCE_NUM_THREADS"] = str(cores)
        self._fast = self._compile({})
        self._exact_lock = Lock()

    @cached_property
    def _exact(self) -> _Streams:
        return self._compile({"INFERENCE_PRECISION_HINT": "f32"})

    def _compile(self, options: dict[str, str]) -> _Streams:
        size = self._bundle.card.preprocessing.size
        settings = {"PERFORMANCE_HINT": "THROUGHPUT"} | self._settings | options
        folder = _checked_cache(self._bundle, settings)
        cached = settings | ({"CACHE_DIR": str(folder)} if folder else {})
        try:
            network = _core().compile_model(self._file, "CPU", cached)
            if network.input(0).partial_shape[1] != size:  # reading it first would take as long as all of a cached one
                graph = _core().read_model(self._file)
                graph.reshape([-1, size, size, 3])
                network = _core().compile_model(graph, "CPU", cached)
            channels, expected = network.output(1).partial_shape[1], self._bundle.head_channels
        except RuntimeError as error:
            raise ModelError(f"{self._file} cannot be run ({first_line(error)}): get the bundle again") from error
        if channels != expected:
            raise ModelError(f"{self._file} gives {channels} channels and its head takes {expected}: get another")
        if folder:
            _seal_cache(folder)
        return _Streams(network)

    def describe(self, pixels: Sequence[Pixels]) -> Array:
        return round_to_float16(self._fast.infer(pixels, _STREAM_BATCH, 1)[0])

    def activate(self, pixels: Sequence[Pixels]) -> Features:
        with self._exact_lock:
            exact = self._exact
        return Features(*exact.infer(pixels, _EXACT_BATCH, 0, 1))


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


def _checked_cache(bundle: Bundle, settings: dict[str, str]) -> Path | None:
    """Return OpenVINO's folder for this network as compiled with these settings; None if there can be none.

    A network that is not cached is compiled in a quarter of a second. So is one whose cached form is damaged, which
    OpenVINO would not notice: it is deleted here, as its checksum beside it shows that.
    """
    way = hashlib.sha256(repr(sorted(settings.items())).encode()).hexdigest()[:8]
    folder = cache_folder() / f"{bundle.fingerprint[:16]}-openvino-{installed_version('openvino')}-{way}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for file in folder.glob("*.blob"):
            seal = file.with_suffix(_SEAL)
            if not seal.is_file() or seal.read_bytes() != _checksum(file):
                if seal.is_file():
                    _LOGGER.warning("%s was damaged and is made anew", file)
                file.unlink(missing_ok=True)
    except OSError:
        return None
    return folder


def _seal_cache(folder: Path) -> None:
    """Write a checksum beside each file of the folder that has none."""
    with suppress(OSError):
        for file in folder.glob("*.blob"):
            if not (seal := file.with_suffix(_SEAL)).is_file():
                write_file(seal, _checksum(file))


def _checksum(file: Path) -> bytes:
    return b"%08x" % zlib.crc32(file.read_bytes())


def _network_file(bundle: Bundle, progress: Progress) -> Path:
    """Return `network.onnx` of a bundle; one of before it gets it now, or a copy in the cache if it is read-only.

    Raises ModelError, and MissingPackageError if that takes PyTorch, which is not installed.
    """
    unchecked = replace(bundle.card, digests={})
    copy = replace(bundle, folder=cache_folder() / bundle.fingerprint[:16], card=unchecked)
    for each in (bundle, copy):
        with suppress(ModelError):  # a copy that is damaged is made anew
            if each.has_network and (each is bundle or each.fingerprint == bundle.fingerprint):
                return each.network_file
    with progress.stage("Converting the model (once)", announce=True):
        try:
            from retrieval.model.bundle_export import export_network
            from retrieval.model.siamese import load_model
        except ImportError as error:
            what = f"{bundle.network_file} is missing or damaged, and PyTorch makes it anew"
            raise MissingPackageError(what, "train") from error
        backbone = load_model(str(bundle.folder)).backbone
        try:
            if os.access(bundle.folder, os.W_OK):
                return export_network(backbone, bundle)
            copy.folder.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(bundle.weights_file, copy.weights_file)
            return export_network(backbone, copy)
        except OSError as error:
            raise ModelError(
                f"the network of {bundle.folder} cannot be written ({error.strerror}):"
                " make room beside it, or set RETRIEVE_CACHE to a folder with room"
            ) from error
