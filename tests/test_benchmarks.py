"""The benchmarks run and tell every sample."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from statistics import median

from tests.command import PROJECT, environment


def test_the_start_is_measured_beside_torch() -> None:
    command = [sys.executable, "-c", "import json, startup; print(json.dumps(startup.measure(3)))"]
    done = subprocess.run(command, cwd=PROJECT / "benchmarks", capture_output=True, check=True)
    told = json.loads(done.stdout)
    ours, torchs = told["seconds"].values()
    assert len(ours) == len(torchs) == 3
    assert told["ratio"] == median(ours) / median(torchs)
    assert {"machine", "setup", "medians"} < told.keys()


def test_an_epoch_is_measured_beside_the_papers(tmp_path: Path) -> None:
    script, written = str(PROJECT / "benchmarks" / "training.py"), str(tmp_path / "result.json")
    command = [sys.executable, script, "--pictures", "6", "--rounds", "2", "--json", written]
    done = subprocess.run(command, capture_output=True, check=True, env=environment({"PYTHONPATH": str(PROJECT)}))
    told = json.loads((tmp_path / "result.json").read_text("utf-8"))
    ours, papers = told["seconds"].values()
    assert len(ours) == len(papers) == 2
    assert told["ratio"] == median(papers) / median(ours)
    assert told["setup"]["pictures"] == 6
    assert f"an epoch of the paper's takes {told['ratio']:.2f} times as long" in done.stdout.decode()
