"""Run a command the way a person does: as a process of its own, or quicker in this one."""

import gc
import io
import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

import cli
from retrieval.commands.shared.console import stderr, stdout

PROJECT = Path(__file__).parents[2]
RETRIEVE = [sys.executable, os.fspath(PROJECT / "cli.py")]
Runner = Callable[..., subprocess.CompletedProcess[bytes]]


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the tests' environment: a terminal wide enough for every table, and nothing chosen by the user."""
    kept = {name: value for name, value in os.environ.items() if name != "RETRIEVE_STORE"}
    return kept | {"COLUMNS": "200", "NO_COLOR": "1", "RETRIEVE_CONFIG": os.devnull, **(extra or {})}


def retrieve(
    *arguments: str | Path | bytes, stdin: bytes | None = None, cwd: Path | None = None, **extra: str
) -> subprocess.CompletedProcess[bytes]:
    """`retrieve` with these arguments, as a process of its own; `extra` goes into its environment."""
    command = [*map(os.fsencode, RETRIEVE), *map(os.fsencode, arguments)]
    return subprocess.run(command, input=stdin, cwd=cwd, env=environment(extra), capture_output=True, check=False)


def retrieve_here(
    *arguments: str | Path | bytes, stdin: bytes = b"", cwd: Path | None = None, **extra: str
) -> subprocess.CompletedProcess[bytes]:
    """Run the same in this process: for calls that do not test a process, its start and its end."""
    out, err = (io.TextIOWrapper(io.BytesIO(), "utf-8") for _ in range(2))
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("RETRIEVE_STORE", raising=False)
        for name, value in environment(extra).items():
            patch.setenv(name, value)
        patch.chdir(cwd or ".")
        patch.setattr(sys, "argv", ["retrieve", *map(os.fsdecode, arguments)])
        patch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin), "utf-8"))
        patch.setattr(gc, "set_threshold", lambda _: None)  # meant for a process that does nothing else
        patch.setattr(sys, "stdout", out)
        patch.setattr(sys, "stderr", err)
        for console in (stdout, stderr):  # a COLUMNS of the time of their import would hold for good
            patch.setattr(console, "_width", None)
        with pytest.raises(SystemExit) as ended:
            cli.main()
    code = int(ended.value.code or 0)
    return subprocess.CompletedProcess(arguments, code, *(stream.detach().getvalue() for stream in (out, err)))


def answer(*arguments: str | Path | bytes, run: Runner = retrieve_here, **how: Any) -> Any:
    """Return the JSON that a command prints; it must succeed."""
    done = run(*arguments, "--json", **how)
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
