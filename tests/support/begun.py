"""What a process that is to be interrupted has begun and committed."""

import os
import subprocess
import sys
from pathlib import Path

from indexes.catalogue.catalogue import Catalogue
from indexes.errors import StoreError
from tests.support.command import PROJECT, RETRIEVE, environment

_IMPATIENT = """
import cli
import indexes.catalogue.database.base
indexes.catalogue.database.base.LOST_RETRY_SECONDS = 2.0
cli.main()
"""


def committed(store: Path) -> int:
    """How many pictures a store has, also while it is being made."""
    try:
        catalogue = Catalogue(store)
        found = catalogue.pictures.count()
        catalogue.close()
        return found
    except StoreError:
        return 0


def begun(*arguments: str | Path, impatient: bool = False) -> subprocess.Popen[bytes]:
    """Start a command; an impatient one gives up a lost server soon."""
    start = [sys.executable, "-c", _IMPATIENT] if impatient else RETRIEVE
    command = [*start, *(os.fspath(argument) for argument in arguments)]
    environs = environment({"PYTHONPATH": os.fspath(PROJECT)})
    return subprocess.Popen(command, env=environs, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
