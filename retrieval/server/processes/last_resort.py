"""The process that kills a server some seconds after a stop signal, if it has not ended by then.

It is run as a file, by itself. Arguments: the server's process id, the seconds, and the signals' numbers. The system
writes each signal that the server gets to standard input, which ends with the server.
"""

import os
import select
import signal
import sys
import time


def main() -> None:
    """Wait for the server's end; kill it once it is overdue."""
    for each in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
        signal.signal(each, signal.SIG_IGN)
    server, seconds, numbers = int(sys.argv[1]), float(sys.argv[2]), {int(each) for each in sys.argv[3].split(",")}
    deadline: float | None = None
    while True:
        left = None if deadline is None else max(0.0, deadline - time.monotonic())
        if not select.select([0], [], [], left)[0]:
            if os.getppid() == server:
                os.kill(server, signal.SIGKILL)
            return
        received = os.read(0, 4096)
        if not received:
            return
        if deadline is None and numbers & set(received):
            deadline = time.monotonic() + seconds


if __name__ == "__main__":
    main()
