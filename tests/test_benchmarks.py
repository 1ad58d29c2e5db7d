"""The benchmarks run and tell every sample."""

from __future__ import annotations

import json
import subprocess
import sys
from statistics import median

from tests.command import PROJECT


def test_the_start_is_measured_beside_torch() -> None:
    command = [sys.executable, "-c", "import json, startup; print(json.dumps(startup.measure(3)))"]
    done = subprocess.run(command, cwd=PROJECT / "benchmarks", capture_output=True, check=True)
    told = json.loads(done.stdout)
    ours, torchs = told["seconds"].values()
    assert len(ours) == len(torchs) == 3
    assert told["ratio"] == median(ours) / median(torchs)
    assert {"machine", "setup", "medians"} < told.keys()
