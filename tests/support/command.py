"""Run a command the way a person does: as a process of its own."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from typer.testing import CliRunner

import cli

PROJECT = Path(__file__).parents[2]
RETRIEVE = [sys.executable, os.fspath(PROJECT / "cli.py")]


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the tests' environment: a terminal wide enough for every table, and nothing chosen by the user."""
    kept = {name: value for name, value in os.environ.items() if name != "RETRIEVE_STORE"}
    return kept | {"COLUMNS": "200", "NO_COLOR": "1", "RETRIEVE_CONFIG": os.devnull, **(extra or {})}


def retrieve(
    *arguments: str | Path | bytes, stdin: bytes | None = None, cwd: Path | None = None, **extra: str
) -> subprocess.CompletedProcess[bytes]:
    """`retrieve` with these arguments; `extra` goes into its environment."""
    command = [*map(os.fsencode, RETRIEVE), *map(os.fsencode, arguments)]
    return subprocess.run(command, input=stdin, cwd=cwd, env=environment(extra), capture_output=True, check=False)


def retrieve_here(*arguments: str | Path) -> subprocess.CompletedProcess[bytes]:
    """Run a command in this process: for many calls that do not test the start of a process."""
    extra = {"COLUMNS": "200", "NO_COLOR": "1", "RETRIEVE_STORE": None, "RETRIEVE_CONFIG": os.devnull}
    done = CliRunner().invoke(cli.app, [os.fspath(each) for each in arguments], env=extra)
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return subprocess.CompletedProcess(arguments, done.exit_code, done.stdout_bytes, done.stderr_bytes)


def answer(*arguments: str | Path | bytes, stdin: bytes | None = None, cwd: Path | None = None, **extra: str) -> Any:
    """Return the JSON that a command prints; it must succeed."""
    done = retrieve(*arguments, "--json", stdin=stdin, cwd=cwd, **extra)
    assert done.returncode == 0, done.stderr.decode()
    return json.loads(done.stdout)


def sentence(done: subprocess.CompletedProcess[bytes] | subprocess.CompletedProcess[str]) -> str:
    """Return the message of a failed command; it must be one sentence on one line and nothing else."""
    said = done.stderr.decode() if isinstance(done.stderr, bytes) else done.stderr
    assert done.returncode == 1, said
    assert not done.stdout
    assert "Traceback" not in said
    first, *rest = said.removesuffix("\n").split("\n")
    assert rest == []
    assert first.startswith("error: ")
    return first.removeprefix("error: ")
