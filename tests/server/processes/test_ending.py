"""The end of a process that something keeps busy: in a process of its own, as Python itself may not run there."""

import os
import signal
import subprocess
import sys
import time

import pytest

from tests.support.command import environment

pytestmark = [
    pytest.mark.process,
    pytest.mark.skipif(os.name == "nt", reason="Windows has no such signals"),
]

BUSY = {
    "a thread": "import threading; threading.Thread(target=time.sleep, args=(60,)).start()",
    "Python's lock": "sum(range(10**11))",
    "nothing": "",
}
_PROGRAM = """
import signal, sys, time
from retrieval.server.processes import ending
ending.END_SECONDS, ending._KILL_SECONDS = {seconds}
with ending.killed_in_time():
    signal.signal(signal.SIGTERM, lambda *_: (ending.end_soon(lambda: print("cleaned up", flush=True)), sys.exit()))
    print("ready", flush=True)
    {busy}
    time.sleep({sleep})
"""


def end(busy: str, seconds: str = "(0.5, 2)", sleep: int = 60) -> tuple[int | None, str]:
    """Run something, and end it by SIGTERM once it has begun; return its exit code and what it printed."""
    program = _PROGRAM.format(seconds=seconds, busy=BUSY[busy], sleep=sleep)
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, env=environment()) as process:
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == b"ready\n"
            time.sleep(0.2)
            process.send_signal(signal.SIGTERM)
            said = process.communicate(timeout=20)[0]
            return process.returncode, said.decode().strip()
        finally:
            process.kill()


def test_a_thread_that_goes_on_is_left() -> None:
    assert end("a thread") == (0, "cleaned up")


def test_what_keeps_python_from_running_is_killed() -> None:
    assert end("Python's lock") == (-signal.SIGKILL, "")


def test_an_end_in_time_is_as_usual() -> None:
    assert end("nothing") == (0, "")
