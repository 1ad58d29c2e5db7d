"""The Ray cluster that an indexing runs on: found or started, its room for workers, and what its errors mean."""

from __future__ import annotations

import logging
import os
import socket
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from retrieval.common.errors import ClusterError, ModelError

try:
    import ray
    import ray.data
    from ray._private.services import find_bootstrap_address
except ImportError as error:
    raise ClusterError("--engine ray needs Ray: install it with `pip install 'retrieve-explain[ray]'`") from error

ADDRESS = "RAY_ADDRESS"
_CORES = 2  # of a worker on CPUs: more are served better by more workers
_MAX_GPU_CORES = 8  # of a worker with a GPU, which decodes on them
_NODE = "ray.io/node-id"
_PROBES, _TIMEOUT = 32, 2.0  # nodes that are asked at once whether they are there, and the seconds that each has
_STORE_BYTES = 512 << 20  # of a cluster that is started here: paths and descriptors are small
_ENVIRONMENT = ("RAY_USAGE_STATS_ENABLED", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO")
_HTTP2_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(
    (0, 0, 0, 4, 0, 0, 0, 0, 0)
)  # RFC 9113, 3.4: and no settings
_FRAME_HEAD, _SETTINGS = 9, 4  # bytes of a frame's head, of which the fourth is its type
_AUTH_MODE = "RAY_AUTH_MODE"
_QUIET = {"log_to_driver": False, "logging_level": logging.CRITICAL}


@dataclass(frozen=True)
class WorkerPlan:
    """How many workers there are, and what each has; `silent` are nodes that do not answer, where none is started."""

    workers: int
    device: str
    cores: int
    gpus: int = 0
    unresponsive: tuple[str, ...] = ()

    @property
    def label_selector(self) -> dict[str, str] | None:
        """Which nodes Ray may choose."""
        return {_NODE: f"!in({','.join(self.unresponsive)})"} if self.unresponsive else None


@contextmanager
def cluster_connection() -> Iterator[None]:
    """A cluster to work on: RAY_ADDRESS, else one that runs on this machine, else one of its own until the end.

    Raises ClusterError.
    """
    if ray.is_initialized():  # by the program that uses this one
        yield
        return
    with _silence_ray():
        try:
            _connect(os.environ.get(ADDRESS))
            yield
        finally:
            ray.shutdown()


def _connect(address: str | None) -> None:
    if address and address.startswith("ray://"):
        raise ClusterError(f"{ADDRESS} is {address}, a place for clients: give host:port of the cluster's head itself")
    at = _find_running() if address in (None, "auto") else address
    if at not in (None, "local"):
        try:
            _check_reachable(at)  # Ray itself asks for a minute, or for ever
            ray.init(address=at, **_QUIET)
            return
        except (OSError, RuntimeError, ValueError) as error:
            token = "" if _AUTH_MODE in os.environ else f", set {_AUTH_MODE}=token if it wants one,"
            raise ClusterError(
                f"the Ray cluster at {at} cannot be used ({first_line(error)}): start it with"
                f" `ray start --head`{token} or give another {ADDRESS} (`local`: one of its own)"
            ) from error
    try:
        ray.init(address="local", include_dashboard=False, object_store_memory=_STORE_BYTES, **_QUIET)
    except (OSError, RuntimeError, ValueError) as error:
        raise ClusterError(
            f"no Ray cluster can be started on this machine ({first_line(error)}): see that its memory and its"
            f" temporary folder are not full, or name a cluster that runs by {ADDRESS}"
        ) from error


def _find_running() -> str | None:
    """The address of the cluster that was started on this machine last, if it answers."""
    address: str | None = find_bootstrap_address(None)
    try:
        if address:
            _check_reachable(address)
    except (OSError, ValueError):
        return None
    return address


def _check_reachable(address: str) -> None:
    """See that something answers there as the head of a cluster would. Raises OSError and ValueError."""
    host, _, port = address.rpartition(":")
    if not port.isdigit():
        raise ValueError("it is no host:port")
    with socket.create_connection((host, int(port)), _TIMEOUT) as connection:
        if os.environ.get("RAY_USE_TLS", "0").lower() in ("1", "true"):
            return
        connection.settimeout(_TIMEOUT)
        connection.sendall(_HTTP2_PREFACE)
        answer = connection.recv(_FRAME_HEAD)
        if len(answer) < _FRAME_HEAD or answer[3] != _SETTINGS:
            raise OSError("something else answers there")


@contextmanager
def _silence_ray() -> Iterator[None]:
    """Nothing of Ray's own on our streams, and nothing that it tells its makers; afterwards all is as it was."""
    warnings.filterwarnings("ignore", module=r"ray\b")
    said, worker = ray._private.worker.print_to_stdstream, ray._private.worker
    loggers = [logging.getLogger(name) for name in ("ray", "ray.data")]
    levels = [logger.level for logger in loggers]
    mode = os.environ.get(_AUTH_MODE)  # which Ray sets where it has a token
    unset = [name for name in _ENVIRONMENT if name not in os.environ]
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    try:
        os.environ.update(dict.fromkeys(unset, "0"))
        worker.print_to_stdstream = lambda *said, **how: None  # what the cluster's nodes complain of
        for logger in loggers:
            logger.setLevel(logging.CRITICAL + 1)
        yield
    finally:
        worker.print_to_stdstream = said
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
        for name in unset:
            os.environ.pop(name, None)
        if mode is None:
            os.environ.pop(_AUTH_MODE, None)


def plan_workers(device: str, limit: int | None = None) -> WorkerPlan:
    """The workers that the cluster has room for, or `most`: with a GPU each where it has some and they are not refused.

    Raises ModelError and ClusterError.
    """
    nodes = [node for node in ray.nodes() if node["Alive"]]
    with ThreadPoolExecutor(_PROBES) as probes:
        answers = list(probes.map(_is_responding, nodes))
    there = [node["Resources"] for node, does_answer in zip(nodes, answers, strict=True) if does_answer]
    found = _plan_for([(int(node.get("CPU", 0)), int(node.get("GPU", 0))) for node in there], device)
    if found.workers < 1:
        raise ClusterError("the Ray cluster has no CPU for a worker: start a node with `ray start --address …`")
    silent = tuple(node["NodeID"] for node, does_answer in zip(nodes, answers, strict=True) if not does_answer)
    return replace(found, workers=min(limit or found.workers, found.workers), unresponsive=silent)


def _is_responding(node: dict[str, Any]) -> bool:
    """Whether the node's own process is there: Ray itself takes half a minute to notice that one is gone."""
    try:
        with socket.create_connection((node["NodeManagerAddress"], node["NodeManagerPort"]), _TIMEOUT):
            return True
    except OSError:
        return False


def _plan_for(room: list[tuple[int, int]], device: str) -> WorkerPlan:
    with_gpus = [(cpus, gpus) for cpus, gpus in room if gpus and cpus]
    if device == "cuda" and not with_gpus:
        raise ModelError("the Ray cluster has no GPU: leave --device out, or give --device cpu")
    if with_gpus and device in ("auto", "cuda"):
        cores = max(1, min(_MAX_GPU_CORES, *(cpus // gpus for cpus, gpus in with_gpus)))
        return WorkerPlan(sum(min(gpus, cpus // cores) for cpus, gpus in with_gpus), "cuda", cores, gpus=1)
    cores = _CORES if any(cpus >= _CORES for cpus, _ in room) else 1
    return WorkerPlan(sum(cpus // cores for cpus, _ in room), "cpu" if device == "auto" else device, cores)


def is_worker_loss(error: BaseException) -> bool:
    """Whether a worker, or what it had done, was lost: it can be done again."""
    kinds = (
        ray.exceptions.RayActorError,
        ray.exceptions.WorkerCrashedError,
        ray.exceptions.NodeDiedError,
        ray.exceptions.ObjectLostError,
        ray.exceptions.OutOfMemoryError,
        ray.exceptions.LocalRayletDiedError,
    )
    return isinstance(error, kinds) and not _missing_module(error)


def to_cluster_error(error: BaseException) -> ClusterError:
    """What else Ray ends with, in a sentence."""
    if _missing_module(error):
        return ClusterError(
            f"a machine of the Ray cluster lacks this program ({_missing_module(error)}):"
            " install the same version, with its extra [ray], on every machine"
        )
    return ClusterError(f"the Ray cluster failed ({first_line(error)}): look at its logs, and run the command again")


def _missing_module(error: BaseException) -> str:
    lines = (line.strip() for line in str(error).splitlines())
    return next((line for line in lines if line.startswith(("ModuleNotFoundError", "ImportError"))), "")


def first_line(error: BaseException) -> str:
    """The first line of what an error says."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
