"""The wheel: what it holds, and the main job with it alone, in an environment and a folder elsewhere."""

import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.support.command import PROJECT, environment
from tests.support.main_job import do_main_job

pytest.importorskip("setuptools", "77", reason="builds a wheel without the network: pip install 'setuptools>=77'")
pytestmark = [pytest.mark.process, pytest.mark.slow]

_SOURCES = ("pyproject.toml", "README.md", "LICENSE", "cli.py")
_PACKAGES = ("retrieval", "indexes")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel from a copy of the checkout, as a build leaves files beside the sources."""
    folder = tmp_path_factory.mktemp("wheel")
    for name in _SOURCES:
        (folder / "sources").mkdir(exist_ok=True)
        shutil.copy(PROJECT / name, folder / "sources")
    for name in _PACKAGES:
        shutil.copytree(PROJECT / name, folder / "sources" / name, ignore=shutil.ignore_patterns("__pycache__"))
    _run([*_pip(), "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", folder, folder / "sources"])
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install the wheel into an environment of its own; what it needs comes from this one. Return its `retrieve`."""
    folder = tmp_path_factory.mktemp("environment")
    _run([sys.executable, "-m", "venv", "--without-pip", folder])
    scripts = folder / ("Scripts" if os.name == "nt" else "bin")
    # Where the tests' own folder has been installed from, pip takes that for this wheel.
    _run([*_pip(), "--python", scripts / "python", "install", "--no-deps", "--ignore-installed", wheel])
    (site,) = {found.parent for found in folder.rglob("retrieval") if found.parent.name == "site-packages"}
    needed = [path for path in sys.path if Path(path).name in ("site-packages", "dist-packages")]
    (site / "needed.pth").write_text("\n".join(needed), "utf-8")
    return scripts / "retrieve"


def _pip() -> list[str | Path]:
    return [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]


def _run(command: Sequence[str | Path], **extra: str) -> str:
    done = subprocess.run(command, env=environment(extra), capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode()


def test_the_wheel_holds_two_packages_with_their_files(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.partition("/")[0] for name in names}
    assert tops == {"retrieval", "indexes", f"{'-'.join(wheel.name.split('-')[:2])}.dist-info"}
    for package in _PACKAGES:
        files = [file for file in (PROJECT / package).rglob("*") if file.is_file() and file.suffix != ".pyc"]
        assert {file.relative_to(PROJECT).as_posix() for file in files} <= set(names)
    assert "retrieval/model/bundles/default/network.onnx" in names


def test_the_main_job_with_the_wheel(installed: Path, tmp_path: Path) -> None:
    (tmp_path / "cli.py").write_text("raise SystemExit('this is a file of another program')")
    where = "import indexes, retrieval; print(indexes.__file__, retrieval.__file__, sep='\\n')"
    for name in _run([installed.with_name("python"), "-P", "-c", where], PYTHONPATH="").splitlines():
        assert installed.parents[1] in Path(name).parents
    do_main_job([os.fspath(installed)], tmp_path, PYTHONPATH=".")
