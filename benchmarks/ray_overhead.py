"""What Ray costs on one machine: indexing by one worker of a Ray cluster beside indexing as ever.

Each round runs, one after the other, each in a new process and into a new store: our `engine.index` on this machine,
the same on a Ray cluster that runs already, of one worker with all cores, and on one that the run starts for itself.
The first is timed from the loaded model, as benchmarks/indexing.py does; on Ray the time of indexing has in it the
start of the worker, its imports and its model. Connecting to Ray, or starting it, is reported separately. `process` is
the whole process, with all of it. Files are in the page cache, networks prepared before.

The seconds are this machine's of the day; the ratios are what compares.
"""

import argparse
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ray
from ray.cluster_utils import Cluster
from support.galleries import gallery, pictures, warm
from support.machine import child, cores, facts, in_turn, machine, medians, prepare, sample_lines, versions, write

from retrieval.store.indexing.ray.messages import BLOCK_SIZE

PICTURES = 5_000
ROUNDS = 3
PLAIN = "without Ray"
RUNNING = "Ray that runs"
STARTED = "Ray that is started"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path, help="a folder of pictures; else they are generated")
    parser.add_argument("--pictures", type=int, default=PICTURES, help=f"to generate [default: {PICTURES}]")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help=f"runs of each [default: {ROUNDS}]")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all of it there, for machines")
    chosen = parser.parse_args()
    result = measure(chosen.folder, chosen.pictures, chosen.rounds)
    print(report(result))
    write(result, chosen.json)


def measure(folder: Path | None, generated: int = PICTURES, rounds: int = ROUNDS) -> dict[str, Any]:
    """Return the machine, the set-up, every sample, the medians, and each one's ratio to a run without Ray."""
    load = os.getloadavg()
    with gallery(folder, generated) as place, _cluster() as address:
        prepare()
        size, count = warm(place), len(pictures(place))
        runs = in_turn(
            {
                PLAIN: lambda: _indexed("indexed", place, None),
                RUNNING: lambda: _indexed("ray_indexed", place, address),
                STARTED: lambda: _indexed("ray_indexed", place, "local"),
            },
            rounds,
        )
    seconds = {name: [run["seconds"] for run in taken] for name, taken in runs.items()}
    processes = {name: [run["process"] for run in taken] for name, taken in runs.items()}
    connecting = {name: [run["connecting"] for run in runs[name]] for name in (RUNNING, STARTED)}
    middle, whole = medians(seconds), medians(processes)
    setup = versions("ray", "openvino", "pillow") | {
        "pictures": count,
        "bytes a picture": size // count,
        "embedded": {name: [run["embedded"] for run in taken] for name, taken in runs.items()},
        "one worker": f"{cores()} cores, {BLOCK_SIZE} files a block",
        "rounds": rounds,
        "order": "in turn, each in a new process",
        "load before": load,
    }
    return {
        "machine": machine(),
        "setup": setup,
        "seconds": seconds,
        "connecting_seconds": connecting,
        "process_seconds": processes,
        "medians": middle,
        "ratios": {name: middle[name] / middle[PLAIN] for name in (RUNNING, STARTED)},
        "process_ratios": {name: whole[name] / whole[PLAIN] for name in (RUNNING, STARTED)},
    }


def report(result: dict[str, Any]) -> str:
    """Return the result as text."""
    ratios = [
        f"{name}: {result['ratios'][name]:.2f} times the seconds of indexing,"
        f" {result['process_ratios'][name]:.2f} times those of the whole process"
        for name in result["ratios"]
    ]
    return "\n".join(
        [
            *facts(result),
            *sample_lines(result["seconds"]),
            *[f"connecting, {line}" for line in sample_lines(result["connecting_seconds"])],
            *[f"whole process, {line}" for line in sample_lines(result["process_seconds"])],
            *ratios,
        ]
    )


@contextmanager
def _cluster() -> Iterator[str]:
    """Start a cluster of one node with this machine's cores and yield its address."""
    temporary = tempfile.mkdtemp(prefix="ray-", dir="/tmp")  # its sockets' names must be short
    before = os.environ.get("RAY_TMPDIR")
    os.environ |= {"RAY_TMPDIR": temporary, "RAY_USAGE_STATS_ENABLED": "0"}
    cluster = Cluster(True, head_node_args={"num_cpus": cores(), "include_dashboard": False})
    try:
        yield cluster.address
    finally:
        cluster.shutdown()
        ray.shutdown()
        os.environ.pop("RAY_TMPDIR")
        if before is not None:
            os.environ["RAY_TMPDIR"] = before
        shutil.rmtree(temporary, ignore_errors=True)


def _indexed(script: str, place: Path, address: str | None) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as work:
        return child(script, place, Path(work, "store"), *([] if address is None else [address]))


if __name__ == "__main__":
    main()
