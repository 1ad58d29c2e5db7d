"""What the benchmarks share: the machine in words, timed processes, runs in turn, and how a result is printed."""

import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any, TypeVar

T = TypeVar("T")

BENCHMARKS = Path(__file__).resolve().parents[1]
RETRIEVE = [sys.executable, os.fspath(BENCHMARKS.parent / "cli.py")]
ENVIRONMENT = os.environ | {
    "PYTHONPATH": os.pathsep.join(filter(None, (os.fspath(BENCHMARKS), os.getenv("PYTHONPATH"))))
}
_PREPARE = """
from retrieval.model.bundle import find_bundle
from retrieval.model.encoder import Encoder
Encoder(find_bundle("default"), "cpu").load()
"""


def machine() -> dict[str, Any]:
    """Return the platform, the processor and the number of cores."""
    return {"platform": platform.platform(), "processor": processor(), "cores": cores()}


def processor() -> str:
    """Return the processor's name, if the system knows it."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text("utf-8").splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def cores() -> int:
    """How many this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def versions(*packages: str) -> dict[str, str]:
    """Python's, and those of these packages."""
    return {"python": platform.python_version(), **{name: version(name) for name in packages}}


def peak_bytes() -> int:
    """Return the peak memory of this process in bytes.

    Linux's own figure where there is one: what getrusage tells of a process begins with what its parent held.
    """
    status = Path("/proc/self/status")
    lines = status.read_text("utf-8").splitlines() if status.exists() else []
    held = [int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM")]
    if held:
        return held[0]
    import resource

    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024


def process_seconds(command: Sequence[str]) -> float:
    """Of one process, from its start to its end."""
    started = time.perf_counter()
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True, env=ENVIRONMENT)
    return time.perf_counter() - started


def python(script: str) -> list[str]:
    """Return the command that runs a script of `support`; run it in `ENVIRONMENT`."""
    return [sys.executable, "-m", f"support.{script}"]


def child(script: str, *arguments: str | Path) -> dict[str, Any]:
    """Return the JSON that a script of `support` prints, with `process`: the seconds of its whole process."""
    started = time.perf_counter()
    command = [*python(script), *(os.fspath(each) for each in arguments)]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, env=ENVIRONMENT)
    output: dict[str, Any] = json.loads(done.stdout)
    return output | {"process": time.perf_counter() - started}


def prepare() -> None:
    """Convert the default model's network in a process of its own, so that no measured one does."""
    process_seconds([sys.executable, "-c", _PREPARE])


def in_turn(runs: Mapping[str, Callable[[], T]], rounds: int) -> dict[str, list[T]]:
    """Run each in turn, round after round, so that a slow phase of the machine affects all of them."""
    samples: dict[str, list[T]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            samples[name].append(run())
    return samples


def timed(run: Callable[[], object]) -> float:
    """Return the seconds that a call takes."""
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


def medians(samples: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """Of each one's samples."""
    return {name: median(taken) for name, taken in samples.items()}


def facts(result: Mapping[str, Any]) -> list[str]:
    """Return the machine and the set-up, line by line."""
    return [f"{name}: {value}" for part in ("machine", "setup") for name, value in result[part].items()]


def sample_lines(samples: Mapping[str, Sequence[float]], unit: str = "s", factor: float = 1) -> list[str]:
    """Each one's median and samples, line by line; `factor` brings them to the unit."""
    return [
        f"{name}: median {median(taken) * factor:.3f} {unit} of " + " ".join(f"{each * factor:.3f}" for each in taken)
        for name, taken in samples.items()
    ]


def write(result: Mapping[str, Any], file: Path | None) -> None:
    """All of it, for machines, where a file is named."""
    if file:
        file.write_text(json.dumps(result, indent=1) + "\n", "utf-8")
