"""The package on a system that lacks what only POSIX systems have, such as Windows."""

import ntpath
import os
import subprocess
import sys
from pathlib import Path, PureWindowsPath
from types import SimpleNamespace

import pytest
from PIL import Image

from retrieval.common.errors import RetrievalError
from retrieval.server.config import ServerConfig
from retrieval.server.processes import run
from retrieval.sources import gallery, picture_list, spelling
from retrieval.store import names
from tests.support.command import PROJECT, RETRIEVE, answer
from tests.support.generated import CLASSES, blocks
from tests.support.main_job import do_main_job

_WITHOUT_POSIX = """
import multiprocessing, os, signal, sys

multiprocessing.set_start_method("spawn")
sys.modules.update(dict.fromkeys(("fcntl", "grp", "pwd", "resource", "termios")))
LACKING = {
    os: "chown fork forkpty killpg mkfifo posix_fallocate pread sched_getaffinity setsid O_DIRECTORY O_NOFOLLOW",
    signal: "SIGALRM SIGCHLD SIGHUP SIGKILL SIGQUIT SIGUSR1 SIGUSR2 alarm pthread_sigmask setitimer",
}
for owner, names in LACKING.items():
    for name in names.split():
        if hasattr(owner, name):
            delattr(owner, name)
"""

_IMPORT_ALL = """
import builtins, importlib, os, pkgutil, signal, sys
from contextlib import suppress

for library in ("torch", "timm", "ray", "pymilvus", "milvus_lite"):  # these ask what the system is themselves
    with suppress(ImportError):
        importlib.import_module(library)

HIDDEN = {"fcntl", "grp", "pwd", "resource", "termios"}
real = builtins.__import__

def import_(name, globals=None, locals=None, fromlist=(), level=0):
    importer = (globals or {}).get("__name__", "").partition(".")[0]
    if name in HIDDEN and importer in ("retrieval", "indexes"):
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)
    return real(name, globals, locals, fromlist, level)

builtins.__import__ = import_
for owner, name in ((signal, "SIGHUP"), (signal, "pthread_sigmask"), (os, "getuid"), (os, "sched_getaffinity")):
    if hasattr(owner, name):
        delattr(owner, name)
failed = []
for package in ("indexes", "retrieval"):
    for module in pkgutil.walk_packages([package], f"{package}."):
        try:
            importlib.import_module(module.name)
        except Exception as error:  # what needs Ray says so in a sentence
            if getattr(error.__cause__ or error, "name", None) not in OPTIONAL:
                failed.append(f"{module.name}: {error}")
print("\\n".join(failed), end="")
"""
_OPTIONAL = [
    *("ray", "pymilvus", "milvus_lite", "psycopg", "s3fs", "sklearn", "skimage"),
    *("matplotlib", "onnx", "pytorch_metric_learning", "timm", "torch", "torchvision"),
]


@pytest.mark.slow
def test_every_module_can_be_imported_without_posix_modules() -> None:
    script = f"OPTIONAL = {_OPTIONAL!r}\n{_IMPORT_ALL}"
    process = subprocess.run([sys.executable, "-c", script], cwd=PROJECT, capture_output=True, text=True, timeout=300)
    assert process.returncode == 0, process.stderr
    assert process.stdout == ""


@pytest.fixture(scope="module")
def without_posix(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return a PYTHONPATH that takes away, from the libraries too, what only POSIX systems have."""
    folder = tmp_path_factory.mktemp("without-posix")
    (folder / "sitecustomize.py").write_text(_WITHOUT_POSIX)
    return str(folder)


@pytest.mark.process
@pytest.mark.slow
def test_the_main_job_without_posix_modules(without_posix: str, tmp_path: Path) -> None:
    do_main_job(RETRIEVE, tmp_path, PYTHONPATH=without_posix)


@pytest.mark.process
@pytest.mark.slow
@pytest.mark.train
@pytest.mark.torch
def test_a_model_is_trained_without_posix_modules(without_posix: str, tmp_path: Path) -> None:
    for number, label in enumerate(CLASSES):
        (tmp_path / "set" / label).mkdir(parents=True)
        for nth in range(10):
            Image.fromarray(blocks(100 * number + nth)).save(tmp_path / "set" / label / f"{nth}.jpg")
    options = ("--no-thaw", "--epochs", "1", "--device", "cpu")
    result = answer("train", "set", "--out", "model", *options, cwd=tmp_path, PYTHONPATH=without_posix)
    assert result["model"]
    assert (tmp_path / "model" / "network.onnx").exists()


@pytest.fixture
def windows(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Have paths understood as Windows does; each is of an existing folder, or of a file if it has a suffix."""

    def stat(path: PureWindowsPath) -> os.stat_result:
        (tmp_path / "file").touch()
        return os.stat(tmp_path / "file" if path.suffix else tmp_path)

    for module in (gallery, picture_list, names, spelling):
        monkeypatch.setattr(module, "Path", PureWindowsPath)
        monkeypatch.setattr(module, "os", SimpleNamespace(**vars(os) | {"path": ntpath, "stat": stat}))


@pytest.mark.usefixtures("windows")
def test_paths_of_windows() -> None:
    for given, kept in (
        ("C:\\My Pictures\\", b"C:/My Pictures"),
        ("C:/My Pictures", b"C:/My Pictures"),
        ("D:\\", b"D:/"),
        ("\\\\server\\share\\a", b"//server/share/a"),
        ("C:\\a\\b.tar", b"tar:C:/a/b.tar"),
        ("C:\\a\\b.txt", b"list:C:/a/b.txt"),
    ):
        assert gallery.resolve_gallery(given) == kept
        assert kept in names.possible_paths(given)
    for line, kept_line in (("b\\c.jpg", "C:/a/b/c.jpg"), ("..\\d.tar", "tar:C:/d.tar"), ("D:\\e.jpg", "D:/e.jpg")):
        assert picture_list._resolve_line("C:/a/list.txt", line) == kept_line


def test_a_server_on_windows_is_one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "IS_WINDOWS", True)
    with pytest.raises(RetrievalError, match="on Windows a server is one process: leave out --processes"):
        run.serve_in_processes(pytest.fail, ServerConfig(processes=2), pytest.fail, pytest.fail)
