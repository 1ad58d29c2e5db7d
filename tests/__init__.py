"""The tests. A process among several that run them computes with one thread.

Threads that wait for each other spin, which makes all of them several times slower where processes share the cores.
"""

import os

if "PYTEST_XDIST_WORKER" in os.environ:  # before NumPy and torch are imported; what tests start inherits it
    os.environ |= dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
