"""`indexed.py GALLERY STORE`: our side of the comparison, in a process of its own.

It prints JSON: the seconds of `engine.index` once the model is loaded, how many pictures were added and how many of
them went through the network, and the process's peak memory.
"""

import json
import sys
import time

from retrieval.engine import Engine
from support.machine import peak_bytes


def main() -> None:
    gallery, store = sys.argv[1:]
    engine = Engine.create(store, device="cpu")
    engine.load()
    started = time.perf_counter()
    report = engine.index(gallery)
    seconds = time.perf_counter() - started
    engine.close()
    counts = {"pictures": report.added, "embedded": report.embedded}
    print(json.dumps({"seconds": seconds, **counts, "peak": peak_bytes()}))


if __name__ == "__main__":
    main()
