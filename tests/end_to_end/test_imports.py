"""What a command loads: starting is quick because most of it is not needed."""

import subprocess
import sys
from pathlib import Path

from tests.support.command import PROJECT
from tests.support.labelled import a_catalogue, classes
from tests.support.loaded import loaded
from tests.support.store import Indexed


def test_help_loads_nothing_heavy() -> None:
    heavy = {"torch", "torchvision", "openvino", "faiss", "sqlalchemy", "PIL", "numpy", "timm", "safetensors", "jinja2"}
    assert not loaded("--help") & heavy
    assert not loaded("query", "--help") & heavy


def test_query_and_index_load_no_torch(indexed: Indexed, tmp_path: Path) -> None:
    query = ("query", indexed.picture, "--store", indexed.store, "--device", "cpu")
    pictures = ("--out", tmp_path / "out", "--html", tmp_path / "page.html")
    for arguments in (
        (*query, "--no-explain"),
        (*query, *pictures),
        ("index", indexed.gallery, "--store", tmp_path / "store", "--device", "cpu"),
    ):
        modules = loaded(*arguments)
        assert {"openvino", "faiss", "sqlalchemy"} <= modules
        assert not modules & {"torch", "torchvision", "timm", "absl", "openvino_telemetry"}  # the last two: conversion
        assert "sqlalchemy.orm" not in modules  # a quarter of SQLAlchemy's time to start
        assert ("jinja2" in modules) == ("--html" in arguments)


def test_a_calibration_and_its_page_load_no_network(tmp_path: Path) -> None:
    a_catalogue(tmp_path / "store", classes(3, 10)).close()
    code = (
        "import sys\nfrom pathlib import Path\nfrom indexes.catalogue.catalogue import Catalogue\n"
        "from retrieval.store.maintenance.calibration import calibrate\n"
        "from retrieval.store.maintenance.calibration_page import calibration_page\n"
        "from tests.support.labelled import a_bundle\nstore = Path(sys.argv[1])\n"
        "calibration_page(store, calibrate(Catalogue(store), a_bundle()))\nprint(*sys.modules)"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "store")]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=True)
    assert not {"torch", "openvino", "torchvision"} & set(done.stdout.split())


def test_status_loads_no_network(indexed: Indexed) -> None:
    assert not loaded("status", "--store", indexed.store) & {"torch", "openvino"}
