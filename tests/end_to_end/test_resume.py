"""Tests that `retrieve train`, killed at random moments, ends with the weights of an undisturbed run, byte for byte."""

import os
import random
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

pytest.importorskip("torch")
import torch
from safetensors.torch import save_file

from retrieval.datasets.class_folders import find_samples
from retrieval.datasets.split import Split
from tests.support.command import RETRIEVE, environment
from tests.support.forked import forked
from tests.support.generated import make_set

_KILLS = 3
_OPTIONS = {"thawed": ["--epochs", "3"], "head": ["--no-thaw", "--epochs", "8"]}


@dataclass(frozen=True)
class Calm:
    """An undisturbed run: its arguments without --out, its bundle, and the seconds until its work started and ended."""

    command: list[str]
    bundle: Path
    started_after: float
    seconds: float

    def start(self, out: Path, *options: str) -> subprocess.Popen[bytes]:
        """Start the same training into another folder, as the leader of its own process group, as a terminal does."""
        return subprocess.Popen(
            [*RETRIEVE, *self.command, "--out", os.fspath(out), *options],
            env=environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )

    def resume(self, out: Path, seconds: float | None = None) -> bool:
        """Go on in a forked process, and kill it after so many seconds; whether it had ended, which must be well."""
        output = out.with_suffix(".txt")
        process = forked(*self.command, "--out", out, "--resume", output=output)
        process.join(seconds)
        ended = process.exitcode is not None
        process.kill()
        process.join()
        assert not ended or process.exitcode == 0, output.read_text("utf-8")
        return ended

    def expect(self, out: Path) -> None:
        """Check that the bundle in this folder equals that of the undisturbed run."""
        assert {path.name for path in out.iterdir() if not path.name.startswith(".")} == {
            path.name for path in self.bundle.iterdir()
        }
        for name in ("weights.safetensors", "split.json"):
            assert (out / name).read_bytes() == (self.bundle / name).read_bytes(), name


@pytest.fixture(scope="module")
def command(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Return a training of timm's smallest network, its weights from a file, on 48 pictures of four classes."""
    import timm

    folder = tmp_path_factory.mktemp("resume")
    dataset = make_set(folder / "set", 4, 12)
    kept = tuple(sample.hash for sample in find_samples(dataset).samples if int(sample.path.stem) < 3)
    # No test part, as measuring takes time.
    Split("own", 0, {"train": (), "validation": kept, "test": ()}).write(dataset)
    torch.manual_seed(8)
    weights = folder / "weights.safetensors"
    save_file(timm.create_model("test_resnet", num_classes=0).state_dict(), weights)
    return ["train", str(dataset), "--backbone", "test_resnet", "--weights", str(weights), "--seed", "3"]


@pytest.fixture(scope="module", params=_OPTIONS)
def calm(request: pytest.FixtureRequest, command: list[str], tmp_path_factory: pytest.TempPathFactory) -> Calm:
    folder = tmp_path_factory.mktemp("calm")
    out, command = folder / "model", [*command, *_OPTIONS[request.param]]
    forked("--version", output=folder / "version.txt").join()  # the first waits until torch is imported
    started = time.perf_counter()
    process = forked(*command, "--out", out, output=folder / "output.txt")
    while process.is_alive() and not (out / "training").exists():
        time.sleep(0.01)
    started_after = time.perf_counter() - started
    process.join()
    assert process.exitcode == 0, (folder / "output.txt").read_text("utf-8")
    return Calm(command, out, started_after, time.perf_counter() - started)


def test_a_training_killed_at_random_moments_ends_with_the_same_weights(calm: Calm, tmp_path: Path) -> None:
    chance, seconds = random.Random(4), calm.seconds
    kills, number = 0, 0
    while kills < _KILLS:
        share, started = chance.uniform(calm.started_after / calm.seconds, 1), time.perf_counter()
        if not calm.resume(tmp_path / str(number), share * seconds):
            kills += 1
        else:
            seconds = min(seconds, time.perf_counter() - started)  # the undisturbed run may have had to wait for others
            calm.expect(tmp_path / str(number))
            number += 1
    assert calm.resume(tmp_path / str(number))
    calm.expect(tmp_path / str(number))


@pytest.mark.parametrize("calm", ["thawed"], indirect=True)
def test_an_interrupt_is_one_line_and_the_training_resumes_later(calm: Calm, tmp_path: Path) -> None:
    """Ctrl-C reaches every process of the group, but only the command itself may print anything."""
    for attempt in range(10):  # a run may end before the signal reaches it
        out = tmp_path / str(attempt)
        process = calm.start(out)
        while process.poll() is None and not (out / "metrics.jsonl").exists():
            time.sleep(0.005)
        os.killpg(process.pid, signal.SIGINT)
        output, errors = process.communicate()
        if process.returncode != 0:
            break
    assert process.returncode == 130, errors.decode()
    *about_data, last = errors.decode().splitlines()
    assert last.startswith("error: interrupted")
    first, *others = about_data  # the data set and its parts, and nothing else
    assert first.endswith(" test pictures"), errors.decode()
    assert others == [
        "the parts are those of the data set's own split.json",
        "too few pictures to be measured on: c0, c1, c2, c3",
    ]
    assert not output
    process = calm.start(out, "--resume")
    _, errors = process.communicate()
    assert process.returncode == 0, errors.decode()
    calm.expect(out)
