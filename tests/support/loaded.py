"""The modules that a command loads."""

import os
import subprocess
import sys
from pathlib import Path

from tests.support.command import PROJECT, environment

_DRIVER = """
import sys
import cli
try:
    cli.app(sys.argv[1:], standalone_mode=False)
finally:
    sys.stderr.write(" ".join(sys.modules))
"""


def loaded(*arguments: str | Path) -> set[str]:
    """Return the names of the modules in memory after a successful command."""
    done = subprocess.run(
        [sys.executable, "-c", _DRIVER, *(str(argument) for argument in arguments)],
        env=environment({"PYTHONPATH": os.fspath(PROJECT)}),
        capture_output=True,
        text=True,
        check=True,
    )
    return set(done.stderr.split())
