"""How long `retrieve --help` takes, beside `import torch` alone: run in turn, after a warm-up of each.

The seconds are this machine's of the day; the ratio is what compares.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

from support.machine import RETRIEVE, facts, in_turn, machine, medians, process_seconds, sample_lines, versions, write

RUNS = 9
HELP = "retrieve --help"
TORCH = 'python -c "import torch"'
COMMANDS = {
    HELP: [*RETRIEVE, "--help"],
    TORCH: [sys.executable, "-c", "import torch"],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path, help="of pictures, as the other benchmarks take; not looked at")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all of it there, for machines")
    chosen = parser.parse_args()
    result = measure()
    print(report(result))
    write(result, chosen.json)


def measure(runs: int = RUNS) -> dict[str, Any]:
    """Return the machine, the set-up, every sample in seconds, and the ratio of the medians."""
    runs_of = {name: lambda command=command: process_seconds(command) for name, command in COMMANDS.items()}
    in_turn(runs_of, 1)
    samples = in_turn(runs_of, runs)
    middle = medians(samples)
    return {
        "machine": machine(),
        "setup": {
            **versions("torch", "typer"),
            "warm_ups": 1,
            "runs": runs,
            "order": "in turn",
        },
        "seconds": samples,
        "medians": middle,
        "ratio": middle[HELP] / middle[TORCH],
    }


def report(result: dict[str, Any]) -> str:
    """Return the result as text."""
    ratio = f"ratio of the medians: {result['ratio']:.3f}"
    return "\n".join([*facts(result), *sample_lines(result["seconds"]), ratio])


if __name__ == "__main__":
    main()
