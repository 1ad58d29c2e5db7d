"""The package on a system that lacks what only POSIX systems have, such as Windows."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

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
    delattr(owner, name)
failed = []
for package in ("indexes", "retrieval"):
    for module in pkgutil.walk_packages([package], f"{package}."):
        try:
            importlib.import_module(module.name)
        except ImportError as error:
            if error.name not in OPTIONAL:
                failed.append(f"{module.name}: {error}")
        except AttributeError as error:
            failed.append(f"{module.name}: {error}")
print("\\n".join(failed), end="")
"""
_OPTIONAL = ["ray", "pymilvus", "milvus_lite", "psycopg", "s3fs", "sklearn", "skimage"]


@pytest.mark.slow
def test_every_module_can_be_imported_without_posix_modules() -> None:
    script = f"OPTIONAL = {_OPTIONAL!r}\n{_IMPORT_ALL}"
    process = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert process.returncode == 0, process.stderr
    assert process.stdout == ""
