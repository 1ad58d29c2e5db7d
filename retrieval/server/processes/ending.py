"""The end of a server's process, which comes in time whatever its threads do."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Thread

from indexes.atomic_files import IS_WINDOWS
from retrieval.server.processes.signals import STOP_SIGNALS

END_SECONDS = 7.0
"""From a stop signal to the end of the process. Requests get 3 s of them; a decoder may take minutes."""

_KILL_SECONDS = 9.0  # if a decoder keeps Python from running at all, as that of JPEG 2000 does
_HELPER = Path(__file__).with_name("last_resort.py")


def end_soon(clean_up: Callable[[], None]) -> None:
    """End this process in `END_SECONDS`, unless it has ended by then; `clean_up` is called before."""

    def end() -> None:
        time.sleep(END_SECONDS)
        with suppress(Exception):
            clean_up()
        os._exit(0)

    Thread(target=end, name="end", daemon=True).start()


@contextmanager
def killed_in_time() -> Iterator[None]:
    """Have this process killed some seconds after a stop signal, even if Python cannot run.

    The system itself writes each signal's number to a pipe, which a small process reads.
    """
    if IS_WINDOWS:
        yield
        return
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    numbers = ",".join(str(int(each)) for each in STOP_SIGNALS)
    command = [sys.executable, "-I", "-S", str(_HELPER), str(os.getpid()), str(_KILL_SECONDS), numbers]
    with subprocess.Popen(command, stdin=reading, stdout=subprocess.DEVNULL) as helper:
        os.close(reading)
        before = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
        try:
            yield
        finally:
            signal.set_wakeup_fd(before)
            os.close(writing)  # the helper ends
            helper.wait()
