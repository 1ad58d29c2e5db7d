"""The Ray cluster of an indexing: its connection, its room for workers, and the meaning of its errors."""

import logging
import os
import socket
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from retrieval.common.errors import ClusterError, ModelError, first_line

try:
    import ray
except ImportError as error:
    raise ClusterError("--engine ray needs Ray: install it with `pip install '.[ray]'`") from error

ADDRESS = "RAY_ADDRESS"
_CORES = 2  # of a worker on CPUs: more are served better by more workers
_MAX_GPU_CORES = 8  # of a worker with a GPU, which decodes on them
_NODE = "ray.io/node-id"
_PROBES, _TIMEOUT = 32, 2.0  # nodes that are probed at once, and the seconds that each has to respond
_STORE_BYTES = 512 << 20  # of a cluster that is started here: paths and descriptors are small
_TEMPORARY = ("RAY_TMPDIR", "TMPDIR")  # variables that name Ray's temporary folder; else it is in /tmp
_CURRENT_CLUSTER = "ray/ray_current_cluster"  # there: the address that `ray start` printed last
_ENVIRONMENT = ("RAY_USAGE_STATS_ENABLED", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO")
_NO_SETTINGS = bytes((0, 0, 0, 4, 0, 0, 0, 0, 0))
_HTTP2_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + _NO_SETTINGS  # RFC 9113, 3.4
_FRAME_HEAD, _SETTINGS = 9, 4  # bytes of a frame's head, and the type that its fourth byte must be
_AUTH_MODE = "RAY_AUTH_MODE"
_QUIET = {"log_to_driver": False, "logging_level": logging.CRITICAL}


@dataclass(frozen=True)
class WorkerPlan:
    """The number of workers and the resources of each; none is started on `unresponsive` nodes."""

    workers: int
    device: str
    cores: int
    gpus: int = 0
    unresponsive: tuple[str, ...] = ()

    @property
    def label_selector(self) -> dict[str, str] | None:
        """The nodes that Ray may choose."""
        return {_NODE: f"!in({','.join(self.unresponsive)})"} if self.unresponsive else None


@contextmanager
def cluster_connection() -> Iterator[None]:
    """Connect to the cluster at RAY_ADDRESS, else to one that runs on this machine, else start one until the end.

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
        raise ClusterError(
            f"{ADDRESS} is {address}, an address for Ray clients: give the host:port of the cluster's head"
        )
    at = _find_running() if address in (None, "auto") else address
    if at not in (None, "local"):
        try:
            _check_reachable(at)  # Ray itself asks for a minute, or for ever
            ray.init(address=at, **_QUIET)
            return
        except (OSError, RuntimeError, ValueError) as error:
            token = "" if _AUTH_MODE in os.environ else f", set {_AUTH_MODE}=token if it requires one,"
            raise ClusterError(
                f"the Ray cluster at {at} cannot be used ({first_line(error)}): start it with"
                f" `ray start --head`{token} or give another {ADDRESS} (`local` starts one for this run)"
            ) from error
    try:
        ray.init(address="local", include_dashboard=False, object_store_memory=_STORE_BYTES, **_QUIET)
    except (OSError, RuntimeError, ValueError) as error:
        raise ClusterError(
            f"no Ray cluster can be started on this machine ({first_line(error)}): see that its memory and its"
            f" temporary folder are not full, or set {ADDRESS} to a running cluster"
        ) from error


def _find_running() -> str | None:
    """Return the address of the cluster that was started on this machine last, if it responds."""
    folder = next((os.environ[name] for name in _TEMPORARY if os.environ.get(name)), "/tmp")
    try:
        address = (Path(folder) / _CURRENT_CLUSTER).read_text().strip()
        _check_reachable(address)
    except (OSError, ValueError):
        return None
    return address


def _check_reachable(address: str) -> None:
    """Raise OSError or ValueError unless something responds there as the head of a cluster would."""
    host, _, port = address.rpartition(":")
    if not port.isdigit():
        raise ValueError("it is not a host:port")
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
    """Keep Ray's messages off our streams and its usage statistics off; everything is restored afterwards."""
    warnings.filterwarnings("ignore", module=r"ray\b")
    logger = logging.getLogger("ray")
    level = logger.level
    has_mode = _AUTH_MODE in os.environ  # else Ray sets it if it has a token
    unset = [name for name in _ENVIRONMENT if name not in os.environ]
    try:
        os.environ.update(dict.fromkeys(unset, "0"))
        logger.setLevel(logging.CRITICAL + 1)
        with _mute_nodes():
            yield
    finally:
        logger.setLevel(level)
        for name in [*unset, *(() if has_mode else (_AUTH_MODE,))]:
            os.environ.pop(name, None)


@contextmanager
def _mute_nodes() -> Iterator[None]:
    """Keep the nodes' error messages off standard output, to which `log_to_driver=False` does not apply.

    The only use of Ray's private modules. In a version without this function the messages are printed.
    """
    internal: Any = getattr(getattr(ray, "_private", None), "worker", None)
    printer = getattr(internal, "print_to_stdstream", None)
    if printer is None:
        yield
        return
    internal.print_to_stdstream = lambda *data, **options: None
    try:
        yield
    finally:
        internal.print_to_stdstream = printer


def plan_workers(device: str, limit: int | None = None) -> WorkerPlan:
    """Return the workers that the cluster has room for, at most `limit`; each has a GPU if there are any.

    `device` may refuse or require GPUs. Raises ModelError and ClusterError.
    """
    nodes = [node for node in ray.nodes() if node["Alive"]]
    with ThreadPoolExecutor(_PROBES) as probes:
        responding = dict(zip([node["NodeID"] for node in nodes], probes.map(_is_responding, nodes), strict=True))
    resources = [node["Resources"] for node in nodes if responding[node["NodeID"]]]
    plan = _plan_for([(int(node.get("CPU", 0)), int(node.get("GPU", 0))) for node in resources], device)
    if plan.workers < 1:
        raise ClusterError("the Ray cluster has no CPU for a worker: start a node with `ray start --address …`")
    unresponsive = tuple(node for node, is_responding in responding.items() if not is_responding)
    return replace(plan, workers=min(limit or plan.workers, plan.workers), unresponsive=unresponsive)


def _is_responding(node: dict[str, Any]) -> bool:
    """Return whether the node's own process is there: Ray takes half a minute to notice that one is gone."""
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
    """Return whether the error is the loss of a worker or of its results, so that its work can be repeated."""
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
    """Describe any other error of Ray's in a sentence."""
    if _missing_module(error):
        return ClusterError(
            f"a machine of the Ray cluster lacks this program ({_missing_module(error)}):"
            " install the same version, with its extra [ray], on every machine"
        )
    return ClusterError(f"the Ray cluster failed ({first_line(error)}): look at its logs, and run the command again")


def _missing_module(error: BaseException) -> str:
    lines = (line.strip() for line in str(error).splitlines())
    return next((line for line in lines if line.startswith(("ModuleNotFoundError", "ImportError"))), "")
