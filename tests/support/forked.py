"""`retrieve` in processes that begin with torch imported: forked from one that has done nothing else."""

import multiprocessing
import os
import sys
from collections.abc import Mapping
from multiprocessing.process import BaseProcess
from pathlib import Path

import cli
from tests.support.command import environment


def forked(*arguments: str | Path, output: Path) -> BaseProcess:
    """Start a command whose output goes to a file: for tests of many that train, not of their start."""
    server = multiprocessing.get_context("forkserver")
    server.set_forkserver_preload(
        ["tests.support.forked", "retrieval.training.train_bundle", "retrieval.training.logs"]
    )
    process = server.Process(target=_run, args=([os.fspath(each) for each in arguments], environment(), output))
    process.start()
    return process


def _run(arguments: list[str], environs: Mapping[str, str], output: Path) -> None:
    os.environ.update(environs)
    sys.argv = ["retrieve", *arguments]
    with output.open("wb") as file:
        for stream in (sys.stdout, sys.stderr):
            os.dup2(file.fileno(), stream.fileno())
    cli.main()
