"""The core, without the packages of `[train]`: its commands do their work, and the others say what to install."""

import json
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest
from PIL import Image

from tests.support.command import Runner, answer, retrieve, retrieve_here, sentence
from tests.support.generated import CLASSES, blocks
from tests.support.served import served

LACKING = not find_spec("torch")
here = pytest.mark.skipif(not LACKING, reason="torch is installed, and other tests run these commands with it")
pytestmark = pytest.mark.core
PACKAGES = ("matplotlib", "onnx", "pytorch_metric_learning", "timm", "torch", "torchvision")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runner]:
    """Return what runs a command without these packages: here if they are not installed, else where none can be had."""
    if LACKING:
        yield retrieve_here
        return
    folder = tmp_path_factory.mktemp("lacking")
    for name in PACKAGES:
        (folder / f"{name}.py").write_text(f"raise ModuleNotFoundError('No module named {name}', name='{name}')")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(folder))
        yield retrieve


@pytest.fixture(scope="module")
def folder(run: Runner, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a gallery of eight pictures a class, a copy of one of them, and their store."""
    folder = tmp_path_factory.mktemp("core")
    for number, name in enumerate(CLASSES):
        (folder / "gallery" / name).mkdir(parents=True)
        for place in range(8):
            mixed = blocks(100 * number, cells=3) // 2 + blocks(1000 + 10 * number + place, cells=3) // 2
            Image.fromarray(mixed).save(folder / "gallery" / name / f"{place}.png")
    Image.fromarray(blocks(0)).save(folder / "question.png")
    (folder / "gallery" / "copy.png").write_bytes((folder / "gallery" / CLASSES[0] / "0.png").read_bytes())
    found = answer("index", "gallery", cwd=folder, run=run)
    assert (found["added"], found["embedded"], found["failed"]) == (25, 24, 0)
    return folder


@here
@pytest.mark.parametrize(
    ("command", "key"),
    [
        ("query question.png --out hits --html hits.html --verify --correspond", "hits"),
        ("explain question.png gallery/copy.png --method gradcam --out why", "explanation"),
        ("duplicates", "groups"),
        ("calibrate --html sure.html", "calibration"),
        ("evaluate gallery --html how.html", "datasets"),
        ("audit gallery --pairs 8 --html audit.html", "recommendations"),
        ("faithfulness gallery --pairs 2 --method gradcam", "methods"),
        ("status", "galleries"),
        ("models", "models"),
    ],
    ids=lambda value: value.partition(" ")[0],
)
def test_a_command_of_the_core_does_its_work(command: str, key: str, folder: Path, run: Runner) -> None:
    result: dict[str, Any] = answer(*command.split(), cwd=folder, run=run)
    assert result[key]
    for page in (each for each in command.split() if each.endswith(".html")):
        assert "<!doctype html>" in (folder / page).read_text("utf-8").lower()


@here
def test_the_page_is_served(folder: Path) -> None:
    with served(folder / ".retrieve") as address:
        assert b"<html" in urlopen(address).read().lower()
        found = json.load(urlopen(f"{address}api/query?top=3", (folder / "question.png").read_bytes()))
    assert len(found["hits"]) == 3
    assert found["explanations"]


@pytest.mark.parametrize(
    "command",
    ["train gallery --out model", "fit gallery --out model", "sanity gallery", "reproduce flowers --data ."],
    ids=lambda value: value.partition(" ")[0],
)
def test_a_command_that_needs_more_says_what_to_install(command: str, folder: Path, run: Runner) -> None:
    said = sentence(run(*command.split(), cwd=folder))
    assert said.startswith(f"`retrieve {command.partition(' ')[0]}` needs ")
    assert "pip install '.[train]'" in said
    assert not (folder / "model").exists()
