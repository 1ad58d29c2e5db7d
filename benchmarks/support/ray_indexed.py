"""`ray_indexed.py GALLERY STORE ADDRESS`: indexing by one worker on a Ray cluster, or on one of its own (`local`).

It prints JSON: the seconds of connecting (with Ray's imports) and of `engine.index`, and how many pictures were added
and how many of them went through the network.
"""

import json
import os
import sys
import time

from retrieval.common.settings import IndexingBackend
from retrieval.engine import Engine


def main() -> None:
    place, store, address = sys.argv[1:]
    os.environ["RAY_ADDRESS"] = address
    engine = Engine.create(store, device="cpu", embeds_locally=False)
    started = time.perf_counter()
    from retrieval.store.indexing.ray.cluster import cluster_connection

    with cluster_connection():
        connecting = time.perf_counter() - started
        report = engine.index(place, backend=IndexingBackend.ray, workers=1)
        seconds = time.perf_counter() - started - connecting
    engine.close()
    counts = {"pictures": report.added, "embedded": report.embedded}
    print(json.dumps({"connecting": connecting, "seconds": seconds, **counts}))


if __name__ == "__main__":
    main()
