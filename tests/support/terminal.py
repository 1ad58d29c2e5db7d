"""Run a command in a terminal."""

import os
import subprocess
from pathlib import Path

from tests.support.command import RETRIEVE, environment


def on_a_terminal(*arguments: str | Path, **extra: str) -> bytes:
    """Return all that a command writes to a terminal; it must succeed."""
    import pty  # which Windows lacks

    ours, theirs = pty.openpty()
    command = [*RETRIEVE, *(str(argument) for argument in arguments)]
    settings = environment({"TERM": "xterm-256color"} | extra)
    process = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=settings)
    os.close(theirs)
    written = b""
    while True:
        try:
            part = os.read(ours, 65536)
        except OSError:  # Linux's way to say that the other end is closed
            break
        if not part:
            break
        written += part
    os.close(ours)
    assert process.wait() == 0, written
    return written
