"""How long `retrieve --help` takes, beside `import torch` alone: run in turn, after a warm-up of each.

The seconds are this machine's of the day; the ratio is what compares.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

RUNS = 9
HELP = "retrieve --help"
TORCH = 'python -c "import torch"'
COMMANDS = {
    HELP: [sys.executable, os.fspath(Path(__file__).resolve().parent.parent / "cli.py"), "--help"],
    TORCH: [sys.executable, "-c", "import torch"],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print JSON for machines")
    as_json = parser.parse_args().json
    result = measure()
    print(json.dumps(result) if as_json else told(result))


def measure(runs: int = RUNS) -> dict[str, Any]:
    """The machine, the set-up, every sample in seconds, and the ratio of the medians."""
    for command in COMMANDS.values():
        seconds(command)
    samples: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for _ in range(runs):
        for name, command in COMMANDS.items():
            samples[name].append(seconds(command))
    medians = {name: median(taken) for name, taken in samples.items()}
    return {
        "machine": {"platform": platform.platform(), "processor": processor(), "cores": os.cpu_count()},
        "setup": {
            "python": platform.python_version(),
            "torch": version("torch"),
            "typer": version("typer"),
            "warm_ups": 1,
            "runs": runs,
            "order": "in turn",
        },
        "seconds": samples,
        "medians": medians,
        "ratio": medians[HELP] / medians[TORCH],
    }


def seconds(command: list[str]) -> float:
    """Of one process, from its start to its end."""
    started = time.perf_counter()
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - started


def processor() -> str:
    """The processor's name, where the system tells it."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text("utf-8").splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def told(result: dict[str, Any]) -> str:
    """The same for people."""
    facts = [f"{name}: {value}" for part in ("machine", "setup") for name, value in result[part].items()]
    lines = [
        f"{name}: median {result['medians'][name]:.3f} s of " + " ".join(f"{each:.3f}" for each in taken)
        for name, taken in result["seconds"].items()
    ]
    return "\n".join([*facts, *lines, f"ratio of the medians: {result['ratio']:.3f}"])


if __name__ == "__main__":
    main()
