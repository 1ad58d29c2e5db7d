"""`asked.py STORE QUERIES.npy`: ask a store with descriptors (Q, C), one after the other, in a process of its own.

It prints JSON: each query's seconds in the index and in the head's rescoring, what memory the process held before and
after the index was opened and asked, the pool and the ten best hits of each. Started with one thread, it runs on one.
"""

from __future__ import annotations

import json
import sys
import time
from itertools import islice
from pathlib import Path

import faiss
import numpy as np

from indexes.base import NONE
from indexes.catalogue import Catalogue
from retrieval.bundle import find_bundle
from retrieval.search import rescored
from retrieval.settings import POOL
from retrieval.upkeep import open_index

TOP = 10


def main() -> None:
    store, file = sys.argv[1:]
    queries = np.load(file)
    catalogue, bundle = Catalogue(Path(store)), find_bundle("default")
    head, fingerprint = bundle.head, bundle.fingerprint
    before = held()
    index = open_index(catalogue, fingerprint)
    seconds: dict[str, list[float]] = {"search": [], "rescore": []}
    pools, best = [], []
    for query in queries:
        started = time.perf_counter()
        ids = index.search(query[None], POOL)[1][0]
        searched = time.perf_counter()
        ranking = rescored(catalogue, head, fingerprint, query, ids[ids != NONE])
        hits = list(islice(ranking.hits(catalogue), TOP))
        seconds["search"].append(searched - started)
        seconds["rescore"].append(time.perf_counter() - searched)
        pools.append(ids.tolist())
        best.append([int(hit.path.stem) for hit in hits])
    after = held()
    print(
        json.dumps(
            {
                "kind": index.kind,
                "probes": index.probes,
                "threads": faiss.omp_get_max_threads(),
                "pictures": len(index),
                "before": before,
                "after": after,
                "seconds": seconds,
                "pools": pools,
                "best": best,
            }
        )
    )


def held() -> int:
    """What memory the process holds now, files that are mapped included (bytes; Linux)."""
    lines = Path("/proc/self/status").read_text("utf-8").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS"))


if __name__ == "__main__":
    main()
