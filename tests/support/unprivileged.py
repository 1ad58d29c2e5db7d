"""Run a piece of Python as a process that file permissions bind, also where the tests run as root."""

import ctypes
import os
import subprocess
import sys
from pathlib import Path

import pytest

_PR_CAPBSET_DROP = 24
_CAP_DAC_OVERRIDE, _CAP_DAC_READ_SEARCH = 1, 2
_PROJECT = Path(__file__).parents[2]
_PROBE = "import os, sys; sys.exit(os.access(sys.argv[1], os.R_OK))"


def _drop_capabilities() -> None:
    """Give up root's right to pass by permissions; it takes effect at the exec that follows."""
    if os.geteuid() != 0:
        return
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    for capability in (_CAP_DAC_OVERRIDE, _CAP_DAC_READ_SEARCH):
        if prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), "capabilities cannot be dropped")


def run_unprivileged(code: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run `code` with these arguments in `sys.argv[1:]`, bound by the permissions of files."""
    command = [sys.executable, "-c", code, *(str(argument) for argument in arguments)]
    environment = os.environ | {"PYTHONPATH": os.fspath(_PROJECT)}
    return subprocess.run(
        command, preexec_fn=_drop_capabilities, env=environment, capture_output=True, text=True, check=False
    )


def permissions_bind(folder: Path) -> bool:
    """Whether a file of mode 000 in `folder` is closed to a process of `run_unprivileged`."""
    probe = folder / "permission-probe"
    probe.touch()
    probe.chmod(0)
    try:
        return run_unprivileged(_PROBE, probe).returncode == 0
    except subprocess.SubprocessError:
        return False
    finally:
        probe.unlink()


def require_binding_permissions(folder: Path) -> None:
    """Skip the test where permissions cannot be made to bind."""
    if not permissions_bind(folder):
        pytest.skip("file permissions do not bind the user that runs the tests")
